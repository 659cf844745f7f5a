"""How far a run of calls is: a bar with rate, tokens, cost and time left on a terminal, a line a minute in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mrm.construction.calling.call_account import CallAccount

_LINE_S = 60.0


class CallProgress:
    """Shows a run's account. Use as a context manager, and give it to `run_calls`.

    Args:
        title: what is done.
        total: calls in all; None where nobody knows.
        show: whether to show anything.
        console: where; None takes stderr.
        line_s: seconds between two lines where there is no terminal.
    """

    def __init__(
        self, title: str, *, total: int | None = None, show: bool = True,
        console: Console | None = None, line_s: float = _LINE_S,
    ) -> None:  # fmt: skip
        self._console = console or Console(stderr=True)
        self._title, self._total, self._line_s = title, total, line_s
        self._bar = show and self._console.is_terminal
        self._lines = show and not self._console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._console, auto_refresh=False, disable=not self._bar)
        self._task = self._progress.add_task(title, total=total, told="")
        self._told_at = time.monotonic()

    def __enter__(self) -> CallProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.refresh()
        self._progress.stop()

    def update(self, account: CallAccount, under_way: int) -> None:
        """See `Watcher.update`."""
        if self._bar:
            told = describe(account, under_way)
            self._progress.update(self._task, completed=account.done, told=told, refresh=True)
        elif self._lines and time.monotonic() - self._told_at >= self._line_s:
            of = "" if self._total is None else f" of {self._total:,}{_left(account, self._total)}"
            line = f"{self._title}: {account.done:,}{of}, {describe(account, under_way)}"
            print(line, file=sys.stderr, flush=True)
            self._told_at = time.monotonic()


def describe(account: CallAccount, under_way: int) -> str:
    """Rate of answers, calls under way, failures, tokens and cost, in a few words."""
    rate = account.answered / account.seconds if account.seconds > 0 else 0.0
    tokens = account.input_tokens + account.output_tokens
    failed = account.failed.total()
    return f"{rate:,.1f}/s, {under_way} under way, {failed:,} failed, {_short(tokens)} tokens, cost {account.cost:,.2f}"


def _left(account: CallAccount, total: int) -> str:
    """Time left, judged by what was asked: what is reused takes no time."""
    asked = account.answered + account.failed.total()
    if not asked:
        return ""
    minutes = (total - account.done) * account.seconds / asked / 60
    return f", {minutes:,.0f} min left"


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:,.1f}{unit}"
    return str(count)
