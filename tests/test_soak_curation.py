"""The soak of curation, in short: one fault of each kind. All of it: `python -m tests.soak_curation`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.construction.fault_server import FaultServer
from tests.soak.annotator import Outage, judges_down
from tests.soak.disk import full_disk
from tests.soak.kills import ANY, killed_runs, moments
from tests.soak.places import PHASES
from tests.soak.rank import dead_rank
from tests.soak.runs import VARIANTS, Runs, Sizes
from tests.soak_curation import shares


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(latency_s=0.01) as server:
        yield server


@pytest.fixture(scope="module")
def runs(server: FaultServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """One undisturbed run serves all tests that compare with it."""
    with Runs(tmp_path_factory.mktemp("soak"), server.url, Sizes(), fresh=False) as runs:
        yield runs


def test_killed_run_resumed_ends_as_one_left_alone(runs: Runs, server: FaultServer) -> None:
    result = killed_runs(runs, server, kills=1, seed=0, variant="sync")
    assert result.kills.total() in (1, 2)  # a second kill at a random moment may come after the end
    assert result.answers and not result.asked_again


def test_full_disk_while_a_ledger_is_written_is_told_and_mended(runs: Runs) -> None:
    assert full_disk(runs, ["ledger"]).writes == ["ledger"]


def test_dead_rank_ends_the_other_and_the_run_is_resumed(runs: Runs) -> None:
    assert dead_rank(runs, [1]).noticed_s.keys() == {1}


def test_judges_down_for_a_round_leave_their_pairs_waiting(runs: Runs) -> None:
    result = judges_down(runs, Outage("500"))
    assert result.queued == result.settled.total() > 0


def test_moments_are_spread_over_all_phases_and_differ() -> None:
    passed = {name: 3 for names in PHASES.values() for name in names}
    chosen = moments(passed, 2 * (len(PHASES) + 1), random.Random(1))
    assert {moment.phase for moment in chosen} == {*PHASES, ANY}
    places = [moment.place for moment in chosen if moment.place]
    assert len(set(places)) == len(places)


def test_shares_of_the_kills_add_up_and_begin_where_the_last_ended() -> None:
    given = shares(7, list(VARIANTS))
    assert [kills for _, kills, _ in given] == [2, 2, 2, 1]
    assert [first for _, _, first in given] == [0, 2, 4, 6]
    assert [name for name, _, _ in shares(1, ["a", "b"])] == ["a"]
