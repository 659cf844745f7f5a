"""The journal of a scoring: whole lines count, those of other settings do not."""

from pathlib import Path

import pytest

from mrm.curate_journal import ScoreJournal

SETTINGS = {"pool": "p", "model": "m"}


def filled(path: Path) -> bytes:
    journal = ScoreJournal(path, SETTINGS)
    journal.add(0, {"a": [0.5, -1.25]})
    journal.add(2, {"c": [0.10000000149011612, 3e38]})
    journal.close()
    return path.read_bytes()


def test_journal_gives_back_what_was_kept_to_the_bit(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    journal = ScoreJournal(tmp_path / "j", SETTINGS)
    assert journal.done == {0: {"a": [0.5, -1.25]}, 2: {"c": [0.10000000149011612, 3e38]}}
    journal.add(1, {"b": [1.0]})
    journal.close()
    assert sorted(ScoreJournal(tmp_path / "j", SETTINGS).done) == [0, 1, 2]
    journal.remove()
    assert not (tmp_path / "j").exists()


def test_journal_cut_anywhere_keeps_the_whole_lines(tmp_path: Path) -> None:
    whole = filled(tmp_path / "j")
    for size in range(len(whole)):
        (tmp_path / "j").write_bytes(whole[:size])
        journal = ScoreJournal(tmp_path / "j", SETTINGS)
        assert len(journal.done) == max(0, whole[:size].count(b"\n") - 1)
        journal.add(7, {"x": [1.0]})
        journal.close()
        assert 7 in ScoreJournal(tmp_path / "j", SETTINGS).done


@pytest.mark.parametrize(
    "content", [b"[]\n", b"not json\n", b'{"settings": "other"}\n{"batch": 0, "rewards": {}}\n', b""]
)
def test_journal_of_others_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    assert ScoreJournal(tmp_path / "j", SETTINGS).done == {}
    filled(tmp_path / "j")
    assert ScoreJournal(tmp_path / "j", {**SETTINGS, "pool": "q"}).done == {}


def test_journal_damaged_in_the_middle_keeps_what_stands_before(tmp_path: Path) -> None:
    lines = filled(tmp_path / "j").splitlines(keepends=True)
    (tmp_path / "j").write_bytes(lines[0] + lines[1] + b'{"batch": 1}\n' + lines[2])
    assert list(ScoreJournal(tmp_path / "j", SETTINGS).done) == [0]
