"""Curation at epoch boundaries: the model that is being trained cleans the open part of its own pool.

Gather (all ranks score the pool), decide (pure steps over the ledger), write (rank 0, atomically), log. The next epoch's
plan reads the new ledger. A round depends on the weights, the ledger before it, what could not be read and the judges alone,
so that a run killed in the middle does the round again with the same result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks.curation_record import check_active_share
from callbacks.curation_round import PairScores, RoundOutcome, Votes, begin_round, decide_round
from callbacks.curation_schedule import RoundSpec, check_run, check_settings, round_spec
from callbacks.curation_steps import to_score
from callbacks.judging import ask_judges
from callbacks.pool_scoring import PoolScores, gather, pair_scores, pair_truth, score_pool, shows_progress
from datamodules.ledger import Ledger, set_aside_after
from mrm.construction.judges import Annotator
from mrm.errors import ConfigError, LedgerError

log = logging.getLogger(__name__)


class IterativeCuration(pl.Callback):
    """Runs the scheduled rounds; the trainer must reload its dataloaders every epoch.

    Args:
        schedule: the rounds, by rising `after_epoch`; `RoundSpec`s or mappings with their fields. May be empty: no curation.
        annotators: the judges for `annotate`; each sees every queued pair in both orders.
        restart: what a round is followed by: `warm` goes on from the weights, `cold` starts again from the first ones.
        min_active_share: a round that would leave fewer than this share of the open pairs in use stops the run, in [0, 1].

    Attributes:
        rounds: one record a round that has run, see `curation_record.round_record`.

    Raises:
        ConfigError: listing every problem of the arguments.
    """

    def __init__(
        self,
        schedule: Sequence[RoundSpec | Mapping[str, Any]],
        *,
        annotators: Sequence[Annotator] = (),
        restart: str = "warm",
        min_active_share: float = 0.25,
    ) -> None:
        self.schedule = [round_spec(spec) for spec in schedule]
        self.annotators = list(annotators)
        self.restart = restart
        self.min_active_share = min_active_share
        self.rounds: list[dict[str, Any]] = []
        self._truth: np.ndarray | None = None  # read once; for the records only
        self._base_state: dict[str, torch.Tensor] | None = None
        check_settings(self.schedule, self.annotators, restart, min_active_share)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not self.schedule:
            return
        if trainer.datamodule is None:
            raise ConfigError("curation needs a datamodule with a ledger: call trainer.fit(module, datamodule=...).")
        # A checkpoint taken on an epoch's last batch resumes behind the boundary: the datamodule must refuse to go on.
        trainer.datamodule.expected_round = self.expected_round
        if self.restart == "cold":  # here, because a resumed run restores its checkpoint right after `setup`
            self._base_state = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.schedule:
            check_run(self.schedule, self.restart, trainer, trainer.datamodule)

    def expected_round(self, epoch: int) -> int:
        """The round whose ledger an epoch must be trained with: all boundaries before it have passed."""
        return sum(spec.after_epoch < epoch for spec in self.schedule)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number, spec in enumerate(self.schedule, start=1):
            if spec.after_epoch == trainer.current_epoch:
                with isolate_rng():  # a round must not shift the random numbers of the training behind it
                    self._run_round(number, spec, trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rounds = list(state_dict["rounds"])

    def policy_fingerprint(self, number: int) -> str:
        """Digest of all settings that the ledger of round `number` depends on; "" for round 0."""
        if number == 0:
            return ""
        settings = {
            "rounds": [asdict(spec) for spec in self.schedule[:number]],
            "annotators": [annotator.name for annotator in self.annotators],
            "restart": self.restart,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def _run_round(self, number: int, spec: RoundSpec, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        datamodule, started = trainer.datamodule, time.monotonic()
        before = self._ledger_before(number, datamodule)
        unreadable: dict[str, str] = {}
        for found in gather(datamodule.unreadable_reasons(), trainer.world_size):
            unreadable.update(found)
        start = begin_round(before, number, self.policy_fingerprint(number), unreadable)
        scores = PoolScores()
        if "score" in spec.steps:
            rows = np.unique(datamodule.index.pair_sample[to_score(start, spec.steps)])
            scores = score_pool(trainer, pl_module, datamodule, rows)
        record: Any = None
        if trainer.is_global_zero:
            try:
                opened = ~datamodule.trusted[datamodule.index.pair_sample]
                outcome = self._decide(spec, before, start, opened, scores, trainer)
                ledger, record = outcome.ledger, outcome.record
                if spec.steps != ("score",):
                    check_active_share(ledger, opened, self.min_active_share)
                set_aside_after(datamodule.ledger_dir, number - 1)  # left by a run that was killed behind this boundary
                ledger.write(datamodule.ledger_dir)
            except Exception as error:  # told to the other ranks, which would wait for ever
                if trainer.world_size == 1:
                    raise
                record = error
        record = trainer.strategy.broadcast(record)  # the barrier too: nobody reads the ledger before it is written
        if isinstance(record, Exception):
            raise record
        self.rounds = [*self.rounds[: number - 1], record]
        _log_round(trainer, record, time.monotonic() - started)
        if self.restart == "cold":
            pl_module.restart(self._base_state)

    def _ledger_before(self, number: int, datamodule: Any) -> Ledger:
        before = Ledger.latest(datamodule.ledger_dir, at_most=number - 1)
        if before is None or before.round != number - 1:
            found = "none" if before is None else f"round {before.round}"
            raise LedgerError(
                f"{datamodule.ledger_dir}: round {number} of curation needs the ledger of round {number - 1}, found {found}. "
                "Its file was removed or the run was resumed from another run's checkpoint; start in a new output directory."
            )
        before.check_fits(datamodule.index)
        if number > 1 and before.policy_fingerprint != self.policy_fingerprint(number - 1):
            raise LedgerError(
                f"{datamodule.ledger_dir}: the ledger of round {number - 1} was made under other curation settings "
                f"({before.policy_fingerprint}, now {self.policy_fingerprint(number - 1)}); start in a new output directory."
            )
        return before

    def _decide(
        self,
        spec: RoundSpec,
        before: Ledger,
        start: Ledger,
        opened: np.ndarray,
        scores: PoolScores,
        trainer: pl.Trainer,
    ) -> RoundOutcome:
        """The round itself; reads only the judged samples and, for the record, the truth."""
        index = trainer.datamodule.index
        if self._truth is None:
            self._truth = pair_truth(trainer.datamodule, opened)

        def scores_of(needed: np.ndarray) -> PairScores:
            chosen, rejected, reasons = pair_scores(scores, index, needed)
            return PairScores(chosen[None], rejected[None], reasons)

        def ask(queue: np.ndarray) -> Votes:
            return Votes(*ask_judges(self.annotators, index, queue, progress=shows_progress(trainer)))

        return decide_round(before, start, spec, opened=opened, scores=scores_of, ask=ask, truth=self._truth)


def _log_round(trainer: pl.Trainer, record: Mapping[str, Any], seconds: float) -> None:
    """To the loggers and, in one line, to the log; only rank 0 does."""
    if not trainer.is_global_zero:
        return
    numbers = {name: value for name, value in record.items() if isinstance(value, (int, float)) and name != "epoch"}
    for logger in trainer.loggers:
        logger.log_metrics(
            {f"curation/{name}": float(value) for name, value in {**numbers, "seconds": seconds}.items()},
            trainer.global_step,
        )
    shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "round")
    log.info(
        "curation round %d after epoch %d (%s): %s", record["round"], record["epoch"], ", ".join(record["steps"]), shown
    )
