"""A coroutine in a thread and an event loop of its own: what starts it goes on, and may wait for it or end it.

It installs no signal handlers, whatever it runs: those of the main thread stay as they are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_LOOK_S = 0.2


class BackgroundRun(Generic[T]):
    """Runs what `start()` gives, from now on.

    The thread does not keep the process from ending: who cares for the outcome calls `result`, or `cancel`.

    Args:
        start: makes the coroutine, in the thread that runs it.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._start = start
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._done = threading.Event()
        self._guard = threading.Lock()  # of the two that follow
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._work, name="mrm-calls", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._done.is_set()

    def result(self, poll: Callable[[], None] | None = None) -> T:
        """Waits for its end, and gives what it returned.

        Args:
            poll: called several times a second meanwhile; what it raises ends the run.

        Raises:
            BaseException: whatever the coroutine or `poll` raises; KeyboardInterrupt if this thread is interrupted. The run has
                ended then.
        """
        try:
            while not self._done.wait(_LOOK_S):
                if poll is not None:
                    poll()
        except BaseException:
            self.cancel()
            raise
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        return self._results[0]

    def cancel(self) -> None:
        """Ends it, and waits until it has ended."""
        with self._guard:
            self._cancelled = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._results.append(asyncio.run(self._watched()))
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._done.set()

    async def _watched(self) -> T:
        task = asyncio.current_task()
        assert task is not None, "a coroutine that runs is a task's"
        with self._guard:
            if self._cancelled:
                raise asyncio.CancelledError
            self._running = asyncio.get_running_loop(), task
        try:
            return await self._start()
        finally:
            with self._guard:
                self._running = None
