"""The main job on two processes: curation, resuming and the saved model, with the weights whole and in slices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from datamodules.ledger import Ledger, round_path
from mrm.config import RunConfig, to_yaml
from mrm.evaluation.sample_scores import SCORES_FILE, read_scores
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
            "evaluation.every_n_steps=2", "evaluation.best.metric=val/loss", "evaluation.best.use=true",
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
    (kept,) = json.loads((folder / "best" / "best.json").read_text())["kept"]
    chosen = str(folder / "best" / kept["file"])
    export(ExportConfig(run=str(folder), output=str(tmp_path / "best"), checkpoint=chosen))
    assert_same_model(tmp_path / "best", folder / "model")
    assert "backbone" not in "".join(load_file(folder / "model" / "model.safetensors"))  # its own names, whole


def test_run_on_two_processes_curates_as_one_does(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    """The same batches, cut otherwise: sums in another order, so scores agree nearly, and decisions exactly."""

    def config(root: str, devices: int) -> str:
        made = small_run(
            "experiment=dt2it_full", f"trainer.devices={devices}", f"data.batch_size={4 // devices}",
            f"trainer.strategy={'ddp' if devices > 1 else 'auto'}", "report.enabled=false", "data.row_tokens=null",
        )  # fmt: skip
        made.output_root = str(tmp_path / root)
        path = tmp_path / f"{root}.yaml"
        path.write_text(to_yaml(made))
        return str(path)

    torchrun("-m", "tests.distributed_run", config("two", 2))
    subprocess.run([sys.executable, "-m", "tests.distributed_run", config("one", 1)], check=True, capture_output=True)
    for name, two in read_scores(
        tmp_path / "two" / "latest" / SCORES_FILE
    ).items():  # each pair once, though both ranks test all
        one = read_scores(tmp_path / "one" / "latest" / SCORES_FILE)[name]
        assert one.key.tolist() == two.key.tolist() and len(one) == len(set(one.key)) == 4
        np.testing.assert_allclose(one.chosen, two.chosen, atol=1e-3)
    for number in (1, 2):
        one, two = (Ledger.read(round_path(tmp_path / root / "latest" / "ledger", number)) for root in ("one", "two"))
        for name in ("decision", "flipped", "active", "weight", "decided"):
            assert getattr(one, name).tolist() == getattr(two, name).tolist(), name
        for name in ("chosen_score", "rejected_score", "vote_share"):
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=1e-3, err_msg=name)


def test_run_on_two_processes_stops_early_on_both(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    made = small_run(
        "experiment=dt2it_only_trusted", "trainer.strategy=ddp", "trainer.devices=2", "data.batch_size=1",
        "trainer.max_epochs=4", "report.enabled=false", "evaluation.every_n_steps=1",
        "evaluation.early_stopping={metric: val/loss, patience: 2, min_delta: 1000}",
    )  # fmt: skip
    made.output_root = str(tmp_path / "runs")
    (tmp_path / "c.yaml").write_text(to_yaml(made))
    done = torchrun("-m", "tests.distributed_run", str(tmp_path / "c.yaml"))
    assert done.stdout.count("group left: True") == 2
    results = json.loads((tmp_path / "runs" / "latest" / "results.json").read_text())
    assert results["evaluation"]["stopped_early"] and results["evaluation"]["last"]["step"] == 3
