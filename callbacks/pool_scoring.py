"""Scores the open pool: every distinct (images, prompt, response) of the asked-for samples once a pass, over all ranks.

Says what the scores are and who could not be read. What follows from a score is left to the policy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.distinct import distinct_responses, response_starts
from datamodules.index import Index
from mrm.curation.accounts import UNKNOWN
from mrm.errors import CurationError

log = logging.getLogger(__name__)


Predict = Callable[[Any], torch.Tensor]


@dataclass
class PoolScores:
    """What a scoring pass found out.

    Args:
        rewards: float32 [R], a reward a response of the index (numbered as by `response_starts`); NaN where there is none.
        scored: bool [R], which responses have one: a model may well give NaN.
        unreadable: row -> why its sample has none.
    """

    rewards: np.ndarray
    scored: np.ndarray
    unreadable: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, index: Index) -> PoolScores:
        """Nothing scored yet."""
        responses = int(index.n_responses.sum())
        return cls(np.full(responses, np.nan, np.float32), np.zeros(responses, bool))


@dataclass(frozen=True)
class Scorer:
    """Who scores.

    Args:
        modules: those that stand in evaluation mode meanwhile.
        predict: a batch on the device -> float [S] rewards; called without gradients.
        encoder, layout: of a model other than the one in training; None for its own.
        training: modules that stay in training mode, for dropout.
        title: of the bar that shows progress.
    """

    modules: tuple[torch.nn.Module, ...]
    predict: Predict
    encoder: Any = None
    layout: str | None = None
    training: tuple[torch.nn.Module, ...] = ()
    title: str = "Scoring the pool"


def own_scorer(trainer: Trainer, pl_module: LightningModule) -> Scorer:
    """The model in training, as it stands."""
    return Scorer((pl_module,), trainer.strategy.predict_step)


def score_pool(trainer: Trainer, scorer: Scorer, datamodule: Any, rows: np.ndarray) -> PoolScores:
    """Scores samples, each distinct (images, prompt, response) once. Called by all ranks together; every rank gets all scores.

    Args:
        trainer: gives device, precision, ranks.
        scorer: who scores.
        datamodule: gives `index` and `score_dataloader(rows, responses, ...)`, which counts what cannot be read.
        rows: int64[n], samples to score, each once.

    Raises:
        UnreadableSamplesError: if the loader of any rank raised it, on every rank.
        CurationError: if a sample came back neither scored nor named unreadable.
    """
    index = datamodule.index
    scores, starts = PoolScores.empty(index), response_starts(index)
    if not len(rows):
        return scores
    plan = distinct_responses(index, rows)
    _score(trainer, scorer, datamodule, plan.rows, plan.responses, scores)
    scores.rewards[plan.copy_to] = scores.rewards[plan.copy_from]
    scores.scored[plan.copy_to] = scores.scored[plan.copy_from]
    left = np.unique(np.searchsorted(starts, plan.copy_to[~scores.scored[plan.copy_to]], side="right") - 1)
    left = np.array([row for row in left.tolist() if row not in scores.unreadable], np.int64)
    if len(left):  # what they were to share could not be read where it stood first
        _score(trainer, scorer, datamodule, left, {}, scores)
    _check_complete(scores, index, rows)
    return scores


def _score(
    trainer: Trainer,
    scorer: Scorer,
    datamodule: Any,
    rows: np.ndarray,
    responses: Mapping[int, tuple[int, ...]],
    into: PoolScores,
) -> None:
    """Scores these rows over all ranks; what any of them found is in `into` on each."""
    found, failure = _Found(), None
    try:
        share = share_of_rank(rows, trainer.global_rank, trainer.world_size)
        _score_rows(trainer, scorer, datamodule, share, responses, found)
    except ValueError as error:  # told to the others below: a rank that raises alone leaves them waiting
        if trainer.world_size == 1:
            raise
        failure = error
    starts = response_starts(datamodule.index)
    for theirs, problem in reversed(gather((found, failure), trainer.world_size)):
        if problem is not None:
            raise problem
        for row, values in theirs.rewards.items():  # rank 0 last: where filler was scored twice, its value stands
            places = starts[row] + np.array(responses.get(row, range(len(values))))
            into.rewards[places], into.scored[places] = values, True
        into.unreadable.update(theirs.unreadable)


@dataclass
class _Found:
    """One rank's: row -> float32 [k], the responses asked for; row -> why there are none."""

    rewards: dict[int, np.ndarray] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)


