"""How far a long run is: a bar with rate and time left on a terminal, a line a minute in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_REDRAW_S = 0.2
_LINE_S = 60.0


class Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class RecordProgress:
    """Shows records dealt with. Use as a context manager. Draws from the caller's thread alone: workers are forked beside it.

    Args:
        title: what is done.
        total: records; 0 where nobody knows.
        start: records that an earlier run dealt with: they don't count for the rate.
        show: whether to show anything.
    """

    def __init__(self, title: str, *, total: int, start: int = 0, show: bool = True) -> None:
        console = Console(stderr=True)
        self._title, self._total, self._start = title, total, start
        self._bar = show and console.is_terminal
        self._lines = show and not console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TextColumn("{task.fields[skipped]:,} skipped"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, auto_refresh=False, disable=not self._bar)
        self._task = self._progress.add_task(title, total=total or None, completed=start, skipped=0)
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> RecordProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.refresh()
        self._progress.stop()

    def update(self, done: int, skipped: int) -> None:
        """Tells how many records are dealt with, and how many of them were skipped."""
        now = time.monotonic()
        if self._bar and now - self._shown >= _REDRAW_S:
            self._progress.update(self._task, completed=done, skipped=skipped, refresh=True)
            self._shown = now
        elif self._lines and now - self._shown >= _LINE_S:
            print(self.line(done, skipped, now - self._began), file=sys.stderr, flush=True)
            self._shown = now

    def end(self, done: int, skipped: int) -> None:
        """Tells that the source has ended."""
        self._progress.update(self._task, completed=done, total=done, skipped=skipped)

    def line(self, done: int, skipped: int, seconds: float) -> str:
        """What a log file gets to read after so many seconds."""
        rate = (done - self._start) / seconds if seconds > 0 else 0.0
        of = f" of {self._total:,}" if self._total else ""
        left = ""
        if self._total > done and rate > 0:
            minutes, left_s = divmod(round((self._total - done) / rate), 60)
            left = f", {minutes // 60}:{minutes % 60:02d}:{left_s:02d} left"
        return f"{self._title}: {done:,}{of} records, {skipped:,} skipped, {rate:,.0f}/s{left}"
