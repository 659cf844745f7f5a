"""The bar of the commands that score."""

from __future__ import annotations

import pytest

from mrm.progress import shown


def test_shown_gives_the_items_and_counts_those_that_were_done_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown("abc", "score", total=5, show=True, done=2)) == ["a", "b", "c"]
    assert "5/5" in capsys.readouterr().err


def test_shown_hidden_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown(range(3), "score", total=None, show=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
