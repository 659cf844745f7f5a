"""Running a coroutine to its end from anywhere: also from a notebook, where an event loop runs already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

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
    return _in_thread(start)


def was_cancelled() -> bool:
    """Whether somebody cancels this task: else a CancelledError comes out of what it called, and is a fault like others."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)  # Python 3.10 does not tell
    return cancelling is None or cancelling() > 0


def _in_thread(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def watched() -> T:
        task = asyncio.current_task()
        assert task is not None, "a coroutine that runs is a task's"
        running.append((asyncio.get_running_loop(), task))
        return await start()

    def work() -> None:
        try:
            results.append(asyncio.run(watched()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="mrm-calls")
    thread.start()
    try:
        thread.join()
    except BaseException:  # an interrupt
        for loop, task in running:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]
