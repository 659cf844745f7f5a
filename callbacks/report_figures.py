"""The report's curves and bars, each as a PNG in a data URI. Drawn with Agg, no display needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrm.pages import COLOURS, FigureImage, figure_uri

VALIDATION, TEST = "Validation accuracy", "Test accuracy"
# Panel by the metric's name, whose group, if any, is its label there; every other metric gets a panel of its own.
PANELS = (
    ("Loss", r".*loss"),
    ("Training accuracy", r"train/accuracy"),
    (VALIDATION, r"val/(?:(.+)/)?accuracy"),
    (TEST, r"test/(.+)/accuracy"),
    ("Pairs per second", r".*pairs_per_second"),
    ("Tokens per second", r".*tokens_per_second"),
    ("Learning rate", r".*lr|lr-.*"),
)
LEGEND_INSIDE = 4  # lines; the legend of more stands beside the axes
HIDDEN = ("epoch", "curation/", "system/")  # the rounds have a table, the machine is MLflow's to show
MEAN = "mean"  # over the sets
MAX_PANELS = 12
Series = dict[str, list[tuple[int, float]]]  # label -> (step, value) by rising step


def curve_figures(metrics: Sequence[Mapping[str, Any]]) -> list[FigureImage]:
    """One figure a panel: all metrics of a kind over the optimizer step; accuracies of a single evaluation as bars.

    Args:
        metrics: `{"step", "name", "value"}` each, in any order; values that aren't finite leave a gap.
    """
    panels: dict[str, Series] = {title: {} for title, _ in PANELS}
    for point in sorted(metrics, key=lambda point: int(point["step"])):
        if not str(point["name"]).startswith(HIDDEN):
            title, label = _panel(str(point["name"]))
            panels.setdefault(title, {}).setdefault(label, []).append((int(point["step"]), float(point["value"])))
    drawn = [(title, series) for title, series in panels.items() if series][:MAX_PANELS]
    return [
        _bars(title, series) if _evaluated_once(title, series) else _curves(title, series) for title, series in drawn
    ]


def _panel(name: str) -> tuple[str, str]:
    """(title of the metric's panel, its label there)"""
    for title, pattern in PANELS:
        if match := re.fullmatch(pattern, name):
            return title, match[match.re.groups] or MEAN
    return name, name


def _evaluated_once(title: str, series: Series) -> bool:
    return title in (VALIDATION, TEST) and all(len(points) == 1 for points in series.values())


def _bars(title: str, series: Series) -> FigureImage:
    labels, values = list(series), [points[0][1] for points in series.values()]
    figure, axes = _axes(title, "share of the pairs that are right; dotted: chance", height=1 + 0.27 * len(series))
    bars = axes.barh(labels, values, color=COLOURS[0], height=0.7)
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.axvline(0.5, color="#666", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1)
    axes.invert_yaxis()  # the first on top
    shown = ", ".join(f"{label} {value:.4g}" for label, value in zip(labels, values, strict=True))
    return FigureImage(title, f"{title}: {shown}", figure_uri(figure))


def _curves(title: str, series: Series) -> FigureImage:
    figure, axes = _axes(title, "optimizer step")
    for i, (name, points) in enumerate(series.items()):
        steps, values = np.array(points, float).T
        values = np.where(np.isfinite(values), values, np.nan)
        style = "-" if i < len(COLOURS) else "--"
        axes.plot(
            steps,
            values,
            style,
            marker="o" if len(steps) < 12 else None,
            markersize=3,
            color=COLOURS[i % len(COLOURS)],
            label=name,
        )
    if title.endswith("accuracy"):
        axes.set_ylim(top=1.02)
    if len(series) > LEGEND_INSIDE:
        figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    else:
        axes.legend(fontsize=7, frameon=False)
    ends = ", ".join(f"{name} ends at {points[-1][1]:.4g}" for name, points in series.items())
    return FigureImage(title, f"{title} over the optimizer step: {ends}", figure_uri(figure))


def _axes(title: str, xlabel: str, height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
