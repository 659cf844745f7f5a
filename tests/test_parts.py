"""Prepared data as a run asks for it, and the checks that know all parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from callbacks.curation_schedule import RoundSpec
from mrm.cli import compose_run_config
from mrm.config import RunConfig
from mrm.curation.rules import Rules
from mrm.errors import ConfigError
from mrm.parts import build_curation, build_module, check


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.datasets.open.options.split=opn"], "options: shapeworld: unknown split 'opn'; known: trusted"),
        (["data.datasets.open.options.count=0"], "count=0 is not at least 1"),
        (["data.datasets.open.options.flip_rate=1.5"], "flip_rate=1.5 is not in [0, 1]"),
        (["data.datasets.open.options.count=many"], "Value 'many'"),
        (["+data.datasets.open.options.overwrite=true"], "shapeworld has no option overwrite; known: split, count"),
        (["+data.datasets.open.options.spilt=open"], "Did you mean 'split'?"),
        (["model.backbone=./nowhere"], "model.backbone: './nowhere': there is no folder"),
        (["model.backbone=a/b/c"], "there is no folder"),
    ],
)
def test_check_part_names_key_and_mend(
    overrides: list[str], expected: str, small_run: Callable[..., RunConfig]
) -> None:
    config = small_run(*overrides)
    for override in overrides:  # `small_run` sets its own count
        if "options.count=" in override:
            config.data.datasets["open"].options["count"] = override.rpartition("=")[2]
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert expected in str(caught.value)


def test_check_backbone_without_config_is_refused(tmp_path: Path, small_run: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match="has no config.json"):
        check(small_run(f"model.backbone={tmp_path}"))


def test_check_backbone_hub_id_is_left_to_loading(small_run: Callable[..., RunConfig]) -> None:
    check(small_run("model.backbone=Qwen/Qwen3-VL-8B-Instruct"))


def test_check_gpu_on_a_machine_without_one_is_refused(
    small_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="trainer.accelerator: gpu: PyTorch finds none"):
        check(small_run("trainer.accelerator=gpu"))


@pytest.mark.parametrize(
    ("cycle", "restart", "starts"),
    [("run", "warm", ()), ("stage", "warm", (1, 2)), ("run", "cold", (1, 2)), ("stage", "cold", (1, 2))],
)
def test_build_module_learning_rate_begins_again_with_each_stage(cycle: str, restart: str, starts: tuple) -> None:
    config = compose_run_config([f"optim.cycle={cycle}", f"curation.restart={restart}"])
    module = build_module(config, SimpleNamespace(test_names=[]))  # type: ignore[arg-type]
    assert module.cycle_starts == starts


def test_build_curation_keys_of_a_round_arrive_and_null_is_the_default() -> None:
    first = "++curation.schedule.0"
    config = compose_run_config(
        [f"{first}.distrust_share=auto", f"{first}.max_flipped=0.4", f"{first}.sources={{a: {{distrust_share: 0.1}}}}"]
    )
    one, two = build_curation(config, Path(config.output_root)).schedule
    assert (one.distrust_share, one.max_flipped, one.sources) == (None, 0.4, {"a": {"distrust_share": 0.1}})
    default = RoundSpec(1, ("score", "filter", "annotate"), dead_zone=3.0)
    assert two == default and default.rules == Rules(dead_zone=3.0)


def test_check_unknown_cycle_is_refused(small_run: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match=r"optim\.cycle='epoch'"):
        check(small_run("optim.cycle=epoch"))
