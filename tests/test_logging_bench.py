"""The share that logging takes of a step is measured from within."""

from __future__ import annotations

from mrm import logging_bench
from mrm.logging_bench import Stopwatch, logging_figures


class Calls:
    def outer(self, clock: list[float]) -> str:
        clock[0] += 1.0
        self.inner(clock)
        return "done"

    def inner(self, clock: list[float]) -> None:
        clock[0] += 2.0

    def fails(self, clock: list[float]) -> None:
        clock[0] += 4.0
        raise ValueError("no")


def test_stopwatch_counts_the_outer_call_once(monkeypatch) -> None:
    clock, watch, calls = [0.0], Stopwatch(), Calls()
    monkeypatch.setattr(logging_bench.time, "perf_counter", lambda: clock[0])
    for name in ("outer", "inner", "fails"):
        watch.time(calls, name)
    assert calls.outer(clock) == "done" and watch.seconds == 3.0
    calls.inner(clock)
    try:
        calls.fails(clock)
    except ValueError:
        pass
    assert watch.seconds == 9.0


def test_logging_figures_are_a_share_of_a_small_epoch() -> None:
    assert 0 < logging_figures(64)["logging_overhead"] < 1
