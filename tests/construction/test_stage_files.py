"""A stage's files: whole or not there, counted, and known by what they were made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrm.construction.stage_files import NAMED, Left, StageAccount, StageFile, digest_of
from mrm.errors import ConfigError


def test_write_counts_and_names_what_is_left_out(tmp_path: Path) -> None:
    file = StageFile(tmp_path, "respond")
    account = file.write(StageAccount("d"), [{"key": "a"}, Left("b", "tie", "why"), {"key": "c"}])
    assert (account.read, account.written, account.left, account.named) == (3, 2, {"tie": 1}, {"tie": ["b"]})
    assert list(file.read()) == [{"key": "a"}, {"key": "c"}]
    assert json.loads(file.skipped.read_text()) == {"key": "b", "reason": "tie", "detail": "why"}
    assert file.account() == account


def test_write_names_a_few_and_lists_all(tmp_path: Path) -> None:
    file = StageFile(tmp_path, "respond")
    account = file.write(StageAccount("d"), [Left(str(n), "tie", "") for n in range(NAMED + 3)])
    assert account.left == {"tie": NAMED + 3} and len(account.named["tie"]) == NAMED
    assert len(file.skipped.read_text().splitlines()) == NAMED + 3


def test_is_done_only_for_the_same_inputs_and_a_whole_output(tmp_path: Path) -> None:
    file = StageFile(tmp_path, "respond")
    assert not file.is_done("d")
    file.write(StageAccount("d"), [{"key": "a"}])
    assert file.is_done("d") and not file.is_done("other")
    file.write(StageAccount("d", complete=False), [{"key": "a"}])
    assert not file.is_done("d")


def test_write_that_fails_leaves_no_output_that_looks_whole(tmp_path: Path) -> None:
    file = StageFile(tmp_path, "respond")
    file.write(StageAccount("d"), [{"key": "old"}])

    def broken() -> Iterator[dict[str, str]]:
        yield {"key": "new"}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        file.write(StageAccount("e"), broken())
    assert file.account() is None
    assert list(file.read()) == [{"key": "old"}]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_read_before_the_stage_was_done_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'respond' comes first"):
        list(StageFile(tmp_path, "respond").read())


def test_read_damaged_line_is_named(tmp_path: Path) -> None:
    file = StageFile(tmp_path, "respond")
    file.path.write_text('{"key": 1}\n{"key"\n')
    with pytest.raises(ConfigError, match=r"respond\.jsonl:2"):
        list(file.read())


def test_digest_of_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 2, "b": 1})
