"""Work: what the main process asks of the workers, row numbers with the labels to give them.

Labels travel with the row number, so that workers hold only what never changes and cannot see stale labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.index import Index
from datamodules.ledger import Ledger
from datamodules.plan import EpochPlan
from mrm.model.packing import NO_EDGES, Edges


@dataclass(frozen=True)
class WorkItem:
    """One sample to read, with the labels to give it; `responses`: the numbers of those to encode, None for all."""

    row: int
    edges: Edges = NO_EDGES
    responses: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Work:
    """One micro-batch to make. `normalizer`: the pair weight that its loss is divided by; None takes its own."""

    items: tuple[WorkItem, ...]
    normalizer: float | None = None


class EpochWork(Sequence[Work]):
    """One rank's micro-batches of an epoch, with the ledger's labels; made when asked for.

    The normalizer of each is its step's pair weight over all ranks, divided by the number of micro-batches of the step:
    the mean over ranks and accumulation of (loss sum / normalizer) is the step's mean over pairs, however it is cut.
    """

    def __init__(self, index: Index, ledger: Ledger, plan: EpochPlan, rank: int, use_strength: bool) -> None:
        self._plan, self._rank = plan, rank
        active = np.flatnonzero(ledger.active & (ledger.weight > 0))
        chosen, rejected, strength = ledger.edges(index)
        self._chosen, self._rejected, self._weight = chosen[active], rejected[active], ledger.weight[active]
        self._strength = strength[active] if use_strength else np.full(len(active), np.nan, np.float32)
        self._start = np.searchsorted(index.pair_sample[active], np.arange(len(index) + 1))
        sample_weight = np.bincount(index.pair_sample[active], self._weight, minlength=len(index))
        steps, world_size, accumulate = plan.rows.shape[:3]
        self._normalizer = plan.step_sums(sample_weight) / (world_size * accumulate)
        self._accumulate = accumulate
        self.digest = hashlib.sha256(repr(plan.rows.shape).encode() + plan.rows.tobytes()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._plan)

    @property
    def nbytes(self) -> int:
        """Bytes of the plan and the labels."""
        own = (self._chosen, self._rejected, self._strength, self._weight, self._start, self._normalizer)
        return sum(column.nbytes for column in (self._plan.rows, self._plan.filler, *own))

    def __getitem__(self, number: Any) -> Any:
        batch = self._plan.batch(self._rank, number)
        pairs = zip(batch.rows.tolist(), batch.filler.tolist(), strict=True)
        items = tuple(WorkItem(row, self._edges(row, filler)) for row, filler in pairs)
        return Work(items, float(self._normalizer[number // self._accumulate]))

    def _edges(self, row: int, filler: bool) -> Edges:
        which = slice(self._start[row], self._start[row + 1])
        weight = np.zeros_like(self._weight[which]) if filler else self._weight[which]
        columns = (self._chosen[which], self._rejected[which], self._strength[which], weight)
        return Edges(*(column.tolist() for column in columns))


def scoring_work(
    rows: Iterable[int], batch_size: int, responses: Mapping[int, tuple[int, ...]] | None = None
) -> list[Work]:
    """Work that scores responses of the rows, in order, without labels: all, or those that `responses` names for a row."""
    items = [WorkItem(int(row), responses=(responses or {}).get(int(row))) for row in rows]
    return [Work(tuple(items[i : i + batch_size])) for i in range(0, len(items), batch_size)]


def published_work(index: Index, batch_size: int) -> list[Work]:
    """Work over all samples with their pairs as published, each of weight 1."""

    def edges(row: int) -> Edges:
        which = slice(index.pair_start[row], index.pair_start[row + 1])
        columns = (index.pair_chosen[which], index.pair_rejected[which], index.pair_strength[which])
        return Edges(*(column.tolist() for column in columns), weight=[1.0] * (which.stop - which.start))

    items = [WorkItem(row, edges(row)) for row in range(len(index))]
    return [Work(tuple(items[i : i + batch_size])) for i in range(0, len(items), batch_size)]
