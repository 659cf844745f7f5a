"""Coroutines beside the thread that started them."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from mrm.construction.calling.background import BackgroundRun
from mrm.construction.calling.stopping import SIGNALS, Stop, stopping_signals


class Sleeper:
    """Sleeps until it is cancelled, and knows whether it was."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), False

    async def sleep(self) -> None:
        self.began.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.ended = True


def test_background_run_goes_on_beside_and_gives_its_result() -> None:
    let_go = threading.Event()

    async def work() -> int:
        await asyncio.to_thread(let_go.wait)
        return 7

    run = BackgroundRun(work)
    assert not run.is_done
    let_go.set()
    assert run.result() == 7 and run.is_done


def test_background_run_error_is_raised_where_the_result_is_wanted() -> None:
    async def broken() -> None:
        raise ValueError("broken")

    run = BackgroundRun(broken)
    with pytest.raises(ValueError, match="broken"):
        run.result()


def test_background_run_cancelled_has_ended() -> None:
    sleeper = Sleeper()
    run = BackgroundRun(sleeper.sleep)
    sleeper.began.wait()
    run.cancel()
    assert sleeper.ended and run.is_done
    BackgroundRun(sleeper.sleep).cancel()  # at once, perhaps before it began


def test_background_run_poll_that_raises_ends_it() -> None:
    sleeper = Sleeper()

    def poll() -> None:
        if sleeper.began.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BackgroundRun(sleeper.sleep).result(poll)
    assert sleeper.ended


def test_background_run_leaves_signals_to_the_main_thread() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))

    async def work() -> list[object]:
        with stopping_signals(Stop()):
            signal.raise_signal(signal.SIGTERM)
            return [signal.getsignal(number) for number in SIGNALS]

    try:
        handlers = [signal.getsignal(number) for number in SIGNALS]
        assert BackgroundRun(work).result() == handlers
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
