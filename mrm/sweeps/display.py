"""What a person sees of a sweep: a line as a member begins and ends, one of progress, and a table at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from mrm.sweeps.members import FAILED, FINISHED, INTERRUPTED, RUNNING, WAITING, Member, telling_words

QUIET_S = 60.0  # between lines of progress where no terminal shows a changing one
STYLES = {FINISHED: "green", FAILED: "red", INTERRUPTED: "yellow"}


class SweepDisplay:
    """Prints to a console; use as a context manager while members run.

    Args:
        members: all of the command.
        jobs: how many run at once.
        console: where to.
    """

    def __init__(self, members: Sequence[Member], jobs: int, console: Console) -> None:
        self.members, self.jobs, self.console = members, jobs, console
        self.words = {
            id(m): " ".join(words) or "as composed" for m, words in zip(members, telling_words(members), strict=True)
        }
        self._status = Status("", console=console) if console.is_terminal else None
        self._told = time.monotonic()

    def __enter__(self) -> SweepDisplay:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, text: str, style: str | None = None) -> None:
        with suppress(OSError):  # such as of a full disk: the record has it all
            self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def began(self, member: Member, how: str) -> None:
        self.say(f"[{member.number}/{len(self.members)}] {how:<9}  {self.words[id(member)]}")
        self.progress()

    def ended(self, member: Member) -> None:
        took = f" after {duration(member.seconds)}" if member.seconds is not None else ""
        why = f": {member.fault}" if member.fault else ""
        line = f"[{member.number}/{len(self.members)}] {member.state:<9}  {self.words[id(member)]}{took}{why}"
        self.say(line, STYLES.get(member.state))
        self.progress(always=True)

    def progress(self, *, always: bool = False) -> None:
        """Brings the line up to date; without a terminal it is printed every minute, and whenever a member has ended."""
        if self._status:
            self._status.update(escape(progress_line(self.members, self.jobs)))
        elif always or time.monotonic() - self._told >= QUIET_S:
            self._told = time.monotonic()
            self.say(progress_line(self.members, self.jobs))


def progress_line(members: Sequence[Member], jobs: int) -> str:
    """How many members are in which state, and how long the rest takes if it is like what this command has done."""
    states = Counter(member.state for member in members)
    parts = [f"{states[FINISHED]} of {len(members)} finished"]
    parts += [f"{states[state]} {state}" for state in (RUNNING, WAITING, FAILED, INTERRUPTED) if states[state]]
    done = [m.seconds for m in members if m.seconds is not None and m.state == FINISHED]
    left = states[RUNNING] / 2 + states[WAITING]  # those that run are half done on average
    if done and left:
        parts.append(f"about {duration(sum(done) / len(done) * left / max(1, min(jobs, left)))} left")
    return "Sweep: " + ", ".join(parts)


def print_table(members: Sequence[Member], console: Console) -> None:
    """The members with overrides, state, seconds and folder; below it, of each one that did not finish, why, and its log."""
    table = Table(title="Sweep", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("overrides", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for member, words in zip(members, telling_words(members), strict=True):
        state = f"{member.state}, before" if member.before else member.state
        seconds = "-" if member.seconds is None else f"{member.seconds:.0f}"
        table.add_row(
            str(member.number), escape(" ".join(words)), f"[{STYLES.get(member.state, 'default')}]{state}[/]", seconds,
            escape(_near(member.run_dir)),
        )  # fmt: skip
    console.print(table)
    for member, words in zip(members, telling_words(members), strict=True):
        if member.state != FINISHED:
            why = f": {member.fault}" if member.fault else ""
            where = f"; log: {_near(member.log)}" if member.log and member.log.exists() else ""
            line = f"{member.state}  {' '.join(words) or 'as composed'}{why}{where}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _near(path: Path | None) -> str:
    """Relative to where the command was typed, where it lies beneath."""
    if path is None:
        return "-"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
