"""Coroutines run to their end, also where an event loop runs already."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from mrm.construction.calling.loops import run_async
from mrm.construction.calling.stopping import SIGNALS, Stop, stopping_signals


async def thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def broken() -> None:
    raise ValueError("broken")


def test_run_async_without_a_loop_stays_in_its_thread() -> None:
    assert run_async(thread_name) == threading.current_thread().name


def test_run_async_within_a_loop_uses_a_thread_of_its_own() -> None:
    async def notebook() -> str:
        return run_async(thread_name)

    assert asyncio.run(notebook()) == "mrm-calls"


def test_run_async_within_a_loop_raises_what_the_coroutine_raises() -> None:
    async def notebook() -> None:
        run_async(broken)

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(notebook())


def test_run_async_interrupt_cancels_the_coroutine_and_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    began = threading.Event()

    async def long() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("closed")

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:  # a thread that waits for its start
                return super().wait()
            began.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr("mrm.construction.calling.background.threading.Event", Interrupted)

    async def notebook() -> None:
        run_async(long)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notebook())
    assert ended == ["closed"]


def test_stopping_signals_outside_the_main_thread_leaves_handlers_alone() -> None:
    async def guarded() -> list[object]:
        with stopping_signals(Stop()):
            return [signal.getsignal(number) for number in SIGNALS]

    async def notebook() -> tuple[list[object], list[object]]:
        return [signal.getsignal(number) for number in SIGNALS], run_async(guarded)

    before, within = asyncio.run(notebook())
    assert within == before
