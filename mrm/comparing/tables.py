"""Tables of a comparison, made once and shown in three ways: on a terminal, as Markdown, on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from mrm.comparing.differences import Difference
from mrm.comparing.grouping import Alignment, Group, brief
from mrm.comparing.measures import ACCURACY, COST, CURATION, Figure, Measure

TITLES = {ACCURACY: "Accuracy", CURATION: "Curation of the open pool", COST: "Cost"}


@dataclass(frozen=True)
class Table:
    """Text in rows.

    Args:
        title: heading.
        columns: headings; the first is of the rows' names.
        rows: as many cells as columns each.
        notes: sentences beneath.
        turns: rows and columns may change places where that is narrower.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    turns: bool = False

    def turned(self) -> Table:
        """Rows as columns."""
        cells = [self.columns, *self.rows]
        columns, *rows = (tuple(column) for column in zip(*cells, strict=True))
        return Table(self.title, columns, tuple(rows), self.notes, self.turns)

    @property
    def width(self) -> int:
        """Characters that a terminal needs, frames included."""
        return 1 + sum(3 + max(len(cell) for cell in column) for column in zip(self.columns, *self.rows, strict=True))


def figure_tables(
    groups: Sequence[Group], measures: Sequence[Measure], figures: Mapping[str, Mapping[str, Figure]]
) -> list[Table]:
    """A table a kind of measure, a row a group; measures that no group has are left out."""
    tables = []
    for kind, title in TITLES.items():
        own = [
            measure
            for measure in measures
            if measure.kind == kind and any(figures[group.label][measure.key].values for group in groups)
        ]
        if own:
            rows = tuple(
                (group.label, str(len(group.runs)), *(_cell(figures[group.label][one.key], group) for one in own))
                for group in groups
            )
            tables.append(Table(title, ("", "seeds", *(measure.title for measure in own)), rows, turns=True))
    return tables


def _cell(figure: Figure, group: Group) -> str:
    some = len(figure.values)
    return figure.text() + (f" ({some} of {len(group.runs)} seeds)" if 0 < some < len(group.runs) else "")


def difference_table(differences: Sequence[Difference]) -> Table | None:
    """A row a difference; None where there is none."""
    if not differences:
        return None
    rows = []
    for one in differences:
        interval, digits = one.over_seeds.test.interval, one.measure.digits
        ends = (
            "–"
            if interval.low is None or interval.high is None
            else f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
        )
        rows.append(
            (
                one.group,
                one.measure.title,
                signed(interval.estimate, digits),
                str(len(one.seeds)),
                ends,
                probability(one.over_seeds.test.p),
                probability(one.over_seeds.adjusted),
                one.over_seeds.text,
            )
        )
    names = dict.fromkeys(one.reference for one in differences)
    tested = sum(one.over_seeds.test.p is not None for one in differences)
    level = differences[0].over_seeds.level
    notes = (
        f"Group minus reference ({'; '.join(names)}), a pair for each seed that both have. The interval is of {level:.0%} by Student's "
        f"t, for the difference alone. The {tested} p-values of this table are corrected together by Holm's method: beyond noise says "
        f"yes where the corrected one is below {1 - level:.2g}; 'alone, not among all' where only the difference's own interval excludes 0.",
    )
    columns = ("group", "figure", "difference", "seeds", f"{level:.0%} interval", "p", "p (Holm)", "beyond noise")
    return Table("Differences from the reference, over seeds", columns, tuple(rows), notes)


def differing_table(alignment: Alignment) -> Table | None:
    """The keys that groups differ in; None where there is one group."""
    if not alignment.differing:
        return None
    columns = ("key", *(group.label for group in alignment.groups))
    rows = tuple((key, *map(brief, values)) for key, values in sorted(alignment.differing.items()))
    return Table("What differs in the configuration", columns, rows)


def signed(value: float, digits: int) -> str:
    """A difference with its sign, and none at zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def probability(p: float | None) -> str:
    """A p-value as text."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def print_table(table: Table, console: Console) -> None:
    """Prints a table, turned where only that fits."""
    if table.turns and table.width > console.width and table.turned().width < table.width:
        table = table.turned()
    made = RichTable(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        made.add_column(
            escape(column), justify="right" if number and _is_numeric(table, number) else "left", overflow="fold"
        )
    for row in table.rows:
        made.add_row(*map(escape, row))
    console.print(made)
    for note in table.notes:
        console.print(note, style="dim", markup=False, highlight=False)


def _is_numeric(table: Table, column: int) -> bool:
    return all(row[column][:1] in "0123456789+−-–<" for row in table.rows)


def markdown(table: Table) -> str:
    """A table as GitHub's Markdown."""
    right = ["---:" if number and _is_numeric(table, number) else "---" for number in range(len(table.columns))]
    lines = [table.columns, right, *table.rows]
    text = "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)
    return "\n\n".join([f"### {table.title}", text, *table.notes])


def _plain(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
