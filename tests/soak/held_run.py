"""`python -m mrm.run` in a process of its own that stops at a named place and waits there: for SIGKILL, or to be let go on.

A place is passed before a function that the run calls anyway, or in the middle of a write; the functions do what they always do,
and where no place is named the run is the undisturbed one. How often each place was passed is written down at the end, so
that whoever kills can choose among all passings.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import openai  # noqa: F401  # imported where used otherwise, here for all runs at once
import torch
import transformers.models.qwen3_vl.modeling_qwen3_vl  # noqa: F401

import callbacks.checkpoints
import callbacks.curation_round
import callbacks.iterative_curation
import callbacks.score_passes
import datamodules.ledger
import mrm.construction.calling.answer_log
import mrm.run
from mrm.construction.calling.answer_log import AnswerLog
from mrm.run_dirs import RESULTS_FILE
from tests.soak.places import (
    AFTER_LEDGER,
    BEFORE_LEDGER,
    FIRST_BATCHES,
    FULL_DISK,
    GO,
    HELD,
    PASSED,
    PRINTED,
    WITHIN_LEDGER,
    Place,
    of_round,
)

_LONGEST_S = 600.0  # that a run is held; it ends then, lest it outlive whoever forgot it
_LOOK_S = 0.005
_DECIDING = {
    callbacks.curation_round: (
        "record_scores", "correct", "filter_pool", "settle_queue", "check_caps", "round_record"
    ),
    callbacks.iterative_curation: ("check_active_share", "set_aside_after"),
}  # fmt: skip


@dataclass
class Passings:
    """Counts the places that a run passes, and holds it at one of them.

    Args:
        folder: where `held` appears while the run is held; it goes on when `go` is there.
        place: where to hold; None counts only.
    """

    folder: Path
    place: Place | None
    counts: Counter[str] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def reached(self, name: str) -> bool:
        """Counts a passing; whether it is the one to hold at."""
        with self._guard:  # answers are kept by another thread
            self.counts[name] += 1
            return self.place is not None and (self.place.name, self.place.number) == (name, self.counts[name])

    def by(self, name: str) -> None:
        """Passes a place."""
        if self.reached(name):
            self.hold()

    def hold(self) -> None:
        """Waits for the kill, or to be let go on: as one whose disk is full, if it is told so."""
        (self.folder / HELD).write_text(str(os.getpid()))
        began = time.monotonic()
        while not (self.folder / GO).exists():
            if time.monotonic() - began > _LONGEST_S:
                os._exit(70)
            time.sleep(_LOOK_S)
        if (self.folder / GO).read_text() == FULL_DISK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def before(self, owner: Any, name: str, place: str) -> None:
        """Has calls of a function pass a place first."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def passing(*arguments: Any, **named: Any) -> Any:
            self.by(place)
            return function(*arguments, **named)

        setattr(owner, name, passing)


class Standing:
    """A module as one other module sees it, with some functions replaced."""

    def __init__(self, module: Any, **replaced: Callable[..., Any]) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class FirstBatches(pl.Callback):
    """Passes the place at the first batches of each epoch after a round."""

    def __init__(self, passings: Passings) -> None:
        self._passings = passings

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):  # before the checkpoint of that step
        if trainer.current_epoch and batch_idx < FIRST_BATCHES:
            self._passings.by("one of the first batches after a round")


def install(passings: Passings) -> None:
    """Puts the places into the modules of this process. A full disk is met by a held write, before or in the middle of it."""
    for module, names in _DECIDING.items():
        for name in names:
            passings.before(module, name, "a step of the decision")
    _install_scoring(passings)
    _install_ledger(passings)
    _install_answers(passings)
    _install_checkpoints(passings)
    build = mrm.run.build_trainer

    def build_trainer(*arguments: Any) -> pl.Trainer:
        trainer = build(*arguments)
        trainer.callbacks.insert(0, FirstBatches(passings))
        return trainer

    mrm.run.build_trainer = build_trainer
    passings.before(mrm.run, "save_reward_model", "before the model is saved")
    write = mrm.run.write_json

    def write_json(path: Path, value: Any) -> None:
        ends = path.name == RESULTS_FILE
        if ends:
            passings.by("before the results are written")
        write(path, value)
        if ends:
            passings.by("after the results were written")

    mrm.run.write_json = write_json


