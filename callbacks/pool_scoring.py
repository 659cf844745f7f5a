"""Scores the open pool with the model as it stands: every response of every asked-for sample once, over all ranks.

Says what the scores are and who could not be read. What follows from a score is left to the policy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.index import Index
from mrm.curation.accounts import UNKNOWN
from mrm.errors import CurationError

log = logging.getLogger(__name__)


@dataclass
class PoolScores:
    """What a scoring pass found out.

    Args:
        rewards: key -> float32[K], one reward a response.
        unreadable: key -> why the sample has none.
    """

    rewards: dict[str, np.ndarray] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def score_pool(trainer: Trainer, pl_module: LightningModule, datamodule: Any, rows: np.ndarray) -> PoolScores:
    """Scores the samples of the given index rows. Called by all ranks together; every rank gets all scores.

    Args:
        trainer: gives device, precision, ranks.
        pl_module: its `predict_step` turns a batch into rewards float[S].
        datamodule: gives `index` and `score_dataloader(rows)`, which counts what cannot be read.
        rows: int64[n], samples to score, each once.

    Raises:
        UnreadableSamplesError: if the loader of any rank raised it, on every rank.
        CurationError: if a sample came back neither scored nor named unreadable.
    """
    local, failure = PoolScores(), None
    try:
        _score_rows(trainer, pl_module, datamodule, share_of_rank(rows, trainer.global_rank, trainer.world_size), local)
    except ValueError as error:  # told to the others below: a rank that raises alone leaves them waiting
        if trainer.world_size == 1:
            raise
        failure = error
    merged = PoolScores()
    for scores, problem in reversed(gather((local, failure), trainer.world_size)):
        if problem is not None:
            raise problem
        merged.rewards.update(scores.rewards)  # rank 0 last: where filler was scored twice, its value stands
        merged.unreadable.update(scores.unreadable)
    _check_complete(merged, datamodule.index.keys[rows])
    return merged


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
    chosen, rejected = np.full(len(needed), np.nan, np.float32), np.full(len(needed), np.nan, np.float32)
    reasons = np.full(len(needed), "", object)
    for pair in np.flatnonzero(needed):
        key = index.keys[index.pair_sample[pair]]
        rewards = scores.rewards.get(key)
        if rewards is None:
            reasons[pair] = scores.unreadable[key]
        else:
            chosen[pair], rejected[pair] = rewards[index.pair_chosen[pair]], rewards[index.pair_rejected[pair]]
    return chosen, rejected, reasons


def pair_truth(datamodule: Any, needed: np.ndarray) -> np.ndarray:
    """int8[P]: 1 where the published label is known to be wrong, 0 where right, -1 unknown. For reporting only.

    Args:
        datamodule: gives `index` and `read_truth(rows)`, each sample's `meta["truth"]` or None.
        needed: bool[P], pairs to look up.
    """
    index = datamodule.index
    truth = np.full(len(needed), UNKNOWN, np.int8)
    rows = np.unique(index.pair_sample[needed])
    for row, known in zip(rows, datamodule.read_truth(rows), strict=True):
        pairs = slice(index.pair_start[row], index.pair_start[row + 1])
        flipped = known.get("flipped") if isinstance(known, Mapping) else None
        if isinstance(flipped, list) and len(flipped) == pairs.stop - pairs.start:
            truth[pairs] = flipped
    return truth


def shows_progress(trainer: Trainer) -> bool:
    """Rank 0 shows progress where the trainer does."""
    return trainer.is_global_zero and trainer.progress_bar_callback is not None


def _score_rows(
    trainer: Trainer, pl_module: LightningModule, datamodule: Any, rows: np.ndarray, into: PoolScores
) -> None:
    loader = datamodule.score_dataloader(rows)
    with _evaluating(pl_module), torch.no_grad(), _progress(trainer) as progress:
        task = progress.add_task("Scoring the pool", total=len(loader))
        for batch in loader:
            for sample in batch.unreadable:
                into.unreadable[sample.key] = sample.reason
            if batch.keys:
                moved = trainer.strategy.batch_to_device(batch)
                rewards = trainer.strategy.predict_step(moved).float().cpu().numpy()
                for key, values in zip(
                    batch.keys, np.split(rewards, np.cumsum(batch.response_counts)[:-1]), strict=True
                ):
                    into.rewards[key] = values
            progress.advance(task)


def _check_complete(scores: PoolScores, keys: np.ndarray) -> None:
    lost = [key for key in keys if key not in scores.rewards and key not in scores.unreadable]
    if lost:
        raise CurationError(
            f"scoring lost {len(lost)} of {len(keys)} samples, first {lost[0]!r}: neither scored nor named unreadable."
        )


def gather(item: Any, world_size: int) -> list[Any]:
    """Every rank's item, by rank, on every rank."""
    if world_size == 1:
        return [item]
    items: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(items, item)
    return items


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, then every part back as it was: a frozen tower may stand in evaluation mode inside a training module."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _progress(trainer: Trainer) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not shows_progress(trainer))
