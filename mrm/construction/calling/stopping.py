"""Ending a run before its calls do: on a signal, on an error, in time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a run is to end, and why. The first reason counts.

    Attributes:
        reason: in words; "" while the run goes on.
        error: what the run raises in the end; None where it returns its account.
        at_once: whether calls under way are not waited for.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.error: BaseException | None = None
        self.at_once = asyncio.Event()
        self._event = asyncio.Event()

    def set(self, reason: str, error: BaseException | None = None) -> None:
        """Asks the run to end."""
        if not self.is_set():
            self.reason, self.error = reason, error
            self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        """Until the run is to end."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Some seconds, or until the run is to end."""
        if seconds <= 0:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)


@contextlib.contextmanager
def stopping_signals(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM end a run cleanly; a second one does not wait for the calls under way. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def heard(number: int) -> None:
        if stop.is_set():
            stop.at_once.set()
        stop.set(f"interrupted by {signal.Signals(number).name}")

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, heard, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
