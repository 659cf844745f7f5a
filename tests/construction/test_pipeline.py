"""Stages' files put together: lines find their records, whatever was left out on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construct import construct
from mrm.construction.stage_data import by_key
from tests.construction.constructing import done_at, files, own_config, own_input, small_config


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_by_key_finds_every_line_and_none_for_the_others(records: list[tuple[bool, bool]]) -> None:
    """Of each record: whether it has a line, and whether it is asked for; lines of records not asked for must not block."""
    keys = [f"k{number}" for number in range(len(records))]
    find = by_key({"key": key} for key, (has, asked) in zip(keys, records, strict=True) if has and asked)
    for key, (has, asked) in zip(keys, records, strict=True):
        assert find(key) == ({"key": key} if has and asked else None)


def test_balancing_leaves_out_pairs_by_name_and_the_accounts_hold(tmp_path: Path) -> None:
    result = construct(small_config(tmp_path, "style.mode=subsample", count=60))
    style = result.accounts["style"]
    assert style.left["style predicts the winner"] > 0 and style.read == style.written + sum(style.left.values())
    assert style.read == result.accounts["agree"].written
    assert result.accounts["write"].left == {"no pair left": 60 - result.accounts["write"].written}


@pytest.mark.parametrize("mode", ["subsample", "match"])
def test_balancing_again_chooses_the_same_pairs(tmp_path: Path, mode: str) -> None:
    for name in ("one", "other"):
        construct(small_config(tmp_path / name, f"style.mode={mode}", count=40))
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_changed_input_redoes_everything(tmp_path: Path) -> None:
    work = tmp_path / "work"
    construct(own_config(work, own_input(tmp_path, ["good", "bad"])))
    before = done_at(work)
    construct(own_config(work, own_input(tmp_path, ["good", "bad"], ["good good", "bad"])))
    assert all(done_at(work)[name] != when for name, when in before.items())


def test_changed_input_that_gives_the_same_prompts_redoes_no_later_stage(tmp_path: Path) -> None:
    work = tmp_path / "work"
    path = own_input(tmp_path, ["good", "bad"])
    construct(own_config(work, path))
    before = done_at(work)
    path.write_text(path.read_text().replace('"prompt": ', '"prompt":  '))
    construct(own_config(work, path))
    assert [name for name, when in done_at(work).items() if when != before[name]] == ["prompts"]
