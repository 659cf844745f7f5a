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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks.annotating import Annotators, Poll
from callbacks.curation_record import check_active_share
from callbacks.curation_round import RoundOutcome, begin_round, decide_round, warning_of
from callbacks.curation_schedule import RoundSpec, check_run, check_settings, round_spec
from callbacks.curation_steps import to_score
from callbacks.pool_scoring import gather, pair_truth, shows_progress
from callbacks.round_inputs import PairScores, Votes
from callbacks.score_passes import FROM_TRAINING, ScorePass, pass_problems, score_pairs, score_pass
from callbacks.training_scores import TrainingScores
from datamodules.ledger import Decision, Ledger, set_aside_after
from datamodules.tarscan import folder_digest
from mrm.curation.judge_accounts import judge_accounts
from mrm.curation.rules import without_guards
from mrm.errors import ConfigError, LedgerError

ASKING = "the judges are still being asked"
_SIGN_OF_LIFE_S = 60.0  # far below the limits of process groups, 10 minutes and more
HEADS = ("model.head.", "model.text_head.")  # of `mrm.model.reward_module.RewardModule`

log = logging.getLogger(__name__)


class IterativeCuration(pl.Callback):
    """Runs the scheduled rounds; the trainer must reload its dataloaders every epoch.

    Args:
        schedule: the rounds, by rising `after_epoch`; `RoundSpec`s or mappings with their fields. May be empty: no curation.
        annotators: the judges for `annotate`; each sees every queued pair in both orders. None where no round annotates.
        restart: what a round is followed by: `warm` goes on from the weights, `cold` starts again from the first ones, `head`
            goes on with the backbone under the first head.
        passes: how the pool is scored; `ScorePass`es or mappings with their fields.
        recorded: keeps what training computes, for passes that go by it; a callback of the same trainer, before this one.
        min_active_share: a round that would leave fewer than this share of the open pairs in use stops the run, in [0, 1].

    Attributes:
        rounds: one record a round that has run, see `curation_record.round_record`.
        seconds: one a round that this process has run: `round` as a whole, `scoring` and `asking` of it.

    Raises:
        ConfigError: listing every problem of the arguments.
    """

    def __init__(
        self,
        schedule: Sequence[RoundSpec | Mapping[str, Any]],
        *,
        annotators: Annotators | None = None,
        restart: str = "warm",
        passes: Sequence[ScorePass | Mapping[str, Any]] = (ScorePass(),),
        recorded: TrainingScores | None = None,
        min_active_share: float = 0.25,
    ) -> None:
        self.schedule = [round_spec(spec) for spec in schedule]
        self.annotators = annotators
        self.restart = restart
        self.passes = [score_pass(spec) for spec in passes]
        self.recorded = recorded or TrainingScores(enabled=False)
        self.min_active_share = min_active_share
        self.rounds: list[dict[str, Any]] = []
        self.seconds: list[dict[str, float]] = []
        self._truth: np.ndarray | None = None  # read once; for the records only
        self._base_state: dict[str, torch.Tensor] | None = None
        self._digests: dict[str, str] = {}
        if problems := pass_problems(self.passes):
            raise ConfigError("the pool cannot be scored as configured:\n- " + "\n- ".join(problems))
        passes = sum(spec.count for spec in self.passes)  # 1 of all kinds but `dropout`
        check_settings(self.schedule, self.annotators, restart, min_active_share, passes=passes)
        if any(spec.kind in FROM_TRAINING for spec in self.passes) and not self.recorded.enabled:
            raise ConfigError("score passes that go by training's own scores need the callback that records them.")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not self.schedule:
            return
        if trainer.datamodule is None:
            raise ConfigError("curation needs a datamodule with a ledger: call trainer.fit(module, datamodule=...).")
        # A checkpoint taken on an epoch's last batch resumes behind the boundary: the datamodule must refuse to go on.
        trainer.datamodule.expected_round = self.expected_round
        if self.restart != "warm":  # here, because a resumed run restores its checkpoint right after `setup`
            self._base_state = {
                name: value.detach().cpu().clone()
                for name, value in pl_module.state_dict().items()
                if self.restart == "cold" or name.startswith(HEADS)
            }

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.schedule:
            self.passes = [_at_its_place(spec) for spec in self.passes]
            check_run(self.schedule, self.restart, trainer, trainer.datamodule, self.passes)
            digests = self._model_digests() if trainer.is_global_zero else {}  # gigabytes: one process reads them
            self._digests = trainer.strategy.broadcast(digests)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ask_beside(trainer, self.expected_round(trainer.current_epoch))  # goes on with what a killed run began

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop_asking()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop_asking()

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
        digests = self._digests or self._model_digests()
        settings = {
            "rounds": [without_guards(asdict(spec)) for spec in self.schedule[:number]],
            "annotators": None if self.annotators is None else self.annotators.identity,
            "restart": self.restart,
            "passes": [
                asdict(spec) | ({"path": digests[spec.path]} if spec.path is not None else {}) for spec in self.passes
            ],  # a model is what its folder holds
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def _model_digests(self) -> dict[str, str]:
        """Of the saved models that score, by path."""
        return {spec.path: folder_digest(Path(spec.path)) for spec in self.passes if spec.path is not None}

    def _run_round(self, number: int, spec: RoundSpec, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        datamodule, started = trainer.datamodule, time.monotonic()
        before = self._ledger_before(number, datamodule)
        unreadable: dict[str, str] = {}
        for found in gather(datamodule.unreadable_reasons(), trainer.world_size):
            unreadable.update(found)
        start = begin_round(before, number, self.policy_fingerprint(number), unreadable)
        scores, scored = None, time.monotonic()
        if "score" in spec.steps:
            self.recorded.settle(trainer)
            needed = to_score(start, spec.steps)
            scores = score_pairs(self.passes, trainer, pl_module, datamodule, needed, self.recorded)
        self.seconds.append({"scoring": time.monotonic() - scored, "asking": 0.0})
        record: Any = None
        if trainer.is_global_zero:
            try:
                opened = ~datamodule.trusted[datamodule.index.pair_sample]
                outcome = self._decide(spec, before, start, opened, scores, trainer)
                ledger, record = outcome.ledger, outcome.record
                if spec.steps != ("score",) or (opened & before.active).any():  # before the first round none is in use
                    check_active_share(ledger, opened, self.min_active_share)
                set_aside_after(datamodule.ledger_dir, number - 1)  # left by a run that was killed behind this boundary
                ledger.write(datamodule.ledger_dir)
            except Exception as error:  # told to the other ranks, which would wait for ever
                if trainer.world_size == 1:
                    raise
                record = error
        record = trainer.strategy.broadcast(record)  # the barrier too: nobody reads the ledger before it is written
        while record == ASKING:  # the first process waits for its judges, and says so before the others lose patience
            record = trainer.strategy.broadcast(record)
        if isinstance(record, Exception):
            raise record
        self.rounds = [*self.rounds[: number - 1], record]
        self.seconds[-1]["round"] = time.monotonic() - started
        _log_round(trainer, record, self.seconds[-1])
        if trainer.is_global_zero and (told := warning_of(record, spec)):
            log.warning("%s", told)
        if self._base_state is not None:
            pl_module.restart(self._base_state)
        if self.restart != "warm":  # scores under another head are of another scale
            self.recorded.forget()
        self._ask_beside(trainer, number)

    def _ask_beside(self, trainer: pl.Trainer, number: int) -> None:
        """Has the queue of round `number` asked about while training goes on, if a later round takes the answers."""
        annotates = any("annotate" in spec.steps for spec in self.schedule[number:])
        if self.annotators is None or self.annotators.mode == "sync" or not annotates or not trainer.is_global_zero:
            return
        ledger = Ledger.latest(trainer.datamodule.ledger_dir, at_most=number)
        if ledger is not None and ledger.round == number:  # else the boundary will tell
            self.annotators.start(trainer.datamodule.index, np.flatnonzero(ledger.decision == Decision.QUEUE))

    def _stop_asking(self) -> None:
        if self.annotators is not None:
            self.annotators.stop()

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
        scores: PairScores | None,
        trainer: pl.Trainer,
    ) -> RoundOutcome:
        """The round itself; reads only the judged samples and, for the record, the truth."""
        index = trainer.datamodule.index
        if self._truth is None:
            self._truth = pair_truth(index, opened, trainer.datamodule.read_truth)
        figures: dict[str, float] = {}
        heard: list[tuple[np.ndarray, Votes]] = []

        def scores_of(needed: np.ndarray) -> PairScores:
            assert scores is not None and np.array_equal(needed, to_score(start, spec.steps))
            return scores

        def ask(queue: np.ndarray) -> Votes:
            assert self.annotators is not None, "checked with the schedule"
            began = time.monotonic()
            waited = np.flatnonzero(before.decision == Decision.QUEUE)
            progress, poll = shows_progress(trainer), _poll(trainer)
            answers = self.annotators.settle(index, queue, waited, progress=progress, poll=poll)
            figures.update(answers.figures)
            self.seconds[-1]["asking"] = time.monotonic() - began
            heard.append((queue, Votes(answers.votes, answers.unreadable, answers.asked)))
            return heard[-1][1]

        outcome = decide_round(before, start, spec, opened=opened, scores=scores_of, ask=ask, truth=self._truth)
        record = {**outcome.record, **figures}
        if self.annotators is not None and heard:
            ((queue, said),) = heard
            votes, queue = (said.votes, queue) if said.asked is None else (said.votes[said.asked], queue[said.asked])
            margin = (outcome.ledger.chosen_score - outcome.ledger.rejected_score)[queue]
            record["judges"] = judge_accounts(self.annotators.names, votes, margin, self._truth[queue])
        return replace(outcome, record=record)


def _at_its_place(spec: ScorePass) -> ScorePass:
    """With the folder that a link, such as `runs/latest`, means now; the next run turns it."""
    return spec if spec.path is None else replace(spec, path=str(Path(spec.path).resolve()))


def _poll(trainer: pl.Trainer) -> Poll:
    """What the main thread does while judges are asked: it heeds SIGTERM, and tells the other processes that it lives."""
    told_at = time.monotonic()

    def poll() -> None:
        nonlocal told_at
        if trainer.received_sigterm:
            raise SIGTERMException  # as Lightning's loops do; a round is not decided for want of time
        if trainer.world_size > 1 and time.monotonic() - told_at >= _SIGN_OF_LIFE_S:
            trainer.strategy.broadcast(ASKING)
            told_at = time.monotonic()

    return poll


def _log_round(trainer: pl.Trainer, record: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    """To the loggers and, in one line, to the log; only rank 0 does."""
    if not trainer.is_global_zero:
        return
    numbers = {name: value for name, value in record.items() if isinstance(value, (int, float)) and name != "epoch"}
    times = {"seconds" if name == "round" else f"{name}_seconds": value for name, value in seconds.items()}
    for logger in trainer.loggers:
        logger.log_metrics(
            {f"curation/{name}": float(value) for name, value in {**numbers, **times}.items()}, trainer.global_step
        )
    shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "round")
    log.info(
        "curation round %d after epoch %d (%s): %s", record["round"], record["epoch"], ", ".join(record["steps"]), shown
    )
