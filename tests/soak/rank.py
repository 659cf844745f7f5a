"""One of two processes dies in the middle of scoring: the other must end too, and a resumed run ends as one left alone."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.soak.places import Place
from tests.soak.runs import Runs, compare, remove

RANKS = 2
SURVIVED_S = 120.0  # that the other may take to notice on a busy machine; the group's own limit is half an hour


@dataclass(frozen=True)
class RankResult:
    """What came of it: seconds that the other took to end, by the rank that was killed, and all in all."""

    noticed_s: dict[int, float]
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(
            f"rank {rank} killed: the other ended {took:.1f} s later" for rank, took in self.noticed_s.items()
        )
        return (
            f"{told}, since the connection between them broke; resumed on {RANKS} processes, all ledgers and weights are those of "
            f"a run left alone; {self.seconds:.0f} s"
        )


def dead_rank(runs: Runs, ranks: list[int]) -> RankResult:
    """Kills each of these ranks in a run of its own.

    Args:
        runs: starts them.
        ranks: to kill.

    Raises:
        AssertionError: if the other rank ends well, or does not end within SURVIVED_S, or the run ends as another one.
    """
    began, noticed = time.monotonic(), {}
    reference = runs.reference(ranks=RANKS)
    for rank in ranks:
        root, other = runs.folder / f"rank-{rank}", 1 - rank
        place = Place("a batch of the pool is scored", 3)
        started = runs.start(root, place=place, ranks=RANKS, held_rank=rank)
        assert started.wait_held(rank), f"{place} was not reached:\n{started.printed[-3000:]}"
        started.kill(rank)
        died = time.monotonic()
        started.processes[other].join(SURVIVED_S)
        noticed[rank] = time.monotonic() - died
        assert not started.processes[other].is_alive(), (
            f"rank {other} still waits {SURVIVED_S:.0f} s after rank {rank} died"
        )
        assert started.processes[other].exitcode, f"rank {other} ended well though rank {rank} died"
        last = runs.run(root, ranks=RANKS)
        compare(reference.run_dir, last.run_dir)
        remove(last)
    return RankResult(noticed, time.monotonic() - began)
