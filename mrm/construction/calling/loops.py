"""Running a coroutine to its end from anywhere: also from a notebook, where an event loop runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mrm.construction.calling.background import BackgroundRun

T = TypeVar("T")


def run_async(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `start()` gives; in a thread of its own where this one has a running event loop, which waits for it.

    Args:
        start: makes the coroutine, in the thread that runs it.

    Raises:
        KeyboardInterrupt: if this thread is interrupted while it waits; the coroutine is cancelled and has ended.
        BaseException: whatever the coroutine raises.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    return BackgroundRun(start).result()


def was_cancelled() -> bool:
    """Whether somebody cancels this task: else a CancelledError comes out of what it called, and is a fault like others."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)  # Python 3.10 does not tell
    return cancelling is None or cancelling() > 0
