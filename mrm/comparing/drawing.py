"""The comparison's pictures, drawn with Agg, no display needed: in the page as data URIs, and as files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from mrm.comparing.axis import Axis, axis_values
from mrm.comparing.measures import Figure, Measure
from mrm.errors import ConfigError
from mrm.pages import COLOURS, DPI, FigureImage, figure_uri

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LETTERS = 14  # of a legend in an inch
LEGEND_ROW = 0.18  # inches
FORMATS = (".svg", ".png", ".pdf")
STABLE: Any = {"svg.hashsalt": "mrm", "svg.fonttype": "none"}  # the same figures give the same file


def axis_canvas(
    axis: Axis,
    measures: Sequence[Measure],
    figures: Mapping[str, Mapping[str, Figure]],
    width: float | None = None,
) -> Canvas:
    """A panel a measure: lines over the key with bands of the interval; a point of one seed has none.

    Args:
        axis: lines and their groups.
        measures: a panel each.
        figures: label -> measure -> figure.
        width: inches; by the number of panels by default.
    """
    canvas = Canvas(figsize=(width or 1 + 4.6 * len(measures), 3.6), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(1, len(measures), squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=True):
        for number, (label, points) in enumerate(axis_values(axis, measure.key, figures).items()):
            if points:
                _line(panel, points, label, number)
        dress(panel, measure.title, axis.key.rpartition(".")[2].replace("_", " "))
    labels = panels[0].get_legend_handles_labels()[1]
    if len(labels) > 1:
        legend_beneath(canvas, panels[0])
    elif labels:
        told = fill(f"{measures[0].title}: {labels[0]}", int(11 * (canvas.get_figwidth() / len(panels) - 0.8)))
        panels[0].set_title(told, fontsize=10, loc="left")
    return canvas


def _line(panel: Any, points: Sequence[Mapping[str, Any]], label: str, number: int) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    style = "-" if number < len(COLOURS) else "--"
    xs = [point["x"] for point in points]
    if xs == [None]:  # the same whatever the key is
        (point,) = points
        panel.axhline(point["mean"], linestyle=":", linewidth=1.4, color=colour, label=label)
        if point["low"] is not None:
            panel.axhspan(point["low"], point["high"], color=colour, alpha=0.1, linewidth=0)
        return
    panel.plot(
        xs,
        [point["mean"] for point in points],
        style,
        marker=marker,
        markersize=4,
        linewidth=1.4,
        color=colour,
        label=label,
    )
    ends = [(point["x"], point["low"], point["high"]) for point in points if point["low"] is not None]
    if len(ends) > 1:
        x, low, high = zip(*ends, strict=True)
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    elif ends:  # a band needs two
        x, low, high = ends[0]
        panel.vlines(x, low, high, color=colour, linewidth=1)


def groups_canvas(
    labels: Sequence[str],
    measures: Sequence[Measure],
    figures: Mapping[str, Mapping[str, Figure]],
    reference: str | None = None,
) -> Canvas:
    """A panel a measure, a row a group: mean and interval, and each seed as a faint point; a dotted line at the reference's mean.

    Args:
        labels: of the groups, from top to bottom.
        measures: a panel each.
        figures: label -> measure -> figure.
        reference: label of the group that the others are compared with; None for none, or several.
    """
    names = max(map(len, labels), default=1) / LETTERS  # inches
    canvas = Canvas(figsize=(0.5 + names + 3.2 * len(measures), 1.1 + 0.3 * len(labels)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for panel, measure in zip(panels, measures, strict=True):
        for row, label in enumerate(labels):
            figure = figures[label][measure.key]
            if (found := figure.interval) is None:
                continue
            panel.plot(list(figure.values.values()), [row] * len(figure.values), "o", markersize=3, color="#b9c0c7")
            if found.low is not None and found.high is not None:
                panel.hlines(row, found.low, found.high, color=COLOURS[0], linewidth=1.4)
            panel.plot([found.estimate], [row], "o", markersize=5, color=COLOURS[0])
            if label == reference:
                panel.axvline(found.estimate, color="#888", linewidth=0.8, linestyle=":")
        dress(panel, measure.title, "")
        panel.grid(axis="x", color="#e4e7ea", linewidth=0.6)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    return canvas


def legend_beneath(canvas: Canvas, panel: Any) -> None:
    """A legend beneath all panels; long labels are broken, and from the third line on the picture grows by what they need."""
    handles, labels = panel.get_legend_handles_labels()
    width = canvas.get_figwidth()
    columns = legend_columns(labels, width)
    broken = [fill(label, max(10, int(width * LETTERS) - 7)) for label in labels]
    lines = sum(label.count("\n") + 1 for label in broken) / columns
    canvas.set_figheight(canvas.get_figheight() + LEGEND_ROW * max(0.0, lines - 2))
    canvas.legend(handles, broken, loc="outside lower center", fontsize=8, frameon=False, ncols=columns)


def legend_columns(labels: Sequence[str], inches: float) -> int:
    """How many columns of these labels a legend of this width has room for."""
    return max(1, min(len(labels), int(inches * LETTERS / (max(map(len, labels)) + 7))))


def dress(panel: Any, title: str, xlabel: str) -> None:
    """Titles and frame as all pictures here have them."""
    panel.set_title(title, fontsize=10, loc="left")
    panel.set_xlabel(xlabel, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#e4e7ea", linewidth=0.6)
    panel.set_axisbelow(True)


def save(canvas: Canvas, path: str | os.PathLike[str]) -> Path:
    """Writes a picture in the format of its ending; an older one is replaced whole."""
    target = Path(path)
    check_format(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    date: Any = {} if target.suffix == ".png" else {"CreationDate" if target.suffix == ".pdf" else "Date": None}
    with matplotlib.rc_context(STABLE):
        canvas.savefig(temporary, format=target.suffix[1:], dpi=150, metadata=date, facecolor="white")
    temporary.replace(target)
    return target


def check_format(path: Path) -> None:
    """Raises a ConfigError for an ending that no picture has here."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"figure={str(path)!r}: must end in one of {', '.join(FORMATS)}.")


def image(canvas: Canvas, title: str, description: str) -> FigureImage:
    """A picture for the page."""
    uri = figure_uri(canvas)  # by then the ticks have their texts
    sizes = [float(text.get_fontsize()) for text in canvas.findobj(Text) if text.get_visible() and text.get_text()]
    return FigureImage(title, description, uri, min(sizes) / 72 * DPI if sizes else None)
