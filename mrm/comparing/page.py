"""The comparison as one HTML file that needs nothing else, for a phone as for a desk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrm.comparing.axis import Axis
from mrm.comparing.comparison import Comparison
from mrm.comparing.courses import CURVES, ROUND_NAMES, course, noise_course, rounds_of
from mrm.comparing.drawing import axis_canvas, image
from mrm.comparing.measures import TEST, Measure
from mrm.comparing.pictures import WIDTH, course_image, difference_images, noise_image
from mrm.comparing.sources import RunSource
from mrm.comparing.tables import DIFFERENCES, Table, percent
from mrm.pages import FigureImage, write_page

TEMPLATE = Path(__file__).parent / "templates" / "compare.html.j2"


def write_comparison(
    path: str | os.PathLike[str],
    comparison: Comparison,
    *,
    store: RunSource,
    tables: Sequence[Table],
    axis: tuple[Axis, Sequence[Measure]] | None,
    remarks: Sequence[str],
) -> Path:
    """Writes the page.

    Args:
        path: the HTML file; an older one is replaced whole.
        comparison: what is shown.
        store: gives the runs' curves.
        tables: in the order to show.
        axis: the lines over a key and what is drawn; None for none.
        remarks: what a person must know.

    Returns:
        The path written.
    """
    experiments = dict.fromkeys(group.experiment for group in comparison.groups)
    runs = sum(len(group.runs) for group in comparison.groups)
    return write_page(
        path,
        TEMPLATE,
        title="Comparison of " + ", ".join(experiments),
        facts={
            "store": store.uri,
            "groups": len(comparison.groups),
            "runs": runs,
            "references": "; ".join(dict.fromkeys(one.label for one in comparison.references.values())) or "none",
            "intervals": percent(comparison.level),
        },
        findings=comparison.findings(),
        tables=tables,
        beneath={DIFFERENCES: difference_images(comparison.differences)},
        axis_title=f"Over {axis[0].key}" if axis else "",
        axis=_axis_images(axis, comparison),
        curves=_curves(comparison, store),
        remarks=remarks,
        lacking=comparison.lacking,
        groups=comparison.groups,
    )


def _axis_images(axis: tuple[Axis, Sequence[Measure]] | None, comparison: Comparison) -> list[FigureImage]:
    if axis is None:
        return []
    lines, measures = axis
    told = "; ".join(line.label for line in lines.lines)
    return [
        image(
            axis_canvas(lines, [measure], comparison.figures, width=WIDTH),
            measure.title,
            f"{measure.title} over {lines.key}: {told}",
        )
        for measure in measures
    ]


def _curves(comparison: Comparison, store: RunSource) -> list[FigureImage]:
    """Loss and accuracies over the steps, and noise over the rounds."""
    runs = {run.run_id: run for group in comparison.groups for run in group.runs.values()}
    watched = sorted({name for run in runs.values() for name in run.metrics if name.startswith("val/")})
    names = [*CURVES, *(name for name in watched if TEST.fullmatch(name.replace("val/", "test/", 1)))]
    histories = {run_id: store.history(run, names) for run_id, run in runs.items()}
    rounds = {run_id: rounds_of(store.history(run, ROUND_NAMES)) for run_id, run in runs.items()}
    images = [_course_image(comparison, histories, name) for name in names]
    noise = {group.label: noise_course(group, rounds, comparison.level) for group in comparison.groups}
    return [one for one in (*images, noise_image(noise)) if one is not None]


def _course_image(
    comparison: Comparison, histories: Mapping[str, Sequence[Mapping[str, object]]], name: str
) -> FigureImage | None:
    courses = [
        course(group.label, [histories[run.run_id] for run in group.runs.values()], name) for group in comparison.groups
    ]
    return course_image(CURVES.get(name, name), [one for one in courses if one is not None])
