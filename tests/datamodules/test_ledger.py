import dataclasses
import errno
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from datamodules.index import Index
from datamodules.ledger import Decision, Ledger, ledger_rounds, set_aside_after
from mrm.errors import CurationError, LedgerError, ResumableError
from mrm.preference import Pair
from tests.datamodules.making import make_dataset, make_sample


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Pairs: a (0 > 1, strength 0.5); b (2 > 0, unknown; 0 > 1, 0.25)."""
    ranked = make_sample("b", responses=3, pairs=[Pair(2, 0, None), Pair(0, 1, 0.25)], source="open")
    return make_dataset(tmp_path / "set", [make_sample("a"), ranked])


TRUSTED = np.array([True, False])


@pytest.mark.parametrize(("admit", "decision"), [(False, Decision.HELD), (True, Decision.RAW)])
def test_ledger_initial_open_pairs_wait_or_are_admitted(index: Index, admit: bool, decision: str) -> None:
    ledger = Ledger.initial(index, TRUSTED, admit)
    assert list(ledger.key) == ["a", "b", "b"] and ledger.pair.tolist() == [0, 0, 1]
    assert list(ledger.source) == ["made", "open", "open"]
    assert list(ledger.decision) == [Decision.TRUSTED, decision, decision]
    assert ledger.active.tolist() == [True, admit, admit]
    trained = 3 if admit else 1
    none = {"dropped": 0, "queued": 0, "unreadable": 0}
    assert ledger.accounts() == {"pairs": 3, "trained": trained, "held": 3 - trained, **none}
    ledger.check_balanced()


def test_ledger_edges_flipped_pair_changes_places_and_loses_strength(index: Index) -> None:
    ledger = dataclasses.replace(Ledger.initial(index, TRUSTED, True), flipped=np.array([False, True, True]))
    chosen, rejected, strength = ledger.edges(index)
    assert chosen.tolist() == [0, 0, 1] and rejected.tolist() == [1, 2, 0]
    np.testing.assert_array_equal(strength, np.array([0.5, np.nan, np.nan], np.float32))
    np.testing.assert_array_equal(ledger.strength, np.array([0.5, np.nan, 0.25], np.float32))


def test_ledger_write_then_read_is_the_same(index: Index, tmp_path: Path) -> None:
    ledger = dataclasses.replace(
        Ledger.initial(index, TRUSTED, False),
        decision=np.array([Decision.TRUSTED, Decision.FLIP, Decision.DROP], object),
        flipped=np.array([False, True, False]),
        active=np.array([True, True, False]),
        chosen_score=np.array([np.nan, -1.5, 2.0], np.float32),
        decided=np.array([0, 3, 3], np.int32),
        reason=np.array(["", "lower half", "votes tied"], object),
        round=3,
        policy_fingerprint="p",
    )
    path = ledger.write(tmp_path / "ledger")
    assert path.name == "round_0003.parquet" and [p.name for p in path.parent.iterdir()] == [path.name]
    again = Ledger.read(path)
    for field in dataclasses.fields(Ledger):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(ledger, field.name))
    assert ledger.write(tmp_path / "other").read_bytes() == path.read_bytes()


def test_ledger_latest_is_the_newest_round_allowed(index: Index, tmp_path: Path) -> None:
    assert Ledger.latest(tmp_path / "nowhere") is None
    for number in (0, 2, 10):
        dataclasses.replace(Ledger.initial(index, TRUSTED, False), round=number).write(tmp_path)
    (tmp_path / ".round_0011.parquet.x").touch()  # left by a kill while writing
    found = [Ledger.latest(tmp_path, at_most) for at_most in (None, 9, 1)]
    assert [ledger and ledger.round for ledger in found] == [10, 2, 0]


def test_ledger_write_removes_what_a_killed_process_left(index: Index, tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f".round_000{number}.parquet.x").touch()
    Ledger.initial(index, TRUSTED, False).write(tmp_path)
    assert len(list(tmp_path.glob(".*"))) == 2  # of round 0 another rank may be writing its own
    dataclasses.replace(Ledger.initial(index, TRUSTED, False), round=1).write(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_ledger_write_on_a_full_disk_names_the_file_and_leaves_the_one_before(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.initial(index, TRUSTED, False)
    content = ledger.write(tmp_path / "ledger").read_bytes()

    def full(table: object, file: BinaryIO, **settings: object) -> None:
        file.write(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("datamodules.ledger.pq.write_table", full)
    with pytest.raises(ResumableError, match="round_0000.parquet: .* cannot be written: .*No space left.*resume=auto"):
        ledger.write(tmp_path / "ledger")
    assert [path.read_bytes() for path in (tmp_path / "ledger").iterdir()] == [content]


def test_set_aside_after_keeps_earlier_rounds_only(index: Index, tmp_path: Path) -> None:
    for number in (0, 1, 2):
        dataclasses.replace(Ledger.initial(index, TRUSTED, False), round=number).write(tmp_path / "ledger")
    moved = set_aside_after(tmp_path / "ledger", 0)
    assert [path.name for path in moved] == ["round_0001.parquet.superseded", "round_0002.parquet.superseded"]
    assert ledger_rounds(tmp_path / "ledger") == [0]


def test_ledger_of_another_index_is_refused(index: Index, tmp_path: Path) -> None:
    ledger = Ledger.initial(index, TRUSTED, False)
    ledger.check_fits(index)
    with pytest.raises(LedgerError, match="of another index than the data"):
        ledger.check_fits(make_dataset(tmp_path / "other", 3))


@pytest.mark.parametrize(
    "change",
    [
        {"decision": np.array([Decision.TRUSTED, Decision.HELD, "kept"], object)},
        {"active": np.array([True, True, False])},
        {"active": np.array([False, False, False])},
        {"active": np.array([False, True, False])},  # as many as are trained, but not the same
    ],
)
def test_ledger_unbalanced_is_neither_accepted_nor_written(index: Index, tmp_path: Path, change: dict) -> None:
    ledger = dataclasses.replace(Ledger.initial(index, TRUSTED, False), **change)
    with pytest.raises(CurationError, match="accounts do not balance"):
        ledger.write(tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_ledger_read_of_a_broken_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "round_0001.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(LedgerError, match="round_0001.parquet: not a readable ledger"):
        Ledger.latest(tmp_path)
