"""How many optimizer steps a training can have at most, known before its first: epochs are planned one by one, and curation changes them.

Upper bounds, not estimates: what they rule out can certainly never happen.
"""

from __future__ import annotations

import math

import lightning.pytorch as pl
import numpy as np

from datamodules.pool import trained_samples
from datamodules.preference_datamodule import PreferenceDataModule


def most_epoch_steps(trainer: pl.Trainer) -> float:
    """Optimizer steps that an epoch has at most, whatever curation does; infinite where nothing is known of later epochs."""
    datamodule, accumulate = trainer.datamodule, trainer.accumulate_grad_batches  # type: ignore[attr-defined]
    if isinstance(datamodule, PreferenceDataModule):
        steps: float = _planned_steps(datamodule, trainer)
    elif trainer.reload_dataloaders_every_n_epochs or math.isinf(trainer.num_training_batches):  # type: ignore[attr-defined]
        steps = math.inf
    else:
        steps = math.ceil(trainer.num_training_batches / accumulate)
    limit = trainer.limit_train_batches
    return min(steps, math.ceil(limit / accumulate)) if isinstance(limit, int) else steps


def most_steps(trainer: pl.Trainer, epochs: int, each: float) -> float:
    """Optimizer steps that so many epochs of at most `each` steps have at most, `max_steps` of the trainer being kept."""
    steps = epochs * each if epochs > 0 else 0
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def steps_of_entries(
    entries: int,
    *,
    batch_size: int,
    accumulate: int,
    world_size: int,
    length_window: int = 0,
    batch_tokens: int | None = None,
    longest: int = 1,
) -> int:
    """Steps of `datamodules.plan.epoch_plan`, at most.

    Args:
        entries: of the epoch, a sample that stands several times counted each time.
        longest: tokens of the longest sample.
        batch_size, accumulate, world_size, length_window, batch_tokens: as of `epoch_plan`.
    """
    parts = accumulate * world_size
    if batch_tokens is None:
        return math.ceil(entries / (batch_size * parts))
    least = min(
        batch_size, max(1, batch_tokens // max(1, longest))
    )  # samples a micro-batch, a window's last one excepted
    windows = math.ceil(entries / (length_window * batch_size * parts))
    return math.ceil(min(entries, entries // least + windows) / parts)


def _planned_steps(datamodule: PreferenceDataModule, trainer: pl.Trainer) -> int:
    """Of an epoch over all samples that a round may yet admit; over those trained on now where no round comes."""
    used, ledger = datamodule.mixture > 0, datamodule.ledger()
    last = trainer.max_epochs - 1 if trainer.max_epochs and trainer.max_epochs > 0 else None
    expected = datamodule.expected_round
    if expected is None or (last is not None and expected(last) == ledger.round):
        used &= trained_samples(datamodule.index, ledger)
    return steps_of_entries(
        int(np.ceil(datamodule.mixture[used]).sum()),
        batch_size=datamodule.batch_size,
        accumulate=trainer.accumulate_grad_batches,
        world_size=trainer.world_size,
        length_window=datamodule.length_window,
        batch_tokens=datamodule.batch_tokens,
        longest=int(datamodule.lengths[used].max(initial=1)),
    )
