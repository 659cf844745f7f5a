"""A set that is never trained on, in the form in which a pool is scored: an index, and batches of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.index import Index
from datamodules.loader import BatchLoader, Workers
from datamodules.plan import Array
from datamodules.work import scoring_work
from mrm.model.packing import RewardBatch


@dataclass(frozen=True)
class HeldOutSet:
    """What `callbacks.pool_scoring.score_pool` needs of a set.

    Args:
        index: its samples.
        workers: who make the batches.
        batch_size: samples a batch.
        note: called with every batch, in the main process; counts what cannot be read.
    """

    index: Index
    workers: Workers
    batch_size: int
    note: Callable[[RewardBatch], None]

    def score_dataloader(
        self,
        rows: Sequence[int] | Array,
        responses: Mapping[int, tuple[int, ...]] | None = None,
        *,
        encoder: Any = None,
        layout: str | None = None,
    ) -> BatchLoader:
        """Batches that score responses of these rows, as of `PreferenceDataModule`; for the model in training only."""
        assert encoder is None and layout is None, "the workers have the encoder and layout of the model in training"
        return BatchLoader(self.workers, scoring_work(rows, self.batch_size, responses), self.note)
