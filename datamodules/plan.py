"""The epoch plan: which samples are in which micro-batch of which rank, computed beforehand from a seed.

Pure numpy. An optimizer step is a set of samples that depends only on the samples, the step's size, the seed and the
epoch: batch 8 without accumulation and batch 4 with accumulation 2 see the same steps. Every rank gets equally many
micro-batches.

Dimension letters: A samples to train on, T steps, W ranks, G accumulated micro-batches, B samples a micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """What one rank reads at once.

    Args:
        rows: int64 [n], 1 <= n <= B, rows of the index.
        filler: bool [n], repeated only to make the ranks equal: to be given weight 0.
    """

    rows: Array
    filler: Array


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """One epoch of all ranks.

    Args:
        rows: int64 [T, W, G, B], -1 where there is none.
        filler: bool [T, W, G, B].
    """

    rows: Array
    filler: Array

    def __len__(self) -> int:
        """Micro-batches a rank."""
        return self.rows.shape[0] * self.rows.shape[2]

    def batch(self, rank: int, number: int) -> MicroBatch:
        """The `number`-th micro-batch of a rank."""
        step, part = divmod(number, self.rows.shape[2])
        rows, filler = self.rows[step, rank, part], self.filler[step, rank, part]
        present = rows >= 0
        return MicroBatch(rows[present], filler[present])

    def step_sums(self, values: Array) -> Array:
        """float64 [T]: the sum over each step's samples, fillers left out, of values [rows of the index]."""
        counted = np.where((self.rows >= 0) & ~self.filler, np.asarray(values, np.float64)[self.rows], 0.0)
        return counted.reshape(len(self.rows), -1).sum(axis=1)


def epoch_plan(
    sample_rows: Array,
    lengths: Array,
    weights: Array,
    *,
    batch_size: int,
    accumulate: int,
    world_size: int,
    seed: int,
    epoch: int,
    length_window: int = 0,
) -> EpochPlan:
    """Plans one epoch.

    Args:
        sample_rows: int64 [A], rows of the index, distinct.
        lengths: int [A], anything that grows with a sample's cost.
        weights: float [A], mixture weight: w stands for floor(w) times, and once more with probability w - floor(w).
        batch_size: B. accumulate: G. world_size: W.
        seed: of the run. epoch: from 0; each has its own order.
        length_window: steps within which samples are sorted by length, so that a step's samples are alike; 0 is off.
    """
    rng = np.random.default_rng([seed, epoch])
    floor = np.floor(weights)
    times = floor.astype(np.int64) + (rng.random(len(sample_rows)) < weights - floor)
    entries = rng.permutation(np.repeat(np.arange(len(sample_rows)), times))
    step_size, parts = batch_size * accumulate * world_size, accumulate * world_size
    full, rest = divmod(len(entries), step_size)
    if length_window > 0:
        window = np.arange(len(entries)) // (length_window * step_size)
        entries = entries[np.lexsort((np.asarray(lengths)[entries], window))]
    rows = np.asarray(sample_rows, np.int64)[entries]
    steps = rows[: full * step_size].reshape(full, parts, batch_size)
    if length_window > 0:
        steps = steps[rng.permutation(full)]
    filler = np.zeros_like(steps, dtype=bool)
    if rest:
        last, last_filler = _last_step(rows[full * step_size :], parts, batch_size)
        steps, filler = np.concatenate([steps, last[None]]), np.concatenate([filler, last_filler[None]])
    # neighbours in length go to different ranks at the same time, so that no rank waits for another
    shape = (len(steps), accumulate, world_size, batch_size)
    return EpochPlan(steps.reshape(shape).swapaxes(1, 2), filler.reshape(shape).swapaxes(1, 2))


def _last_step(rows: Array, parts: int, batch_size: int) -> tuple[Array, Array]:
    """(rows [parts, B], filler [parts, B]) of fewer samples than a step: spread evenly, repeated if too few."""
    total = max(len(rows), parts)
    sizes = np.full(parts, total // parts) + (np.arange(parts) < total % parts)
    place = np.arange(batch_size) < sizes[:, None]
    out, filler = np.full((parts, batch_size), -1, np.int64), np.zeros((parts, batch_size), bool)
    out[place] = np.resize(rows, total)
    filler[place] = np.arange(total) >= len(rows)
    return out, filler