def _install_scoring(passings: Passings) -> None:
    make = callbacks.score_passes.own_scorer

    def own_scorer(*arguments: Any) -> Any:
        scorer = make(*arguments)

        def predict(batch: Any) -> torch.Tensor:
            passings.by("a batch of the pool is scored")
            return scorer.predict(batch)

        return replace(scorer, predict=predict)

    callbacks.score_passes.own_scorer = own_scorer


def _install_ledger(passings: Passings) -> None:
    parquet = datamodules.ledger.pq

    def write_table(table: Any, file: Any, **settings: Any) -> None:
        number = int(table.schema.metadata[b"ledger_round"])
        passings.by(BEFORE_LEDGER)
        passings.by(of_round(BEFORE_LEDGER, number))
        held = [passings.reached(name) for name in (WITHIN_LEDGER, of_round(WITHIN_LEDGER, number))]
        if not any(held):
            parquet.write_table(table, file, **settings)
            return
        whole = io.BytesIO()
        parquet.write_table(table, whole, **settings)
        content = whole.getvalue()
        file.write(content[: len(content) // 2])
        file.flush()
        passings.hold()
        file.write(content[len(content) // 2 :])

    def rename(source: Path, target: Path) -> None:
        snapshot = target.suffix == ".parquet"
        if snapshot:
            passings.by("before the ledger is renamed")
        os.replace(source, target)
        if snapshot:
            passings.by(AFTER_LEDGER)
            passings.by(of_round(AFTER_LEDGER, int(target.stem.removeprefix("round_"))))

    datamodules.ledger.pq = Standing(parquet, write_table=write_table)
    datamodules.ledger.os = Standing(os, replace=rename)


def _install_answers(passings: Passings) -> None:
    def write(file: int, line: bytes) -> int:
        if not passings.reached("in the middle of an answer"):
            return os.write(file, line)
        written = os.write(file, line[: len(line) // 2])
        passings.hold()
        return written + os.write(file, line[written:])

    passings.before(AnswerLog, "append", "before an answer is kept")
    mrm.construction.calling.answer_log.os = Standing(os, write=write)


def _install_checkpoints(passings: Passings) -> None:
    save = pl.Trainer.save_checkpoint

    def save_checkpoint(trainer: pl.Trainer, filepath: Path, *arguments: Any, **named: Any) -> None:
        passings.by("before a checkpoint is written")
        if passings.reached("in the middle of a checkpoint"):
            save(trainer, filepath, *arguments, **named)
            if filepath.is_file():
                os.truncate(filepath, filepath.stat().st_size // 2)  # as a kill in the middle leaves it
            passings.hold()
        save(trainer, filepath, *arguments, **named)

    def rename(source: Path, target: Path) -> None:
        if target.suffix == ".ckpt":
            passings.by("before a checkpoint is renamed")
        os.replace(source, target)

    pl.Trainer.save_checkpoint = save_checkpoint
    callbacks.checkpoints.os = Standing(os, replace=rename)
    passings.before(callbacks.checkpoints, "remove", "before an older checkpoint is removed")


def work(words: list[str], folder: str, place: Place | None, environment: dict[str, str]) -> None:
    """The process: what it prints goes to `folder`.

    Args:
        words: of the command line of `python -m mrm.run`.
        folder: for what is printed, the signs of a held run and the count of passings.
        place: where to hold.
        environment: added to the process' own.
    """
    os.environ.update(environment)
    printed = os.open(Path(folder) / PRINTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    torch.set_num_threads(1)
    passings = Passings(Path(folder), place)
    install(passings)
    sys.argv = ["mrm.run", *words]
    try:
        mrm.run.main()
    finally:
        told = {"places": passings.counts, "seconds": time.process_time()}
        (Path(folder) / PASSED).write_text(json.dumps(told))
