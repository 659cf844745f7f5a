"""Tables of a comparison, made once and shown in three ways: on a terminal, as Markdown, on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from mrm.comparing.differences import Difference, Verdict
from mrm.comparing.grouping import ABSENT, Alignment, Group, brief
from mrm.comparing.measures import ACCURACY, COST, CURATION, Figure, Measure

CONFIGURATION = "What differs in the configuration"
DIFFERENCES = "Differences from the reference"
CONFIG_WIDTH = 120  # characters of a value
CONFIG_COLUMN = 30  # characters that a column needs on a terminal
CONFIG_ROWS = 20  # on a terminal
NOTHING = {ABSENT, "None", "[]", "{}"}
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
        words: cells are texts rather than numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    turns: bool = False
    words: bool = False

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
    kept = any(one.over_samples for one in differences)
    rows = []
    for one in differences:
        digits = one.measure.digits
        cells = [
            one.group,
            one.measure.title,
            signed(one.over_seeds.test.interval.estimate, digits),
            str(len(one.seeds)),
        ]
        cells += _verdict_cells(one.over_seeds, digits)
        cells += _verdict_cells(one.over_samples, digits) if kept else []
        rows.append((*cells, one.text))
    level = differences[0].over_seeds.level
    columns = ["group", "figure", "difference", "seeds", f"{percent(level)} over seeds", "p"]
    columns += [f"{percent(level)} over samples", "p"] if kept else []
    return Table(DIFFERENCES, (*columns, "beyond noise"), tuple(rows), _difference_notes(differences, kept))


def _verdict_cells(verdict: Verdict | None, digits: int) -> list[str]:
    if verdict is None:
        return ["–", "–"]
    interval = verdict.test.interval
    if interval.low is None or interval.high is None:
        return ["–", probability(verdict.adjusted)]
    return [f"{signed(interval.low, digits)} to {signed(interval.high, digits)}", probability(verdict.adjusted)]


def _difference_notes(differences: Sequence[Difference], kept: bool) -> tuple[str, ...]:
    names = dict.fromkeys(one.reference for one in differences)
    level = differences[0].over_seeds.level
    by_seeds = sum(one.over_seeds.adjusted is not None for one in differences)
    by_samples = sum(one.over_samples is not None for one in differences)
    over_samples = (
        " Over samples: the bootstrap of the test samples, the mean over those seeds, for the trainings at hand."
        if kept
        else ""
    )
    families = f"the {by_seeds} over seeds together" + (f", the {by_samples} over samples together" if kept else "")
    return (
        f"Group minus reference ({'; '.join(names)}). Over seeds: a pair for each seed that both have, interval by Student's t."
        f"{over_samples} Intervals are each difference's own; the p-values are corrected by Holm's method, {families}.",
        f"Beyond noise: yes where every test of the difference has a corrected p below {1 - level:.2g} (by seeds, by samples: the other "
        "test could not be had); 'alone, not among all' where "
        "only its own interval excludes 0.",
    )


def mcnemar_table(differences: Sequence[Difference]) -> Table | None:
    """Discordant counts of every set and seed; None where no run kept what it scored."""
    rows = []
    related = False
    for one in differences:
        if one.samples is None or not one.samples.mcnemar:
            continue
        related |= one.samples.related
        tests = one.samples.mcnemar
        rows.append(
            (
                *(one.group, one.measure.title, str(one.samples.pairs), ", ".join(map(str, tests))),
                ", ".join(f"{test.only_first} : {test.only_second}" for test in tests.values()),
                ", ".join(probability(test.mid) for test in tests.values()),
                ", ".join(probability(test.exact) for test in tests.values()),
            )
        )
    if not rows:
        return None
    notes = [
        "Of each seed: pairs that only the group has right, and pairs that only the reference has; p-values are not corrected."
    ]
    if related:
        notes.append(
            "Some samples have several pairs, which McNemar's test takes as independent; the bootstrap does not."
        )
    columns = ("group", "test set", "pairs", "seed", "only group : only reference", "McNemar mid-p", "exact p")
    return Table("The same samples, seed by seed", columns, tuple(rows), tuple(notes))


def differing_table(alignment: Alignment) -> Table | None:
    """What groups differ in, a row a key or a part of the configuration that only some have; None where there is nothing.

    All keys one by one stand in the JSON output.
    """
    rows = tuple(
        (key, *(brief(value, CONFIG_WIDTH) for value in values)) for key, values in folded(alignment.differing)
    )
    if not rows:
        return None
    columns = ("key", *(group.label for group in alignment.groups))
    return Table(CONFIGURATION, columns, rows, words=True)


def folded(differing: Mapping[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """Keys with their values, by key; keys of one part that the same groups have, with equal values, are one row.

    Args:
        differing: dotted key -> each group's value; keys that are empty wherever they are there tell
            nothing and are left out, and so are those that a part's `use` tells.
    """
    told = {
        key: values
        for key, values in differing.items()
        if not set(values) <= NOTHING and not _told_by_use(key, differing)
    }
    parts: dict[str, list[str]] = {}
    for key, values in told.items():
        some = {value for value in values if value != ABSENT}
        if ABSENT in values and len(some) == 1 and key.count(".") > 1:
            parts.setdefault(key.rpartition(".")[0], []).append(key)
    rows: dict[str, tuple[str, ...]] = {}
    for part, keys in parts.items():
        holders = {tuple(value != ABSENT for value in told[key]) for key in keys}
        if len(keys) > 1 and len(holders) == 1:
            whole = ", ".join(f"{key.rpartition('.')[2]}={next(v for v in told[key] if v != ABSENT)}" for key in keys)
            rows[part] = tuple(whole if held else ABSENT for held in next(iter(holders)))
            for key in keys:
                del told[key]
    return sorted({**told, **rows}.items())


def _told_by_use(key: str, differing: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a setting is lacking just where its part is not in use, and else the same: the part's own row tells that."""
    values = differing[key]
    parts = key.split(".")
    uses = (differing.get(".".join([*parts[:length], "use"])) for length in range(1, len(parts)))
    same = len(set(values) - {ABSENT}) == 1 and not key.endswith(".use")
    return same and any(
        use is not None and all((value == ABSENT) == (used != "True") for value, used in zip(values, use, strict=True))
        for use in uses
    )


