"""Prepared data as a run asks for it, and the checks that know all parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mrm.cli import compose_run_config
from mrm.config import DatasetConfig, RunConfig
from mrm.errors import ConfigError, UnreadableSamplesError
from mrm.parts import build_module, check, prepare_datasets
from tests.datamodules.sources.helpers import png, write_jsonl


def record(key: str, chosen: str = "yes") -> dict[str, object]:
    return {"key": key, "prompt": f"<image>Q {key}", "images": [f"{key}.png"], "chosen": chosen, "rejected": "no"}


def own_data(tmp_path: Path, **options: object) -> RunConfig:
    config = RunConfig(data_root=str(tmp_path), prepared_root=str(tmp_path / "prepared"))
    config.data.datasets["mine"] = DatasetConfig(source="jsonl", role="open", path="pairs.jsonl", options=dict(options))
    config.trainer.progress = False
    for key in ("a", "b"):
        (tmp_path / f"{key}.png").write_bytes(png())
    return config


def test_prepare_datasets_prints_a_row_a_dataset_also_when_used_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a"), record("b", chosen="")])
    for _ in range(2):
        prepare_datasets(config)
        row = next(line for line in capsys.readouterr().out.splitlines() if "mine" in line)
        assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["mine", "2", "1", "1", "1 empty response"]


def test_prepare_datasets_folder_of_shards_tells_what_was_told_when_it_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a")])
    (spec,) = prepare_datasets(config)
    capsys.readouterr()
    config.data.datasets["mine"] = DatasetConfig(source="shards", role="open", path=str(spec.path))
    prepare_datasets(config)
    assert "none" in capsys.readouterr().out
    (Path(spec.path) / "prepared.json").unlink()
    prepare_datasets(config)
    assert "not known" in capsys.readouterr().out


def test_prepare_datasets_edited_input_or_other_options_are_prepared_beside_the_old(tmp_path: Path) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a")])
    (first,) = prepare_datasets(config)
    assert prepare_datasets(config) == [first]
    write_jsonl(tmp_path / "pairs.jsonl", [record("a"), record("b")])
    (second,) = prepare_datasets(config)
    config.data.datasets["mine"].options["name"] = "other"
    (third,) = prepare_datasets(config)
    assert len({first.path, second.path, third.path}) == 3


def test_prepare_datasets_lost_image_that_came_back_is_found(tmp_path: Path) -> None:
    config = own_data(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", [record("a"), record("b")])
    (tmp_path / "b.png").unlink()
    with pytest.raises(UnreadableSamplesError, match=r"1 of 2 records cannot be read \(1 x image missing\)"):
        prepare_datasets(config)
    config.data.max_unreadable = 0.5
    (spec,) = prepare_datasets(config)
    assert len((Path(spec.path) / "skipped.jsonl").read_text().splitlines()) == 1
    (tmp_path / "b.png").write_bytes(png())
    assert prepare_datasets(config) == [spec]
    assert (Path(spec.path) / "skipped.jsonl").read_text() == ""


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
    module = build_module(config, SimpleNamespace(val_names=[], test_names=[]))  # type: ignore[arg-type]
    assert module.cycle_starts == starts


def test_check_unknown_cycle_is_refused(small_run: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match=r"optim\.cycle='epoch'"):
        check(small_run("optim.cycle=epoch"))
