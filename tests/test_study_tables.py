"""The docs' tables are those that the kept runs give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.study_tables import DOCS, made_again, pages


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_tables_of_the_docs_are_what_the_runs_give(page: Path) -> None:
    assert page.read_text() == made_again(page.read_text()), "python -m tests.study_tables writes them anew"


def test_studies_are_shown_somewhere() -> None:
    shown = "".join(path.read_text() for path in pages())
    assert all(f"store=docs/studies/{path.name}" in shown for path in (DOCS / "studies").iterdir())


def test_made_again_changes_a_table_and_nothing_around_it() -> None:
    head = "<!-- mrm.compare store=docs/studies/curation.jsonl.gz sweep=a measures=noise_after : Curation of the open pool -->"
    once = made_again(f"before\n{head}\n| typed |\n<!-- end -->\nbehind")
    assert once.startswith(f"before\n{head}\n") and once.endswith("<!-- end -->\nbehind")
    assert "typed" not in once and "| dt2it_full | 5 |" in once
    assert made_again(once) == once


def test_made_again_of_a_table_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ValueError, match="no table 'Speed'; there are Accuracy"):
        made_again("<!-- mrm.compare store=docs/studies/curation.jsonl.gz sweep=a : Speed -->\n<!-- end -->")
