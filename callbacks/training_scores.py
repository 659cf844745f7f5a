"""Keeps the scores that training computes anyway: each response's reward at the moment it was trained on, before the step.

In the first epoch of a stage these come from a model that has not seen the pair yet, and cost nothing. What follows from them is
left to `score_passes.py` and the policy.

Dimension letters: N samples, R responses of the index, numbered as by `response_starts`.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from callbacks.pool_scoring import gather
from datamodules.distinct import response_starts
from datamodules.key_rows import KeyRows
from mrm.errors import LedgerError

STATE = "training_scores"


class TrainingScores(pl.Callback):
    """Records `module.last_rewards`, which training leaves there, of every batch.

    A sample that an epoch brings twice keeps its first scores. All ranks hold what all of them recorded, as of the newest `settle`;
    a checkpoint has it too, so that a resumed run curates by the same scores.

    Args:
        enabled: False records nothing.

    Attributes:
        newest: float32 [R], scores of the newest epoch; NaN where it did not train on the response.
        total: float64 [R], sum over all epochs. times: int32 [R], in how many of them.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.newest = np.zeros(0, np.float32)
        self.total = np.zeros(0, np.float64)
        self.times = np.zeros(0, np.int32)
        self._pending: list[tuple[np.ndarray, torch.Tensor]] = []
        self._epoch = -1  # that `newest` is of
        self._restored: dict[str, Any] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.enabled:
            return
        index = trainer.datamodule.index  # type: ignore[attr-defined]
        self._rows, self._starts = KeyRows(index), response_starts(index)
        responses = int(self._starts[-1])
        if self._restored is not None:
            if len(self._restored["newest"]) != responses:
                raise LedgerError(
                    f"the checkpoint holds scores of {len(self._restored['newest'])} responses, the data has {responses}:"
                    " resume with the data that it was trained on."
                )
            self.newest, self.total, self.times = (
                np.asarray(self._restored[name]) for name in ("newest", "total", "times")
            )
            self._epoch, self._restored = int(self._restored["epoch"]), None
            return
        self.newest = np.full(responses, np.nan, np.float32)
        self.total, self.times = np.zeros(responses, np.float64), np.zeros(responses, np.int32)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.enabled and batch.keys:  # stays on the device: to fetch it here would make the host wait
            self._begin_epoch(trainer.current_epoch)
            self._pending.append((self._rows(batch.keys), pl_module.last_rewards))  # type: ignore[arg-type]

    def settle(self, trainer: pl.Trainer) -> None:
        """Brings together what all ranks recorded; called by all of them."""
        if not self.enabled:
            return
        self._begin_epoch(trainer.current_epoch)
        places = np.concatenate([np.zeros(0, np.int64), *(self._places(rows) for rows, _ in self._pending)])
        rewards = np.concatenate(
            [np.zeros(0, np.float32), *(values.float().cpu().numpy() for _, values in self._pending)]
        )
        self._pending = []
        for theirs, values in gather((places, rewards), trainer.world_size):  # rank 0 first: what is there stays
            fresh, first = np.unique(theirs, return_index=True)
            new = np.isnan(self.newest[fresh])
            fresh, values = fresh[new], values[first[new]]
            self.newest[fresh] = values
            self.total[fresh] += values
            self.times[fresh] += 1

    def forget(self) -> None:
        """Before a model that starts anew: the trajectory of the old one says nothing of it."""
        self.total[:], self.times[:] = 0, 0

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.enabled:
            return
        self.settle(trainer)
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in ("newest", "total", "times")}
        checkpoint[STATE] = {**arrays, "epoch": self._epoch}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.enabled:
            self._restored = checkpoint.get(STATE)

    def _begin_epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            self.newest[:] = np.nan
            self._epoch = epoch

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """int64: the numbers of all responses of these rows, in order."""
        counts = self._starts[rows + 1] - self._starts[rows]
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self._starts[rows], counts) + offsets
