"""Candidates to score: a record without a preference, and what is not one."""

import json
from pathlib import Path

import pytest

from datamodules.sources.base import Skipped
from mrm.score_input import Candidates, read_candidates

RECORD = {"prompt": "Say a number.", "responses": ["One.", "Two."]}


def read_one(folder: Path, **changes: object) -> Candidates | Skipped:
    (folder / "in.jsonl").write_text(json.dumps({**RECORD, **changes}))
    (item,) = read_candidates(folder / "in.jsonl")
    return item


@pytest.mark.parametrize("pairs", [0, False, None, "", {}])
def test_read_candidates_pairs_other_than_a_list_are_refused(tmp_path: Path, pairs: object) -> None:
    item = read_one(tmp_path, pairs=pairs)
    assert isinstance(item, Skipped) and item.reason == "malformed field"


def test_read_candidates_empty_pairs_are_none(tmp_path: Path) -> None:
    item = read_one(tmp_path, pairs=[])
    assert isinstance(item, Candidates) and item.pairs == () and item.responses == ("One.", "Two.")
