"""The scores that `mrm.curate` decides by: given in files, or those of a saved model, which is run over the pool once.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from callbacks.round_inputs import PairScores
from datamodules.ledger import Array
from datamodules.pair_pools import PairPool
from datamodules.score_files import read_scores
from datamodules.texts import Texts
from mrm.curate_journal import ScoreJournal
from mrm.curate_pass import ModelReader, ScoringPass
from mrm.model.encoding import Encoder
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
    """One pass of a model over a pool: every distinct (images, prompt, response) once, in packed rows.

    What was said before has the reward that it had there, to the bit, and a sample that says nothing new is not read; nor are
    samples that are no pairs. Where the first to say something cannot be scored, the others are scored where they stand.

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
    reasons = dict(pool.problems)
    wanted = np.ones(len(pool), bool)
    if reasons:
        wanted = ~np.isin(pool.keys.tolist(), list(reasons))
    reader = ModelReader(model, encoder, device, batch_size, row_tokens, workers, progress)
    scoring = ScoringPass(pool, reader, max_bad=max_bad, journal=journal)
    plan, rewards = pool.distinct(wanted), scoring.rewards
    if copies := len(plan.copy_to):
        every = int(pool.n_responses[wanted].sum())
        log.info("%d of %d responses were said before, to the same prompt and images: scored once.", copies, every)
    scoring.run(plan.rows, plan.responses)
    rewards[plan.copy_to] = rewards[plan.copy_from]
    missing = ~np.isfinite(rewards[plan.copy_to])
    if missing.any():
        copy_to, copy_from = plan.copy_to[missing], plan.copy_from[missing]
        if left := _by_row(pool, scoring.first, copy_to, except_for=scoring.unreadable):
            scoring.run(np.array(list(left), np.int64), left)
        scored = np.isfinite(rewards[copy_to])
        sources, where = np.unique(copy_from[scored], return_index=True)
        rewards[sources] = rewards[
            copy_to[scored][where]
        ]  # one value for all, a tie stays one; the sources' samples have none
        rewards[copy_to] = rewards[copy_from]
    return _of_pairs(pool, rewards, scoring.first, reasons | scoring.unreadable)


def _by_row(pool: PairPool, first: Array, responses: Array, except_for: Collection[str]) -> dict[int, tuple[int, ...]]:
    """Row -> numbers within it, in order, of responses numbered through the pool; without the samples of some keys.

    Args:
        first: see `ScoringPass`.
        responses: int64 [n], ascending.
        except_for: keys.
    """
    rows, begins = np.unique(np.searchsorted(first, responses, side="right") - 1, return_index=True)
    each = zip(rows.tolist(), np.split(responses, begins[1:]), strict=True)
    return {row: tuple((own - first[row]).tolist()) for row, own in each if pool.keys[row] not in except_for}


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
