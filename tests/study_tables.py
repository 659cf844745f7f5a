"""The tables of README and the docs that `mrm.compare` makes of the kept runs in docs/studies: `python -m tests.study_tables` writes them anew.

A table stands between two comments, the first with the words of the command and the table's title:

    <!-- mrm.compare store=docs/studies/FILE.jsonl.gz sweep=NAME : Accuracy -->
    <!-- end -->

`Notes` in the place of a title gives what is to be known of the comparison, such as the states of the code. So no figure of them is typed; `tests/test_study_tables.py` holds the files against the runs.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

from mrm.cli import parse_settings
from mrm.compare import compare, tables_of
from mrm.compare_config import CompareConfig
from mrm.comparing.tables import markdown

NOTES = "Notes"  # in the place of a title: what a person must know of the comparison
DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"(<!-- mrm\.compare (?P<words>[^\n]*?) : (?P<title>[^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def made_again(text: str) -> str:
    """The text with its tables made from the runs; paths are those from the repository's root.

    Raises:
        ValueError: for a title that no table has.
        ConfigError: for words that `mrm.compare` refuses.
    """

    def table(block: re.Match[str]) -> str:
        config = parse_settings(CompareConfig, shlex.split(block["words"]))
        comparison = compare(config)
        if block["title"] == NOTES:
            return "\n".join([block[1], *(f"- {note}" for note in comparison.notes), "", block[4]])
        made = {one.title: one for one in tables_of(comparison)}
        if block["title"] not in made:
            raise ValueError(f"{block['words']}: there is no table {block['title']!r}; there are {', '.join(made)}.")
        wanted = replace(made[block["title"]], title="", notes=())
        return f"{block[1]}\n{markdown(wanted).strip()}\n\n{block[4]}"

    return _BLOCK.sub(table, text)


def pages() -> list[Path]:
    """README and the docs, those that have such tables."""
    all_pages = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
    return [path for path in all_pages if _BLOCK.search(path.read_text())]


if __name__ == "__main__":
    for page in pages():
        page.write_text(made_again(page.read_text()))
        print(page)
