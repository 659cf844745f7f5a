"""What the model scored the test sets' pairs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from callbacks.score_recorder import ScoreRecorder
from mrm.evaluation.sample_scores import SCORES_FILE, read_scores


def batch(keys: list[str], counts: list[int], chosen: list[int], rejected: list[int]) -> SimpleNamespace:
    return SimpleNamespace(
        keys=keys, response_counts=counts, edge_chosen=torch.tensor(chosen), edge_rejected=torch.tensor(rejected)
    )


def test_recorder_writes_every_pair_once_with_its_samples_key(tmp_path: Path) -> None:
    trainer, module = SimpleNamespace(is_global_zero=True), SimpleNamespace(test_names=["one", "two"])
    recorder = ScoreRecorder(tmp_path)
    recorder.on_test_start(trainer, module)
    # A sample of three responses and two pairs, then a plain one; rewards by the response's number.
    rewards = torch.tensor([0.5, 0.25, 0.125, -1.0, 1.0])
    recorder.on_test_batch_end(trainer, module, rewards, batch(["a", "b"], [3, 2], [0, 1, 4], [1, 2, 3]), 0, 0)
    recorder.on_test_batch_end(trainer, module, torch.zeros(0), batch([], [], [], []), 1, 0)  # all unreadable
    recorder.on_test_batch_end(trainer, module, rewards[:2], batch(["c"], [2], [1], [0]), 2, 0)
    recorder.on_test_batch_end(trainer, module, rewards[:2], batch(["a"], [2], [0], [1]), 0, 1)
    recorder.on_test_end(trainer, module)
    read = read_scores(tmp_path / SCORES_FILE)
    one = read["one"]
    assert list(zip(one.key, one.pair, one.chosen, one.rejected, one.right, strict=True)) == [
        ("a", 0, 0.5, 0.25, True),
        ("a", 1, 0.25, 0.125, True),
        ("b", 0, 1.0, -1.0, True),
        ("c", 0, 0.25, 0.5, False),
    ]
    assert read["two"].key.tolist() == ["a"] and list(read) == ["one", "two"]


def test_recorder_on_other_ranks_writes_nothing(tmp_path: Path) -> None:
    trainer, module = SimpleNamespace(is_global_zero=False), SimpleNamespace(names={"test": ["one"]})
    recorder = ScoreRecorder(tmp_path)
    recorder.on_test_batch_end(trainer, module, torch.zeros(2), batch(["a"], [2], [0], [1]), 0)
    recorder.on_test_end(trainer, module)
    assert not list(tmp_path.iterdir())
