"""A function over many items on several processes: in order, with a bounded number under way, and a clear end when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from mrm.errors import ResumableError

Item = TypeVar("Item")
Task = TypeVar("Task")
Result = TypeVar("Result")

ALONE_S = 1.0  # work done in this process before others are started: few items do not pay for the start
_CHUNK_ITEMS = 16  # items sent at a time, or fewer of
_CHUNK_BYTES = 4 * 2**20
_WATCH_S = 0.5
_CPU_SHARE = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds
# Python's own workers do next to nothing before they run the function, and Pillow, NumPy and hashlib bear a fork.
# Elsewhere than on Linux system libraries do not.
_CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def available_cpus() -> int:
    """Processors that this process may use: those it may run on, or fewer where a container's share is smaller."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CPU_SHARE.read_text().split()
        return max(1, min(mine, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return mine


class OrderedPool(Generic[Task, Result]):
    """Runs one function; use as a context manager.

    Args:
        function: picklable, of one picklable task; it does not raise for bad data.
        workers: processes; 1 does all work in this one.
    """

    def __init__(self, function: Callable[[Task], Result], workers: int) -> None:
        self._function = function
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None
        self._spent = 0.0

    def __enter__(self) -> OrderedPool[Task, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def map(
        self,
        items: Iterable[Item],
        task_of: Callable[[Item], Task],
        *,
        size_of: Callable[[Task], int] = lambda task: 0,
        name_of: Callable[[Item], str] = str,
        chunk_items: int = _CHUNK_ITEMS,
    ) -> Iterator[tuple[Item, Result]]:
        """Every item with its task's result, in the items' order.

        Args:
            items: read only as far ahead as workers need: two portions a worker.
            task_of: what the function gets of an item.
            size_of: a task's bytes, to bound what is under way.
            name_of: what to call an item when a worker dies.
            chunk_items: items sent to a worker at a time; fewer where they are large.

        Raises:
            ResumableError: when a worker died, naming the items that were under way.
        """
        stream = iter(items)
        while self._workers == 1 or self._spent < ALONE_S:
            try:
                item = next(stream)
            except StopIteration:
                return
            start = time.perf_counter()
            result = self._function(task_of(item))
            self._spent += time.perf_counter() - start
            yield item, result
        yield from self._map_elsewhere(_chunks(stream, task_of, size_of, chunk_items), name_of)

    def _map_elsewhere(
        self, chunks: Iterator[tuple[list[Item], list[Task]]], name_of: Callable[[Item], str]
    ) -> Iterator[tuple[Item, Result]]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(self._workers, _CONTEXT, _begin_worker, (self._function,))
        under_way: deque[tuple[list[Item], Future[list[Result]]]] = deque()
        try:
            for items, tasks in chunks:
                under_way.append((items, self._executor.submit(_run, tasks)))
                if len(under_way) >= 2 * self._workers:
                    yield from _first_of(under_way)
            while under_way:
                yield from _first_of(under_way)
        except BrokenProcessPool as error:
            busy = [name_of(item) for items, future in under_way if _is_lost(future) for item in items]
            more = f" and {len(busy) - 5} more" if len(busy) > 5 else ""
            raise ResumableError(
                "a worker process was killed, most often by the system for want of memory, while these were under way: "
                f"{', '.join(busy[:5])}{more}. Finished shards are kept: run the same again to go on behind them, "
                "with fewer workers (workers=) or less memory an image (max_image_pixels=)."
            ) from error


def _first_of(under_way: deque[tuple[list[Item], Future[list[Result]]]]) -> Iterator[tuple[Item, Result]]:
    items, future = under_way[0]
    results = future.result()
    under_way.popleft()
    yield from zip(items, results, strict=True)


def _is_lost(future: Future[list[Result]]) -> bool:
    return not future.done() or future.exception() is not None


def _chunks(
    stream: Iterator[Item], task_of: Callable[[Item], Task], size_of: Callable[[Task], int], most: int
) -> Iterator[tuple[list[Item], list[Task]]]:
    items: list[Item] = []
    tasks: list[Task] = []
    size = 0
    for item in stream:
        task = task_of(item)
        items.append(item)
        tasks.append(task)
        size += size_of(task)
        if len(items) >= most or size >= _CHUNK_BYTES:
            yield items, tasks
            items, tasks, size = [], [], 0
    if items:
        yield items, tasks


def _begin_worker(function: Callable[[Any], Any]) -> None:
    """Takes the function once, leaves Ctrl-C to the parent, and ends with it.

    A worker left alone would hold its files and locks for ever.
    """
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _run(tasks: list[Any]) -> list[Any]:
    return [_function(task) for task in tasks]


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)
