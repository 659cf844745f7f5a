"""The figures of a construction's report, each as a PNG in a data URI. Drawn with Agg, no display needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrm.construction.agreement import KEPT
from mrm.construction.agreement_report import Histogram
from mrm.construction.style_figures import StyleFigures
from mrm.pages import COLOURS, figure_uri

MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class FigureImage:
    """A drawn figure: what it shows, in words, and the picture as a data URI."""

    description: str
    uri: str


def strength_figure(histogram: Histogram) -> FigureImage:
    """How strong the written pairs are."""
    figure, axes = _axes("Strength of the pairs", "mean difference of overall scores / 10")
    edges, counts = histogram.edges, histogram.counts
    axes.bar(
        edges[:-1], counts, [b - a for a, b in zip(edges[:-1], edges[1:], strict=True)], align="edge", color=COLOURS[0]
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel("pairs", fontsize=8)
    told = ", ".join(f"{a:.2f} to {b:.2f}: {n:,}" for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True) if n)
    return FigureImage(f"Pairs by strength: {told}", figure_uri(figure))


def reason_figure(reasons: Mapping[str, int]) -> FigureImage:
    """How many pairs are kept, and why others are not."""
    total = sum(reasons.values())
    figure, axes = _axes("Pairs by decision", "pairs", height=1.1 + 0.3 * len(reasons))
    colours = [COLOURS[2] if reason == KEPT else COLOURS[1] for reason in reasons]
    bars = axes.barh(list(reasons), list(reasons.values()), color=colours, height=0.7)
    labels = [f"{count:,} ({100 * count / total:.1f} %)" for count in reasons.values()]
    axes.bar_label(bars, labels=labels, padding=3, fontsize=8)
    axes.margins(x=0.25)
    axes.invert_yaxis()  # the first on top
    told = ", ".join(f"{reason} {label}" for reason, label in zip(reasons, labels, strict=True))
    return FigureImage(f"Pairs by decision: {told}", figure_uri(figure))


def leaning_figure(style: Mapping[str, StyleFigures], target: float | None) -> FigureImage:
    """How each feature of style goes with winning, in every state."""
    names = list(dict.fromkeys(row.feature for figures in style.values() for row in figures.features if row.differing))
    figure, axes = _axes(
        "Style and winning", "share of the pairs whose chosen response has more", 1.4 + 0.3 * len(names)
    )
    if target is not None:
        axes.axvspan(1 - target, target, color="#e8ecef", zorder=0)
    axes.axvline(0.5, color="#666", linewidth=0.8, linestyle=":")
    told = []
    for i, (state, figures) in enumerate(style.items()):
        found = {row.feature: row.more_wins for row in figures.features if row.differing}
        places = [n for n, name in enumerate(names) if name in found]
        axes.plot(
            [found[names[n]] for n in places],
            places,
            MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(MARKERS)],
            markersize=6,
            label=f"{state}, probe {figures.probe.accuracy:.3f}" if math.isfinite(figures.probe.accuracy) else state,
        )
        told.append(f"{state}: " + ", ".join(f"{names[n]} {found[names[n]]:.2f}" for n in places))
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    if style:
        figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=3)
    return FigureImage("Style and winning. " + "; ".join(told), figure_uri(figure))


def _axes(title: str, xlabel: str, height: float = 3.2) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
