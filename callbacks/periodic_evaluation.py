"""Evaluation while training: every few steps or epochs the held-out sets are scored, the run may stop by them, and its best weights be kept.

Gather (all ranks score the sets), decide (pure, `mrm.evaluation.course`), write, log. An evaluation reads the weights and changes nothing that the
training goes on with: neither its random numbers nor the modes of its modules. All that is decided follows from the evaluations so far, which
a checkpoint holds; a run that was killed does those behind its checkpoint again, and decides the same.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks.best_weights import BestWeights
from callbacks.pool_scoring import own_scorer, pair_scores, score_pool
from callbacks.training_length import most_epoch_steps, most_steps
from mrm.errors import ConfigError, MrmError
from mrm.evaluation.course import EarlyStopping, Evaluation, all_figures, best, pair_figures, stops

log = logging.getLogger(__name__)


class PeriodicEvaluation(pl.Callback):
    """Evaluates; stands before the callbacks that act at an epoch's end, since a round of curation may give the model other weights.

    Args:
        sets: names of the sets of role `val`, by which the run may be stopped or its best weights chosen.
        shown: names of test sets that are evaluated too, for nobody to choose by.
        every_n_steps: optimizer steps between two evaluations; None for none within an epoch.
        every_n_epochs: the same at epochs' ends.
        stopping: when the training is stopped; None never does.
        best: keeps the best weights; None keeps none.

    Attributes:
        evaluations: all so far.
        at_last_batch: whether the newest of them came behind the training's last batch.
        seconds: that this process has spent on them.
    """

    def __init__(
        self,
        sets: Sequence[str],
        *,
        shown: Sequence[str] = (),
        every_n_steps: int | None = None,
        every_n_epochs: int | None = 1,
        stopping: EarlyStopping | None = None,
        best: BestWeights | None = None,
    ) -> None:
        self.sets, self.shown = tuple(sets), tuple(shown)
        self.every_n_steps, self.every_n_epochs = every_n_steps, every_n_epochs
        self.stopping, self.best = stopping, best
        self.evaluations: list[Evaluation] = []
        self.at_last_batch = False
        self.seconds = 0.0

    @property
    def stopped(self) -> bool:
        """Whether the training was, or is to be, stopped."""
        return self.stopping is not None and stops(self.evaluations, self.stopping)

    def summary(self) -> dict[str, Any]:
        """What is to be told in the end, as JSON types; empty where nothing was evaluated."""
        if not self.evaluations:
            return {}
        chosen = None if self.best is None else best(self.evaluations, self.best.metric)[0]
        return {
            "evaluations": len(self.evaluations),
            "last": self.evaluations[-1].to_json(),
            "best": None if chosen is None or self.best is None else {"metric": self.best.metric, **chosen.to_json()},
            "stopped_early": self.stopped and not self.at_last_batch,  # patience may run out with the very last step
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_comes(trainer)
        if self.best is not None:
            self.best.settle(trainer, self.evaluations)
        if self.stopped:  # and killed behind it
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_steps and trainer.global_step and trainer.global_step % self.every_n_steps == 0:
            self._evaluate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best is not None:
            self.best.settle(trainer, self.evaluations)

    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": [one.to_json() for one in self.evaluations], "at_last_batch": self.at_last_batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.evaluations = [Evaluation(**one) for one in state_dict["evaluations"]]
        self.at_last_batch = state_dict.get("at_last_batch", False)  # checkpoints of before lack it

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.best is not None:
            self.best.note_checkpoint(self.evaluations)

    def _check_comes(self, trainer: pl.Trainer) -> None:
        """Refuses steps between evaluations that certainly never come, or never often enough to stop, before a step is done.

        What is known without the steps of an epoch, `mrm.evaluation_checks` has refused. A run that goes on has steps to lose, and is let be.

        Raises:
            ConfigError: then.
        """
        every, epochs = self.every_n_steps, trainer.max_epochs
        if not every or trainer.global_step or trainer.fast_dev_run or epochs is None or epochs < 0:  # type: ignore[attr-defined]
            return
        ends = epochs // self.every_n_epochs if self.every_n_epochs else 0
        each = most_epoch_steps(trainer)
        total = most_steps(trainer, epochs, each)
        known = f"of at most {total} steps (trainer.max_epochs={epochs})"
        if not ends and total < every:
            raise ConfigError(
                f"evaluation.every_n_steps={every}: nothing is ever evaluated in a training {known}; give at most so many, or"
                f" evaluation.every_n_epochs of at most {epochs}."
            )
        if self.stopping is None:
            return
        first, patience = self.stopping.first_epoch, self.stopping.patience
        rest = most_steps(trainer, epochs - first, each)
        counting = rest / every if math.isinf(rest) else int(-(-rest // every) if first else rest // every)
        if self.every_n_epochs:
            counting += ends - first // self.every_n_epochs
        if counting <= patience:
            behind = f" behind the last round of curation, after epoch {first - 1}," if first else ""
            raise ConfigError(
                f"evaluation.early_stopping.patience={patience}: can never stop this training {known}: with evaluation.every_n_steps={every}"
                f"{behind} at most {counting} evaluations count, and the first of them has nothing to improve on. Evaluate more often, train"
                " for more epochs, or lower the patience."
            )

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
        if (
            self.evaluations and self.evaluations[-1].step == step
        ):  # a micro-batch before the next step, or an epoch's end
            return
        began = time.perf_counter()
        self.at_last_batch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        with isolate_rng():
            found = {name: self._measure(name, trainer, pl_module) for name in (*self.sets, *self.shown)}
            figures = all_figures(found, self.sets)
            self.evaluations.append(Evaluation(step, trainer.current_epoch, figures))
            if self.best is not None:
                self.best.update(trainer, self.evaluations)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(figures, step)
            log.info(
                "evaluation at step %d: %s",
                step,
                ", ".join(f"{name} {own['accuracy']:.4f} (loss {own['loss']:.4f})" for name, own in found.items()),
            )
        if self.stopped:
            trainer.should_stop = True
            if self.stopping is not None and trainer.is_global_zero:
                log.info(
                    "the training stops at step %d: %s has not improved in %d evaluations",
                    step,
                    self.stopping.metric,
                    self.stopping.patience,
                )
        self.seconds += time.perf_counter() - began

    def _measure(self, name: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """A set's figures, over the pairs that can be read; every rank scores a share of the samples.

        Raises:
            UnreadableSamplesError: for more unreadable samples than the run allows.
            MrmError: where there is no pair left, or a reward is not a finite number.
        """
        held_out = trainer.datamodule.held_out(name)  # type: ignore[attr-defined]
        index = held_out.index
        scorer = dataclasses.replace(own_scorer(trainer, pl_module), title=f"Evaluating {name}")
        scores = score_pool(trainer, scorer, held_out, np.arange(len(index)))
        chosen, rejected, unreadable = pair_scores(scores, index, np.ones(index.n_pairs, bool))
        read = unreadable == ""
        if not read.any():
            raise MrmError(f"data set {name!r}: none of its pairs can be read, so there is nothing to evaluate by.")
        if not (np.isfinite(chosen[read]) & np.isfinite(rejected[read])).all():
            raise MrmError(
                f"the training has diverged: at step {trainer.global_step} rewards of data set {name!r} are not finite numbers. Lower"
                " optim.lr and optim.head_lr, or look for what is wrong with the data, and start a new run."
            )
        return pair_figures(chosen[read], rejected[read])