def signed(value: float, digits: int) -> str:
    """A difference with its sign, and none at zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def percent(share: float) -> str:
    """A share in percent, with the digits that it has: 95%, 99.9%."""
    return f"{100 * share:.10g}%"


def probability(p: float | None) -> str:
    """A p-value as text."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def print_table(table: Table, console: Console) -> None:
    """Prints a table, turned where only that fits."""
    more = 0
    if table.title == CONFIGURATION and len(table.columns) * CONFIG_COLUMN > console.width:
        told = f"{len(table.rows)} settings differ between the groups; output=, markdown= and json= list them."
        console.print(told, style="dim", markup=False, highlight=False)
        return
    if table.title == CONFIGURATION:
        more = max(0, len(table.rows) - CONFIG_ROWS)
        table = replace(table, rows=tuple((row[0], *map(brief, row[1:])) for row in table.rows[:CONFIG_ROWS]))
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
    for note in [*table.notes, *([f"{more} more in output=, markdown= and json=."] if more else [])]:
        console.print(note, style="dim", markup=False, highlight=False)


def _is_numeric(table: Table, column: int) -> bool:
    return all(row[column][:1] in "0123456789+−-–<" for row in table.rows)


def markdown(table: Table) -> str:
    """A table as GitHub's Markdown."""
    right = ["---:" if number and _is_numeric(table, number) else "---" for number in range(len(table.columns))]
    lines = [table.columns, right, *table.rows]
    text = "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)
    heading = [f"### {table.title}"] if table.title else []
    return "\n\n".join([*heading, text, *table.notes])


def _plain(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
