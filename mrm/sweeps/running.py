"""Runs the members of a sweep: several at once, past those that fail, on from where an earlier command ended."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from mrm.config import SweepConfig
from mrm.errors import MrmError, ResumableError
from mrm.run_dirs import forget_stop
from mrm.sweeps.display import SweepDisplay, print_table
from mrm.sweeps.members import (
    FINISHED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    Member,
    conclude,
    distinct,
    find_state,
    is_of,
    run_words,
)
from mrm.sweeps.membership import Membership
from mrm.sweeps.parent_run import close_parent, open_parent, store_of
from mrm.sweeps.processes import GRACE_S, Processes, Signals, caught_signals
from mrm.sweeps.record import SWEEP_FILE, SweepRecord, lock_sweep
from mrm.sweeps.resources import GPUS, THREADS, GpuShares, Plan, plan

POLL_S = 0.2

log = logging.getLogger(__name__)


class Sweep:
    """One command's work on a sweep.

    Args:
        folder: the sweep's; its name is the sweep's.
        members: as composed; those with a fault are not started.
        settings: of the group `sweep`.
        command: starts a run, given its words and the number of its processes.
        typed: the words of the command line.
        cores: processors at hand.
        gpus: names of the GPUs at hand.
        console: for lines while members run.
        grace_s: seconds that members have to end when the sweep is ended.
    """

    def __init__(
        self,
        folder: Path,
        members: Sequence[Member],
        settings: SweepConfig,
        *,
        command: Callable[[Sequence[str], int], list[str]],
        typed: Sequence[str],
        cores: int,
        gpus: Sequence[str],
        console: Console,
        grace_s: float = GRACE_S,
    ) -> None:
        self.folder, self.settings, self.typed, self.grace_s = folder, settings, list(typed), grace_s
        self.members, self.twins = distinct(members)
        self.command, self.console = command, console
        self.plan = self._plan(cores, gpus)
        self.display = SweepDisplay(self.members, self.plan.jobs, console)

    def run(self) -> int:
        """Runs what is left to do, and prints the table.

        Returns:
            0 where all members have finished, 1 where not, 128 + the number of the signal that ended the sweep before.

        Raises:
            ConfigError: where the sweep is running already, or its record is damaged.
            ResumableError: where all members have ended, and the record could not be written in the end.
        """
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        lock = lock_sweep(self.folder)
        try:
            self.record = SweepRecord.open(self.folder, self.typed, self.members, self.plan)
            self._look_back()
            self._open_parent()
            try:
                self.record.keep()
                ended_by = self._run_waiting(lock)
            finally:
                self._close()
        finally:
            os.close(lock)
        unfinished = any(member.state != FINISHED for member in self.members)
        self._tell_outcome(unfinished)
        if self.record.fault is not None:
            raise ResumableError(
                f"{self.folder / SWEEP_FILE} cannot be written: {self.record.fault}; it does not tell how the sweep ended, the table "
                f"and the runs' folders do. Make room or mend what else it is, and go on with sweep.name={self.folder.name}."
            )
        return 128 + ended_by if ended_by is not None else int(unfinished)

    def _plan(self, cores: int, gpus: Sequence[str]) -> Plan:
        configs = [member.config for member in self.members if member.config is not None and member.fault is None]
        return plan(self.settings.jobs, configs, cores=cores, gpus=gpus, environment=os.environ)

    def _look_back(self) -> None:
        """What is there of earlier commands, and what cannot be run."""
        for member, other in self.twins:
            log.warning("Member %d computes the same as member %d: it is left out.", member.number, other.number)
        for member in self.members:
            member.log = self.folder / "logs" / f"{member.label}.log"
            earlier = self.record.earlier.get(member.fingerprint)
            find_state(member, self.folder.name, earlier, retry_failed=self.settings.retry_failed)
            if member.state != WAITING:
                self.display.ended(member)
        waiting = sum(member.state == WAITING for member in self.members)
        gpus = f" on GPUs {', '.join(self.plan.gpus)}" if self.plan.gpus else ""
        self.display.say(
            f"Sweep {self.folder}: {waiting} of {len(self.members)} members to run, {self.plan.jobs} at once with "
            f"{self.plan.threads} thread(s) a process{gpus}; logs in {self.folder / 'logs'}"
        )

    def _open_parent(self) -> None:
        tracked = [m.config for m in self.members if m.config and m.state == WAITING and m.config.logger.enabled]
        if tracked:
            mlflow = self.record.mlflow or {}
            earlier = mlflow.get("run_id") if store_of(tracked[0]).items() <= mlflow.items() else None
            self.record.mlflow = open_parent(tracked[0], self.folder, self.typed, earlier)

    def _close(self) -> None:
        """Writes the sweep's end, whatever ended it."""
        for member in self.members:
            if member.state in (WAITING, RUNNING):
                member.state = INTERRUPTED
        self.record.keep()
        if self.record.mlflow is not None:
            record = self.folder / SWEEP_FILE if self.record.fault is None else None
            close_parent(self.record.mlflow, self.record.state, self.members, record)

    def _run_waiting(self, lock: int) -> int | None:
        """Runs what waits; gives the number of the signal that ended the sweep."""
        waiting = deque(member for member in self.members if member.state == WAITING)
        running: dict[str, tuple[Member, list[str]]] = {}
        processes, shares = Processes(keep_open=[lock]), GpuShares(self.plan.gpus)
        with caught_signals() as signals, self.display:
            ending = _Ending(signals, processes, self.grace_s)
            try:
                while running or (waiting and not signals.received):
                    if ending.goes_on():
                        self.display.say("Ending the members that run (once more kills them) ...", "yellow")
                    while waiting and not signals.received and len(running) < self.plan.jobs:
                        member = waiting.popleft()
                        gpus = shares.take(member.config.trainer.devices if member.config else 1)
                        if self._start(member, processes, gpus):
                            running[member.label] = member, gpus
                        else:
                            shares.give_back(gpus)
                    for label, status, seconds in processes.ended():
                        member, gpus = running.pop(label)
                        shares.give_back(gpus)
                        member.seconds = seconds
                        conclude(member, self.folder.name, status, stopping=bool(signals.received))
                        self.record.keep()
                        self.display.ended(member)
                    self.display.progress()
                    if running:
                        time.sleep(POLL_S)
            finally:  # none outlives the sweep, whatever ends it
                started = {member.label: member for member in self.members}
                while len(processes):
                    ending.goes_on(asked=True)
                    for label, status, seconds in processes.ended():
                        started[label].seconds = seconds
                        with suppress(Exception):  # the error that ends the sweep is the one to tell
                            conclude(started[label], self.folder.name, status, stopping=True)
                    time.sleep(POLL_S)
            return signals.received[0] if signals.received else None

    def _start(self, member: Member, processes: Processes, gpus: Sequence[str]) -> bool:
        """Starts a member's run; False where the system refuses, or its log cannot be written."""
        assert member.config is not None and member.log is not None
        mlflow = self.record.mlflow or {}
        parent = mlflow.get("run_id") if store_of(member.config).items() <= mlflow.items() else None
        environment = {
            "COLUMNS": "120",  # of tables in the log
            THREADS: str(self.plan.threads),
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **Membership(self.folder.name, parent).to_environment(),
            **({GPUS: ",".join(gpus)} if gpus else {}),
        }
        command = self.command(run_words(member), member.config.trainer.devices)
        try:
            if member.resume is not None:
                # else it would be told again, of a member that fails before it opens its folder
                forget_stop(member.resume)
            with member.log.open("a") as file:
                file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}  {shlex.join(command)}\n")
            processes.start(member.label, command, environment, member.log)
        except (OSError, MrmError) as error:  # no failure of its own: what it has done before is gone on with
            member.state, member.fault = INTERRUPTED, f"cannot be started: {error}"
            self.display.ended(member)
        else:
            member.starts += 1
            member.state = RUNNING
            self.display.began(member, "goes on" if member.resume else "begins")
        self.record.keep()
        return member.state == RUNNING

    def _tell_outcome(self, unfinished: bool) -> None:
        out = Console()
        print_table(self.members, out)
        lines = [f"Record   {self.folder / SWEEP_FILE}"]
        if unfinished:
            words = again(self.typed, self.folder.name)
            lines.append(f"Go on    {shlex.join([Path(sys.executable).name, '-m', 'mrm.run', *words])}")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def again(typed: Sequence[str], name: str) -> list[str]:
    """The words that go on with a sweep of this name: Hydra takes overrides side by side only, not apart by a flag."""
    words = [word for word in typed if not is_of(word, "sweep.name")]
    if any(is_of(word, "hydra.sweep.dir") for word in words):
        return words
    last = max(
        (place for place, word in enumerate(words) if "=" in word and not word.startswith("-")), default=len(words)
    )
    return [*words[: last + 1], f"sweep.name={name}", *words[last + 1 :]]


class _Ending:
    """The end of the running members after a signal or an error: they are asked, and killed after a while or at a second signal."""

    def __init__(self, signals: Signals, processes: Processes, grace_s: float) -> None:
        self._signals, self._processes, self._grace_s = signals, processes, grace_s
        self._deadline: float | None = None
        self._killed = False

    def goes_on(self, *, asked: bool = False) -> bool:
        """Does what is due after a signal, or where it is asked for; True the first time."""
        if not self._signals.received and not asked:
            return False
        if first := self._deadline is None:
            self._deadline = time.monotonic() + self._grace_s
            self._processes.terminate()
        if not self._killed and (len(self._signals.received) > 1 or time.monotonic() > self._deadline):
            self._killed = True
            self._processes.kill()
        return first
