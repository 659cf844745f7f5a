"""The bar that commands show on standard error while they score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


def shown(items: Iterable[Item], title: str, *, total: int | None, show: bool, done: int = 0) -> Iterator[Item]:
    """The items, under a bar.

    Args:
        items: what is worked on. title: before the bar.
        total: how many there are; None where nobody knows. done: how many of them do not come, since they are done.
        show: the bar.
    """
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(title, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task)
