"""The main job on two processes: curation, resuming and the saved model, with the weights whole and in slices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mrm.config import RunConfig, to_yaml
from mrm.export import ExportConfig, export
from mrm.model.saving import load_reward_model
from tests.model.test_distributed import torchrun
from tests.test_run import assert_same_outcome


def assert_same_model(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "reward_head.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "deepspeed"])
def test_run_on_two_processes_killed_and_resumed_ends_as_one_left_alone(
    small_run: Callable[..., RunConfig], tmp_path: Path, strategy: str
) -> None:
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")

    def config(root: str, resume: str | None = None) -> str:
        made = small_run(
            "experiment=dt2it_cold", f"trainer.strategy={strategy}", "trainer.devices=2", "data.batch_size=2",
            "trainer.checkpoint_every_n_steps=3", "report.enabled=false",
        )  # fmt: skip
        made.output_root, made.resume = str(tmp_path / root), resume
        path = tmp_path / f"{root}-{resume}.yaml"
        path.write_text(to_yaml(made))
        return str(path)

    done = torchrun("-m", "tests.distributed_run", config("alone"))
    assert done.stdout.count("group left: True") == 2  # or its threads may abort a process that ends
    with pytest.raises(RuntimeError, match="SIGKILL"):
        torchrun("-m", "tests.distributed_run", config("killed"), "1", "5")  # behind a checkpoint within epoch 1
    (folder,) = (path for path in (tmp_path / "killed").iterdir() if path.is_dir() and not path.is_symlink())
    assert not (folder / "results.json").exists()
    export(ExportConfig(run=str(folder), output=str(tmp_path / "early")))
    load_reward_model(tmp_path / "early")
    torchrun("-m", "tests.distributed_run", config("killed", "auto"))
    alone = (tmp_path / "alone" / "latest").resolve()
    assert_same_outcome(alone, folder)
    assert json.loads((folder / "results.json").read_text())["open_pairs"] == 16
    export(ExportConfig(run=str(folder), output=str(tmp_path / "last")))
    assert_same_model(tmp_path / "last", folder / "model")
    assert "backbone" not in "".join(load_file(folder / "model" / "model.safetensors"))  # its own names, whole
