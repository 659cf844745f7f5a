"""`python -m mrm.compare [experiment=NAME] [store=DIR] [key=value ...]`: compares runs that MLflow has.

Runs that differ only in their seed are a group. Told of each group: every figure with its mean and interval over the seeds; of each
pair of a group and the reference: the difference over the same seeds, and whether it is beyond noise. On the terminal, as a
page (output=FILE.html), as Markdown (markdown=FILE.md) and as JSON (json=FILE.json); as a picture (figure=FILE.svg), with x=KEY over a number of the
configuration. archive=FILE.jsonl.gz keeps the runs in one file, which store= takes. Nothing in the store or the runs' folders is changed.

Lists are written [A,B]. All of it: docs/comparing.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas

from mrm.cli import open_console, settings_command
from mrm.compare_config import CompareConfig, check, names
from mrm.comparing.archive import ENDING, Archive, write_archive
from mrm.comparing.axis import Axis, axis_values, lines_over
from mrm.comparing.comparison import Comparison, compare_runs, pick_measures, to_json
from mrm.comparing.courses import flow_table
from mrm.comparing.drawing import axis_canvas, groups_canvas, save
from mrm.comparing.measures import Measure, measures_of
from mrm.comparing.page import write_comparison
from mrm.comparing.selecting import choose, select
from mrm.comparing.sources import RunSource, Together
from mrm.comparing.store import Store
from mrm.comparing.tables import (
    Table,
    difference_table,
    differing_table,
    figure_tables,
    markdown,
    mcnemar_table,
    percent,
    print_table,
)
from mrm.errors import ConfigError


def open_store(config: CompareConfig) -> RunSource:
    """Checks the settings, and opens the stores and archives."""
    check(config)
    sources: list[RunSource] = [
        Archive(Path(one)) if one.endswith(ENDING) else Store(one, config.experiment_name)
        for one in names(config.store)
    ]
    return sources[0] if len(sources) == 1 else Together(sources)


def compare(config: CompareConfig, store: RunSource | None = None) -> Comparison:
    """Reads, aligns and compares runs.

    Args:
        config: what is compared.
        store: of `open_store`.

    Raises:
        ConfigError: for a store, a run, a reference or a figure that is not there.
    """
    store = store or open_store(config)
    runs, strangers = store.runs()
    experiments = names(config.experiment)
    asked = select(runs, experiments=experiments, sweeps=names(config.sweep), ids=names(config.runs))
    chosen = choose([store.whole(run) for run in asked], unfinished=config.unfinished)
    return compare_runs(
        store,
        chosen,
        order=experiments,
        reference=config.reference,
        only=names(config.measures),
        level=config.level,
        strangers=strangers,
    )


def drawn_axis(config: CompareConfig, comparison: Comparison) -> tuple[Axis, list[Measure]] | None:
    """The lines over `x` and what is drawn; None where no `x` is given."""
    if config.x is None:
        return None
    return lines_over(comparison.alignment, config.x), drawn_measures(config, comparison)


def drawn_measures(config: CompareConfig, comparison: Comparison) -> list[Measure]:
    """What `metric` names."""
    return pick_measures(measures_of(comparison.chosen.runs), names(config.metric) or ["mean"], "metric")


def tables_of(comparison: Comparison) -> list[Table]:
    """All tables, in the order in which they are shown."""
    made = [
        *figure_tables(comparison.groups, comparison.measures, comparison.figures),
        difference_table(comparison.differences),
        mcnemar_table(comparison.differences),
        flow_table(comparison.groups, comparison.rounds),
        differing_table(comparison.alignment),
    ]
    return [table for table in made if table is not None]


def run(config: CompareConfig) -> None:
    """Compares, prints and writes."""
    store = open_store(config)
    comparison = compare(config, store)
    axis = drawn_axis(config, comparison)
    if config.figure:
        drawn_measures(config, comparison)  # a wrong name is told before anything is printed or written
    tables, console = tables_of(comparison), open_console()
    remarks = [*comparison.notes, *axis_notes(axis[0] if axis else None), *_reading(comparison)]
    lines = [*comparison.findings(), *remarks]
    lines += [f"Not measured: {'; '.join(comparison.lacking)}."] if comparison.lacking else []
    for table in tables:
        print_table(table, console)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    ways: dict[str, Callable[[Path], object]] = {
        "output": lambda path: write_comparison(
            path, comparison, store=store, tables=tables, axis=axis, remarks=remarks
        ),
        "markdown": lambda path: _write_text(path, "\n\n".join([*map(markdown, tables), *lines])),
        "json": lambda path: _write_text(path, _json_text(comparison, axis)),
        "archive": lambda path: write_archive(path, store, comparison.chosen.runs),
        "figure": lambda path: save(_drawing(config, comparison, axis), path),
    }
    written = [_write(key, getattr(config, key), way) for key, way in ways.items() if getattr(config, key)]
    for path in written:
        console.print(f"Written: {path}", markup=False, highlight=False, soft_wrap=True)


def _drawing(config: CompareConfig, comparison: Comparison, axis: tuple[Axis, list[Measure]] | None) -> Canvas:
    """Lines over `x`; without it all groups, one beneath the other."""
    if axis is not None:
        return axis_canvas(*axis, comparison.figures)
    labels = [group.label for group in comparison.groups]
    against = {one.label for one in comparison.references.values()}
    reference = against.pop() if len(against) == 1 else None
    return groups_canvas(labels, drawn_measures(config, comparison), comparison.figures, reference)


def _reading(comparison: Comparison) -> list[str]:
    """How the tables are to be read."""
    if any(len(group.runs) > 1 for group in comparison.groups):
        told = [f"± is half the {percent(comparison.level)} interval over seeds, by Student's t."]
    else:
        told = []
    single = [group.label for group in comparison.groups if len(group.runs) == 1]
    return told + ([f"One seed, so no interval: {'; '.join(single)}."] if single else [])


def axis_notes(axis: Axis | None) -> list[str]:
    """What a person must know of the drawing."""
    if axis is None:
        return []
    labels = [group.label for group in axis.level]
    notes = (
        [f"Without {axis.key}, or with its part not in use, so a level line: {'; '.join(labels)}."] if labels else []
    )
    notes += [f"Along a line of {axis.key} these vary too: {', '.join(axis.also)}."] if axis.also else []
    return notes + (
        [f"Without a number at {axis.key}, so not drawn: {'; '.join(axis.left_out)}."] if axis.left_out else []
    )


def axis_json(axis: Axis, measures: Sequence[Measure], comparison: Comparison) -> dict[str, Any]:
    """The drawing's points."""
    return {
        "key": axis.key,
        "also_varying": list(axis.also),
        "lines": {measure.key: axis_values(axis, measure.key, comparison.figures) for measure in measures},
    }


def _json_text(comparison: Comparison, axis: tuple[Axis, list[Measure]] | None) -> str:
    content = to_json(comparison)
    if axis is not None:
        content["x"] = axis_json(*axis, comparison)
    return json.dumps(content, indent=1, allow_nan=False)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _temporary(path: Path) -> Path:
    """The name that all ways of writing here give a file until it is whole."""
    return path.with_name(path.name + ".tmp")


def _write(key: str, path: str, way: Callable[[Path], object]) -> Path:
    """Writes an output whole, or nothing of it.

    Raises:
        ConfigError: where it cannot be written.
    """
    target = Path(path)
    try:
        way(target)
    except OSError as error:
        if error.errno is None:  # of a server that is asked meanwhile, not of the file
            raise
        with contextlib.suppress(OSError):
            _temporary(target).unlink()
        raise ConfigError(f"{key}={path!r}: cannot be written: {error}; choose another place.") from error
    return target


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(CompareConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
