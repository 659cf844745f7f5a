from pathlib import Path

import pytest

from datamodules.index import Index
from datamodules.reindex import main
from tests.datamodules.making import make_dataset, make_image, make_sample
from tests.datamodules.test_index import record, write_tar


def test_reindex_foreign_tars_can_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_tar(tmp_path / "a/x.tar", [("a.png", make_image()), ("a.json", record("a", 1))])
    write_tar(tmp_path / "b/y.tar", [("b.json", record("b")), ("c.json", record("c"))])
    assert main([f"shards={tmp_path / 'a'},{tmp_path / 'b'}"]) == 0
    assert list(Index.load(tmp_path / "a").keys) == ["a"] and list(Index.load(tmp_path / "b").keys) == ["b", "c"]
    assert "samples" in capsys.readouterr().out


def test_reindex_fingerprint_stays_so_that_ledgers_fit(tmp_path: Path) -> None:
    before = make_dataset(tmp_path / "set", [make_sample("a"), make_sample("b", images=())])
    assert main([f"shards={tmp_path / 'set'}"]) == 0
    assert Index.load(tmp_path / "set").fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["shards="], "shards: is missing"),
        (["shard=x"], "shard: no such setting"),
        (["x"], "not of the form key=value"),
        (["shards=/no/such/folder"], "no such directory"),
    ],
)
def test_reindex_bad_arguments_are_one_error(words: list[str], found: str, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 1
    assert found in capsys.readouterr().err


def test_reindex_help_names_the_command(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    assert "python -m datamodules.reindex shards=DIR" in capsys.readouterr().out
