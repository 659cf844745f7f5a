"""The members of a sweep: what tells them apart, which are left to do, and the words that start one.

What became of a member stands in its run's folder, which knows its sweep and its configuration's digest; the sweep's own record
adds what a folder cannot tell: that a member failed by itself, and was not ended from outside.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrm.config import RunConfig
from mrm.errors import EXIT_RESUMABLE
from mrm.run_dirs import STOPPED, find_runs, fingerprint, read_state

WAITING, RUNNING, FINISHED, FAILED, INTERRUPTED = "waiting", "running", "finished", "failed", "interrupted"
FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)  # other signals are faults of the member


@dataclass
class Member:
    """One member of a sweep.

    Args:
        number: its place in the command, from 1.
        overrides: the words of the command line that make it.
        config: what it computes; None where that does not compose.
        fault: why it cannot be run; None where nothing is known against it.
        state: waiting | running | finished | failed | interrupted.
        run_dir: its run's folder, once there is one.
        resume: the folder of an interrupted run to go on with.
        before: it was concluded in an earlier command.
        starts: times that it was started, earlier commands included.
        seconds: from its last start to its end.
        exit_status: of its process; negative: the signal that ended it.
    """

    number: int
    overrides: list[str]
    config: RunConfig | None = None
    fault: str | None = None
    state: str = WAITING
    run_dir: Path | None = None
    resume: Path | None = None
    before: bool = False
    starts: int = 0
    seconds: float | None = None
    exit_status: int | None = None
    log: Path | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if self.config is None:
            self.fingerprint = hashlib.sha256("\n".join(self.overrides).encode()).hexdigest()[:16]
        else:
            self.fingerprint = fingerprint(self.config)

    @property
    def label(self) -> str:
        """A name for files: the same in every command that has this member."""
        what = f"{self.config.experiment}-s{self.config.seed}" if self.config else "member"
        return f"{what}-{self.fingerprint[:8]}"

    @property
    def output_root(self) -> Path | None:
        return Path(self.config.output_root).expanduser().resolve() if self.config else None


def key_of(word: str) -> str:
    """The key of a word of the command line, without Hydra's `+`, `++` and `~`."""
    return word.partition("=")[0].lstrip("+~")


def is_of(word: str, key: str) -> bool:
    """Whether a word sets `key` or something beneath it."""
    return key_of(word) == key or key_of(word).startswith(f"{key}.")


def distinct(members: Sequence[Member]) -> tuple[list[Member], list[tuple[Member, Member]]]:
    """The members of different outcomes, and each that would repeat another, with that one."""
    first: dict[str, Member] = {}
    twins = []
    for member in members:
        other = first.setdefault(member.fingerprint, member)
        if other is not member:
            twins.append((member, other))
    return list(first.values()), twins


def telling_words(members: Sequence[Member]) -> list[list[str]]:
    """Of each member the overrides that not all have; all of them where there is one member."""
    shared = set.intersection(*(set(member.overrides) for member in members)) if len(members) > 1 else set()
    return [[word for word in member.overrides if word not in shared] for member in members]


def run_words(member: Member) -> list[str]:
    """The words that start the member as a plain run."""
    words = [word for word in member.overrides if not is_of(word, "sweep")]
    if not any(is_of(word, "trainer.progress") for word in words):
        words.append("trainer.progress=false")  # nobody watches a bar in a log file
    if member.resume is not None:
        words = [word for word in words if key_of(word) != "resume"]
        words.append(f"resume={quote(str(member.resume))}")
    return words


def quote(value: str) -> str:
    """A text as Hydra's grammar of overrides takes it back unchanged."""
    return "'" + value.replace("\\'", "\\\\'").replace("'", "\\'") + "'"


def find_state(member: Member, sweep: str, earlier: Mapping[str, Any] | None, *, retry_failed: bool) -> None:
    """Sets what an earlier command of the same sweep has left to do.

    A finished member is not repeated. One that failed by itself begins anew, or stays failed without `retry_failed`. One that was
    ended from outside, or stopped for want of room, of a server or the like, goes on from its checkpoint.

    Args:
        member: is changed.
        sweep: the sweep's name.
        earlier: the member's entry in the sweep's record; None where it is new.
    """
    earlier = earlier or {}
    member.starts = earlier.get("starts", 0)
    root = member.output_root
    runs = find_runs(root, sweep=sweep, fingerprint=member.fingerprint) if root else []
    finished = [folder for folder in runs if read_state(folder).get("finished")]
    failed = earlier.get("state") == FAILED
    if member.fault is not None and not finished:
        member.state = FAILED
        return
    if finished or (failed and not retry_failed):
        member.state, member.before = FINISHED if finished else FAILED, True
        member.run_dir = next(iter(finished or runs), None)
        member.seconds, member.exit_status = earlier.get("seconds"), earlier.get("exit_status")
        member.fault = None if finished else earlier.get("error")
    elif runs and not failed:
        member.run_dir = member.resume = runs[0]


def conclude(member: Member, sweep: str, exit_status: int, *, stopping: bool) -> None:
    """Sets a member's state by its process' end and by what its run's folder says.

    Args:
        member: is changed.
        sweep: the sweep's name.
        exit_status: as `subprocess` gives it; negative for a signal.
        stopping: whether the sweep was being ended.
    """
    assert member.output_root is not None, "a member that does not compose is not started"
    runs = find_runs(member.output_root, sweep=sweep, fingerprint=member.fingerprint)
    member.run_dir = runs[0] if runs else None
    member.exit_status = exit_status
    if exit_status == 0 and member.run_dir is not None and read_state(member.run_dir).get("finished"):
        member.state = FINISHED
    elif stopping:
        member.state = INTERRUPTED
    elif (number := -exit_status if exit_status < 0 else exit_status - 128) in FROM_OUTSIDE:
        member.state, member.fault = INTERRUPTED, f"ended from outside by {signal.Signals(number).name}"
    elif why := _stopped(member, exit_status):
        member.state, member.fault = INTERRUPTED, why
    elif exit_status == 0:
        member.state, member.fault = FAILED, "it ended without an error, and without a finished run"
    else:
        member.state = FAILED
        member.fault = _last_line(member.log) or f"exit status {exit_status}"


def _stopped(member: Member, exit_status: int) -> str:
    """Why a member stopped half-way without a fault of its own; empty where it did not.

    Its folder tells it too: torchrun, whose status is 1, does not hand on that of its processes.
    """
    if exit_status not in (1, EXIT_RESUMABLE):
        return ""
    told = read_state(member.run_dir).get(STOPPED) if member.run_dir else None
    return str(told) if told else _last_line(member.log) if exit_status == EXIT_RESUMABLE else ""


def _last_line(log: Path | None) -> str:
    """What a process said last: of an error, most likely what is wrong."""
    if log is None or not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")[:500]
