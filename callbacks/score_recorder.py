"""Keeps what the model scores the test sets' pairs, and writes it at the test's end, so that runs can be compared sample by sample.

Every rank tests all samples, so rank 0 has them all and writes alone. The rewards stay on the device until then: no batch waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from mrm.evaluation.sample_scores import SCORES_FILE, SampleScores, write_scores
from mrm.model.packing import RewardBatch


@dataclass(frozen=True)
class _Part:
    """A batch: keys and numbers of responses of its samples, [E] chosen responses, [2, E] rewards of chosen and rejected."""

    keys: list[str]
    counts: list[int]
    chosen: torch.Tensor
    rewards: torch.Tensor


class ScoreRecorder(pl.Callback):
    """Writes `test_scores.parquet`.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / SCORES_FILE
        self._parts: dict[int, list[_Part]] = {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._parts = {}

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: RewardBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps [S] rewards, which the module's test step gives."""
        if not trainer.is_global_zero or not len(batch.edge_chosen):
            return
        chosen, rejected = outputs[batch.edge_chosen], outputs[batch.edge_rejected]
        rewards = torch.stack([chosen, rejected]).float()
        self._parts.setdefault(dataloader_idx, []).append(
            _Part(batch.keys, batch.response_counts, batch.edge_chosen, rewards)
        )

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        names: Any = pl_module.test_names
        write_scores(self.path, {names[number]: _joined(parts) for number, parts in self._parts.items()})
        self._parts = {}


def _joined(parts: list[_Part]) -> SampleScores:
    """The batches of one test set as one table."""
    keys: list[str] = []
    numbers: list[int] = []
    rewards = []
    for part in parts:
        chosen = part.chosen.cpu().numpy()
        samples = np.searchsorted(np.cumsum(part.counts), chosen, side="right").tolist()  # whose response it is
        seen: dict[int, int] = {}
        for sample in samples:  # pairs come in the order of their sample
            numbers.append(seen.get(sample, 0))
            seen[sample] = numbers[-1] + 1
            keys.append(part.keys[sample])
        rewards.append(part.rewards.cpu().numpy())
    both = np.concatenate(rewards, axis=1)
    return SampleScores(np.array(keys, object), np.array(numbers, np.int32), both[0], both[1])