def share_of_rank(rows: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """Every world_size-th row from `rank` on; the first rows are repeated so that all ranks run equally many batches.

    Ranks that disagree on the number of forward passes hang under DDP and FSDP.
    """
    if len(rows) == 0:
        return rows
    padded = np.resize(rows, -(-len(rows) // world_size) * world_size)
    return padded[rank::world_size]


def pair_scores(scores: PoolScores, index: Index, needed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spreads the responses' rewards over the pairs.

    Args:
        scores: all samples of the needed pairs.
        index: pairs in its order.
        needed: bool[P].

    Returns:
        float32[P] reward of the published choice, float32[P] of the other (NaN where not needed or unreadable), and
        object[P], why the sample is unreadable, or "".
    """
    first = response_starts(index)[index.pair_sample]
    nothing = np.float32(np.nan)
    chosen = np.where(needed, scores.rewards[first + index.pair_chosen], nothing)
    rejected = np.where(needed, scores.rewards[first + index.pair_rejected], nothing)
    reasons = np.full(len(needed), "", object)
    for row, why in scores.unreadable.items():
        reasons[index.pair_start[row] : index.pair_start[row + 1]] = why
    return chosen, rejected, np.where(needed, reasons, "")


def pair_truth(index: Index, needed: np.ndarray, read: Callable[[np.ndarray], Sequence[Any]]) -> np.ndarray:
    """int8[P]: 1 where the published label is known to be wrong, 0 where right, -1 unknown. For reporting only.

    Args:
        index: where the samples lie.
        needed: bool[P], pairs to look up.
        read: gives `meta["truth"]` of each of these rows, or None.
    """
    truth = np.full(len(needed), UNKNOWN, np.int8)
    rows = np.unique(index.pair_sample[needed])
    for row, known in zip(rows, read(rows), strict=True):
        pairs = slice(index.pair_start[row], index.pair_start[row + 1])
        flipped = known.get("flipped") if isinstance(known, Mapping) else None
        if isinstance(flipped, list) and len(flipped) == pairs.stop - pairs.start:
            truth[pairs] = flipped
    return truth


def shows_progress(trainer: Trainer) -> bool:
    """Rank 0 shows progress where the trainer does."""
    return trainer.is_global_zero and trainer.progress_bar_callback is not None


def _score_rows(
    trainer: Trainer,
    scorer: Scorer,
    datamodule: Any,
    rows: np.ndarray,
    responses: Mapping[int, tuple[int, ...]],
    into: _Found,
) -> None:
    loader = datamodule.score_dataloader(rows, responses, encoder=scorer.encoder, layout=scorer.layout)
    row_of = dict(zip(datamodule.index.keys[rows], rows.tolist(), strict=True))
    with _evaluating(scorer), torch.no_grad(), _progress(trainer) as progress:
        task = progress.add_task(scorer.title, total=len(loader))
        for batch in loader:
            for sample in batch.unreadable:
                into.unreadable[row_of[sample.key]] = sample.reason
            if batch.keys:
                moved = trainer.strategy.batch_to_device(batch)
                rewards = scorer.predict(moved).float().cpu().numpy()
                ends = np.cumsum(batch.response_counts)[:-1]
                into.rewards.update(
                    (row_of[key], values) for key, values in zip(batch.keys, np.split(rewards, ends), strict=True)
                )
            progress.advance(task)


def _check_complete(scores: PoolScores, index: Index, rows: np.ndarray) -> None:
    starts = response_starts(index)
    missing = np.concatenate([np.zeros(1, np.int64), np.cumsum(~scores.scored)])
    lost = [
        row for row in rows[missing[starts[rows + 1]] > missing[starts[rows]]].tolist() if row not in scores.unreadable
    ]
    if lost:
        raise CurationError(
            f"scoring lost {len(lost)} of {len(rows)} samples, first {index.keys[lost[0]]!r}: neither scored nor named unreadable."
        )


def gather(item: Any, world_size: int) -> list[Any]:
    """Every rank's item, by rank, on every rank."""
    if world_size == 1:
        return [item]
    items: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(items, item)
    return items


@contextmanager
def _evaluating(scorer: Scorer) -> Iterator[None]:
    """Evaluation mode, then every part back as it was: a frozen tower may stand in evaluation mode inside a training module."""
    modes = [(part, part.training) for module in scorer.modules for part in module.modules()]
    for module in scorer.modules:
        module.eval()
    for part in scorer.training:
        part.train()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _progress(trainer: Trainer) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not shows_progress(trainer))
