"""A function over many items on several processes: order, bounds, and workers that die."""

import os
import signal

import pytest

from datamodules import ordered_pool
from datamodules.ordered_pool import OrderedPool, available_cpus
from mrm.errors import ResumableError


@pytest.fixture(autouse=True)
def workers_start_at_once(monkeypatch):
    monkeypatch.setattr(ordered_pool, "ALONE_S", 0.0)


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def die_at_30(number: int) -> int:
    if number == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_map_keeps_the_order(workers):
    with OrderedPool(square, workers) as pool:
        made = list(pool.map(range(100), lambda item: item + 1))
    assert [(item, result[0]) for item, result in made] == [(n, (n + 1) ** 2) for n in range(100)]
    assert (os.getpid() in {result[1] for _, result in made}) == (workers == 1)


def test_map_runs_again_with_the_same_workers():
    with OrderedPool(square, 2) as pool:
        assert [[item for item, _ in pool.map(range(n), int)] for n in (3, 0, 20)] == [
            [0, 1, 2], [], list(range(20))
        ]  # fmt: skip


def test_map_reads_no_further_ahead_than_two_portions_a_worker():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    with OrderedPool(square, 2) as pool:
        results = pool.map(items(), int, chunk_items=5)
        next(results)
        assert len(taken) == 2 * 2 * 5
        results.close()


def test_map_large_tasks_are_sent_in_smaller_portions():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with OrderedPool(square, 2) as pool:
        results = pool.map(items(), int, size_of=lambda task: 2**22)
        next(results)
        assert len(taken) == 2 * 2
        results.close()


def test_map_few_items_are_done_without_workers(monkeypatch):
    monkeypatch.setattr(ordered_pool, "ALONE_S", 60.0)
    with OrderedPool(square, 4) as pool:
        assert {result[1] for _, result in pool.map(range(50), int)} == {os.getpid()}


def test_map_killed_worker_names_what_was_under_way():
    with (
        OrderedPool(die_at_30, 2) as pool,
        pytest.raises(ResumableError, match="worker process was killed.*key-.*workers="),
    ):
        list(pool.map(range(100), int, name_of=lambda item: f"key-{item}"))


@pytest.mark.parametrize(
    ("share", "expected"), [("max 100000", 64), ("250000 100000", 3), ("1000 100000", 1), ("", 64)]
)
def test_available_cpus_are_those_of_the_process_and_its_container(tmp_path, monkeypatch, share, expected):
    (tmp_path / "cpu.max").write_text(share)
    monkeypatch.setattr(ordered_pool, "_CPU_SHARE", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert available_cpus() == expected
