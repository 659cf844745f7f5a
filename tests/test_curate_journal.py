"""The journal of a scoring: whole lines count, those of other settings do not."""

import resource
import signal
from pathlib import Path

import pytest

from mrm.curate_journal import ScoreJournal, remove_journals

SETTINGS = {"pool": "p", "model": "m"}


def filled(target: Path) -> tuple[Path, bytes]:
    journal = ScoreJournal(target, SETTINGS)
    journal.add(0, {"a": [0.5, -1.25]})
    journal.add(2, {"c": [0.10000000149011612, 3e38]})
    journal.close()
    return journal.path, journal.path.read_bytes()


def test_journal_gives_back_what_was_kept_to_the_bit(tmp_path: Path) -> None:
    path, _ = filled(tmp_path / "out")
    assert path.parent == tmp_path and path.name.startswith("out.scoring-")
    journal = ScoreJournal(tmp_path / "out", SETTINGS)
    assert journal.done == {0: {"a": [0.5, -1.25]}, 2: {"c": [0.10000000149011612, 3e38]}}
    journal.add(1, {"b": [1.0]})
    journal.close()
    assert sorted(ScoreJournal(tmp_path / "out", SETTINGS).done) == [0, 1, 2]


def test_journal_cut_anywhere_keeps_the_whole_lines(tmp_path: Path) -> None:
    path, whole = filled(tmp_path / "out")
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        journal = ScoreJournal(tmp_path / "out", SETTINGS)
        assert len(journal.done) == max(0, whole[:size].count(b"\n") - 1)
        journal.add(7, {"x": [1.0]})
        journal.close()
        assert 7 in ScoreJournal(tmp_path / "out", SETTINGS).done


@pytest.mark.parametrize(
    "content", [b"[]\n", b"not json\n", b'{"settings": "other"}\n{"batch": 0, "rewards": {}}\n', b""]
)
def test_journal_that_is_none_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path, _ = filled(tmp_path / "out")
    path.write_bytes(content)
    assert ScoreJournal(tmp_path / "out", SETTINGS).done == {}


def test_journal_of_other_settings_is_left_alone_until_the_output_stands(tmp_path: Path) -> None:
    path, whole = filled(tmp_path / "out")
    (tmp_path / "out2.scoring-12345678.jsonl").write_text("another output's")
    other = ScoreJournal(tmp_path / "out", {**SETTINGS, "pool": "q"})
    other.add(0, {"a": [1.0]})
    other.close()
    assert path.read_bytes() == whole and other.path != path
    remove_journals(tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["out2.scoring-12345678.jsonl"]


def test_journal_damaged_in_the_middle_keeps_what_stands_before(tmp_path: Path) -> None:
    path, whole = filled(tmp_path / "out")
    lines = whole.splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b'{"batch": 1}\n' + lines[2])
    assert list(ScoreJournal(tmp_path / "out", SETTINGS).done) == [0]


def test_journal_on_a_full_disk_tells_once_and_closes(tmp_path: Path) -> None:
    journal = ScoreJournal(tmp_path / "out", SETTINGS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.add(0, {"a" * 200: [1.0]})
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
