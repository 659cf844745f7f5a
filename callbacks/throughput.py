"""Logs how fast training goes: pairs and tokens per second, all ranks together, data loading included."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch

from mrm.errors import ConfigError
from mrm.model.packing import PADDING, RewardBatch


class Throughput(pl.Callback):
    """Logs `throughput/pairs_per_second` and `throughput/tokens_per_second` every n optimizer steps.

    Evaluation and curation don't count: the clock starts anew with each epoch, and what is told of as idle is left out.

    Args:
        every_n_steps: optimizer steps between two figures; at least 1.
        idle: gives the seconds so far, from any start, in which no batch was trained on although an epoch ran.
    """

    def __init__(self, every_n_steps: int = 50, *, idle: Callable[[], float] = lambda: 0.0) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"every_n_steps={every_n_steps} must be at least 1.")
        self.every_n_steps = every_n_steps
        self._idle = idle
        self._start_clock(0)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_clock(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: RewardBatch, batch_idx: int
    ) -> None:
        pairs, tokens = (batch.edge_weight > 0).sum(), (batch.sequence_ids != PADDING).sum()
        # Added up on the device: reading them every batch would make the host wait for it.
        self._counts = torch.stack([pairs, tokens]) + (0 if self._counts is None else self._counts)
        if trainer.global_step - self._since_step < self.every_n_steps:
            return
        totals = trainer.strategy.reduce(self._counts.double(), reduce_op="sum").tolist()
        seconds = max(time.perf_counter() - self._since - (self._idle() - self._idle_before), 1e-9)
        names = ("throughput/pairs_per_second", "throughput/tokens_per_second")
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(
                {name: total / seconds for name, total in zip(names, totals, strict=True)}, trainer.global_step
            )
        self._start_clock(trainer.global_step)

    def _start_clock(self, step: int) -> None:
        self._since, self._since_step, self._idle_before = time.perf_counter(), step, self._idle()
        self._counts: torch.Tensor | None = None
