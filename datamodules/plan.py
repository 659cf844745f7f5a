"""The epoch plan: which samples are in which micro-batch of which rank, computed beforehand from a seed.

Pure numpy. An optimizer step is a set of samples that depends only on the samples, the step's size, the seed and the
epoch: batch 8 without accumulation and batch 4 with accumulation 2 see the same steps. Every rank gets equally many
micro-batches. Under a token budget a micro-batch holds as many samples as fit, so that a step's set depends on the cut.

Dimension letters: A samples to train on, E entries of the epoch (a sample may stand several times), T steps, W ranks,
G accumulated micro-batches, M micro-batches of all ranks, B samples a micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.orders import ORDERS

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


def padding_share(plan: EpochPlan, lengths: Array) -> float:
    """Share of an epoch's places that hold no token to learn from, in [0, 1], if each micro-batch is padded to its longest.

    What fillers take is waste too. Where several samples share a row (`row_tokens`), the true share is smaller.

    Args:
        plan: the epoch. lengths: int [rows of the index], tokens of each sample.
    """
    tokens = np.where(plan.rows >= 0, np.asarray(lengths, np.int64)[plan.rows], 0)
    places = int((tokens.max(axis=-1, initial=0) * (plan.rows >= 0).sum(axis=-1)).sum())
    return 1 - int(tokens[~plan.filler].sum()) / places if places else 0.0


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
    batch_tokens: int | None = None,
    order: str = "shuffled",
    strength: Array | None = None,
) -> EpochPlan:
    """Plans one epoch.

    Args:
        sample_rows: int64 [A], rows of the index, distinct.
        lengths: int [A], tokens of each sample, or anything that grows with its cost.
        weights: float [A], mixture weight: w stands for floor(w) times, and once more with probability w - floor(w).
        batch_size: B, samples a micro-batch at most. accumulate: G. world_size: W.
        seed: of the run. epoch: from 0; each has its own order.
        length_window: steps within which samples are sorted by length, so that a step's samples are alike; 0 is off.
        batch_tokens: places a micro-batch has at most (samples times the longest one's length), a longer sample alone
            excepted; needs `length_window`. None takes `batch_size` samples whatever their length.
        order: a name in `datamodules.orders.ORDERS`.
        strength: float [A], what an order by strength goes by, NaN where unknown; None knows none.
    """
    assert batch_tokens is None or length_window > 0, "a token budget needs samples sorted by length"
    rng = np.random.default_rng([seed, epoch])
    floor = np.floor(weights)
    times = floor.astype(np.int64) + (rng.random(len(sample_rows)) < weights - floor)
    entries = np.repeat(np.arange(len(sample_rows)), times)
    known = np.full(len(sample_rows), np.nan) if strength is None else np.asarray(strength)
    entries = entries[ORDERS[order].arrange(known[entries], rng)]
    step_size, parts = batch_size * accumulate * world_size, accumulate * world_size
    window = np.arange(len(entries)) // max(1, length_window * step_size)
    rows = np.asarray(sample_rows, np.int64)
    if batch_tokens is not None:
        entries = entries[np.lexsort((-np.asarray(lengths)[entries], window))]  # the longest first: it sets the width
        cut = _cut_by_tokens(np.asarray(lengths)[entries], np.diff(window).nonzero()[0] + 1, batch_size, batch_tokens)
        steps, filler, first = _steps_of(rows[entries], _fill_up(cut, parts), parts, batch_size)
        full, step_window = len(cut) // parts, window[first]
    else:
        if length_window > 0:
            entries = entries[np.lexsort((np.asarray(lengths)[entries], window))]
        full, rest = divmod(len(entries), step_size)
        steps = rows[entries[: full * step_size]].reshape(full, parts, batch_size)
        filler = np.zeros_like(steps, dtype=bool)
        if rest:
            last, last_filler = _last_step(rows[entries[full * step_size :]], parts, batch_size)
            steps, filler = np.concatenate([steps, last[None]]), np.concatenate([filler, last_filler[None]])
        step_window = window[::step_size]
    if length_window > 0:  # a window's steps come by length, which training must not see
        mixed = rng.permutation(full)
        if ORDERS[order].in_sequence:
            mixed = mixed[np.argsort(step_window[mixed], kind="stable")]
        steps[:full], filler[:full] = steps[mixed], filler[mixed]
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


Cut = list[tuple[int, int]]  # micro-batches as (first entry, samples)


def _cut_by_tokens(lengths: Array, bounds: Array, batch_size: int, batch_tokens: int) -> Cut:
    """Micro-batches within the budget of entries [E], each window's longest first; none goes over a window's end.

    Args:
        lengths: int [E]. bounds: where a new window begins, without 0.
    """
    cut: Cut = []
    width, start = np.maximum(lengths, 1).tolist(), 0
    for end in (*bounds.tolist(), len(width)):
        while start < end:
            samples = min(batch_size, max(1, batch_tokens // width[start]), end - start)
            cut.append((start, samples))
            start += samples
    return cut


def _fill_up(cut: Cut, parts: int) -> Cut:
    """A multiple of `parts` micro-batches: those of the last step are halved, the largest first, or stand for fillers.

    A filler is (entry, 0): one sample that is repeated with weight 0.
    """
    done, last = cut[: len(cut) // parts * parts], cut[len(cut) // parts * parts :]
    while last and len(last) < parts:
        largest = max(range(len(last)), key=lambda number: last[number][1])
        start, samples = last[largest]
        if samples <= 1:
            cheapest = last[-1][0]  # of the last window, which ends with its shortest
            return [*done, *last, *[(cheapest, 0)] * (parts - len(last))]
        last[largest : largest + 1] = [(start, samples - samples // 2), (start + samples - samples // 2, samples // 2)]
    return [*done, *last]


def _steps_of(rows: Array, cut: Cut, parts: int, batch_size: int) -> tuple[Array, Array, Array]:
    """(rows [T, parts, B], filler [T, parts, B], first entry [T]) of micro-batches, a multiple of `parts`."""
    table = np.array(cut, np.int64).reshape(-1, 2)
    start, samples = table[:, :1], table[:, 1:]
    place = np.arange(batch_size)
    present = place < np.maximum(samples, 1)
    out = np.where(present, rows[np.where(present, start + place, 0)] if len(rows) else -1, -1)
    filler = present & (samples == 0)
    shape = (-1, parts, batch_size)
    return out.reshape(shape), filler.reshape(shape), table[::parts, 0]
