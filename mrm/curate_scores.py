"""The scores that `mrm.curate` decides by: given in files, or those of a saved model, which is run over the pool once.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from callbacks.round_inputs import NOT_FINITE, PairScores
from datamodules.ledger import Array
from datamodules.loader import Workers
from datamodules.pair_pools import PairPool
from datamodules.score_files import read_scores
from datamodules.sources.base import Counted
from datamodules.texts import Texts
from datamodules.unreadable import UnreadableCount
from mrm.curate_journal import ScoreJournal
from mrm.model.encoding import Encoder
from mrm.model.packing import RewardBatch, Unreadable
from mrm.model.reward_model import RewardModel

log = logging.getLogger(__name__)


def given_scores(files: Sequence[Path], keys: Texts, pairs: Array) -> PairScores:
    """The score passes of some files, a pass each.

    Args:
        files: at least one; see `datamodules.score_files`.
        keys, pairs: names of the pairs [P], in order.

    Raises:
        ConfigError: for a file that does not fit, by file and line.
    """
    reasons = np.full(len(keys), "", object)
    passes = []
    for file in files:
        *scores, why = read_scores(file, keys, pairs)
        reasons = np.where(reasons == "", why, reasons)
        passes.append(scores)
    chosen, rejected = (np.stack(side) for side in zip(*passes, strict=True))
    return PairScores(chosen, rejected, reasons)


def model_scores(
    pool: PairPool,
    model: RewardModel,
    encoder: Encoder,
    *,
    device: torch.device,
    batch_size: int,
    row_tokens: int | None,
    workers: int,
    max_bad: float,
    progress: bool,
    journal: ScoreJournal,
) -> PairScores:
    """One pass of a model over a pool: every response once, in packed rows. Samples that are no pairs are not read.

    Args:
        pool: what to score.
        model, encoder: in evaluation mode, on the device.
        device: where the model is.
        batch_size: samples at a time. row_tokens: see `mrm.model.packing.collate`.
        workers: processes that read; 0 reads in this one.
        max_bad: share of the samples that may have no scores before the scoring stops.
        progress: whether a bar shows how far it is.
        journal: batches that are scored already are taken from it, and others kept in it.

    Raises:
        UnreadableSamplesError: past `max_bad`.
    """
    first = np.concatenate([[0], np.cumsum(pool.n_responses, dtype=np.int64)])
    rewards = np.full(first[-1], np.nan, np.float32)
    reasons = {key: why for key, why in pool.problems.items()}
    wanted = np.ones(len(pool), bool)
    if reasons:
        wanted = ~np.isin(pool.keys.tolist(), list(reasons))
    unreadable = UnreadableCount(max_bad, "max_bad")
    expected: deque[tuple[int, dict[str, int]]] = deque()

    def place(names: dict[str, int], found: Mapping[str, Any]) -> None:
        for key, own in found.items():
            rewards[first[names[key]] : first[names[key] + 1]] = own

    def works() -> Iterator[Any]:
        for batch, (numbers, work) in enumerate(pool.feed(wanted, batch_size, encoder.max_pixels)):
            names = {pool.keys[int(number)]: int(number) for number in numbers}
            if batch in journal.done:
                place(names, journal.done[batch])
            else:
                expected.append((batch, names))
                yield work

    dataset = pool.dataset(encoder, row_tokens, model.layout)
    batches = Workers(dataset, num_workers=workers).run(works())
    total = -(-int(wanted.sum()) // batch_size) - len(journal.done)
    with torch.inference_mode():
        for batch in _shown(Counted(batches, total), progress):
            number, names = expected.popleft()
            bad = {item.key for item in batch.unreadable}
            assert list(key for key in names if key not in bad) == batch.keys, "batches come in the order of their work"
            if batch.keys:
                found = model(batch.to(device)).float().cpu().numpy()
                ends = np.cumsum(batch.response_counts)[:-1]
                found_of = dict(zip(batch.keys, np.split(found, ends), strict=True))
                place(names, found_of)
                batch = _with_diverged(batch, rewards, first, names, pool.name)
                if not batch.unreadable:
                    journal.add(number, {key: own.tolist() for key, own in found_of.items()})
            unreadable.note(
                dataclasses.replace(batch, unreadable=[_of(pool, item) for item in batch.unreadable]),
                {pool.name: len(pool)},
            )
    reasons |= {key: item.reason for key, item in unreadable.found.get(pool.name, {}).items()}
    return _of_pairs(pool, rewards, first, reasons)


def _with_diverged(
    batch: RewardBatch, rewards: Array, first: Array, names: dict[str, int], dataset: str
) -> RewardBatch:
    """The batch, in which samples with a reward that is not finite count as unreadable."""
    diverged = [key for key in batch.keys if not np.isfinite(rewards[first[names[key]] : first[names[key] + 1]]).all()]
    items = [Unreadable(key, "the model", NOT_FINITE, dataset) for key in diverged]
    return dataclasses.replace(batch, unreadable=[*batch.unreadable, *items])


def _of(pool: PairPool, item: Unreadable) -> Unreadable:
    return dataclasses.replace(item, dataset=pool.name)


def _of_pairs(pool: PairPool, rewards: Array, first: Array, reasons: dict[str, str]) -> PairScores:
    """The responses' rewards, a value a pair."""
    start = first[pool.pair_sample]
    by_sample = np.full(len(pool), "", object)
    if reasons:
        keys = pool.keys.tolist()
        named = np.flatnonzero(np.isin(keys, list(reasons)))
        by_sample[named] = [reasons[keys[number]] for number in named]
    why = by_sample[pool.pair_sample]
    sides = (np.where(why == "", rewards[start + side], np.nan) for side in (pool.pair_chosen, pool.pair_rejected))
    chosen, rejected = (side.astype(np.float32)[None] for side in sides)
    known = np.isfinite(chosen[0]) & np.isfinite(rejected[0])
    assert (known | (why != "")).all(), "every pair has scores or a reason"
    return PairScores(chosen, rejected, why)


def _shown(items: Counted[RewardBatch], show: bool) -> Iterator[RewardBatch]:
    columns = (TextColumn("score"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task("score", total=length_hint(items) or None)
        for item in items:
            yield item
            progress.advance(task)
