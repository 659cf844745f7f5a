"""The report's figures: curves and score histograms, each as a PNG in a data URI. Drawn with Agg, no display needed."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from datamodules.ledger import Decision, Ledger

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DECISION_COLOURS = {
    Decision.KEEP: "#0072B2",
    Decision.FLIP: "#D55E00",
    Decision.RESTORE: "#009E73",
    Decision.DROP: "#000000",
    Decision.QUEUE: "#E69F00",
}
# Panel by the end or the beginning of a metric's name; every other metric gets a panel of its own.
PANELS = (("Loss", "loss"), ("Accuracy", "accuracy"), ("Throughput per second", "per_second"), ("Learning rate", "lr"))
HIDDEN = ("epoch", "curation/")  # the rounds have a table
MAX_PANELS = 12
BINS = 50


@dataclass(frozen=True)
class FigureImage:
    """A drawn figure: what it shows, in words, and the picture as a data URI."""

    title: str
    description: str
    uri: str


def curve_figures(metrics: Sequence[Mapping[str, Any]]) -> list[FigureImage]:
    """One figure a panel: all metrics of a kind over the optimizer step.

    Args:
        metrics: `{"step", "name", "value"}` each, in any order; values that aren't finite leave a gap.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for point in metrics:
        if not str(point["name"]).startswith(HIDDEN):
            series.setdefault(str(point["name"]), []).append((int(point["step"]), float(point["value"])))
    panels: dict[str, list[str]] = {title: [] for title, _ in PANELS}
    for name in sorted(series):
        panels.setdefault(_panel(name), []).append(name)
    drawn = [(title, names) for title, names in panels.items() if names][:MAX_PANELS]
    return [_curves(title, {name: sorted(series[name]) for name in names}) for title, names in drawn]


def histogram_figures(ledgers: Sequence[Ledger]) -> list[FigureImage]:
    """One figure a round: the score differences of the pairs it decided about, split by decision.

    The difference is that of the label in use before the round: negative means that the model contradicts the label.
    """
    figures = []
    flipped_before: np.ndarray | None = None
    for ledger in ledgers:
        margin = ledger.chosen_score.astype(float) - ledger.rejected_score
        if flipped_before is not None:
            margin = np.where(flipped_before, -margin, margin)
        decided = (ledger.decided == ledger.round) & np.isfinite(margin) & (ledger.decision != Decision.TRUSTED)
        if ledger.round > 0 and decided.any():
            figures.append(_histogram(int(ledger.round), margin[decided], ledger.decision[decided]))
        flipped_before = ledger.flipped
    return figures


def _panel(name: str) -> str:
    return next((title for title, end in PANELS if name.endswith(end) or name.startswith(end + "-")), name)


def _curves(title: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> FigureImage:
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
    if title == "Accuracy":
        axes.set_ylim(top=1.02)
    axes.legend(fontsize=7, frameon=False)
    ends = ", ".join(f"{name} ends at {points[-1][1]:.4g}" for name, points in series.items())
    return FigureImage(title, f"{title} over the optimizer step: {ends}", _uri(figure))


def _histogram(number: int, margin: np.ndarray, decision: np.ndarray) -> FigureImage:
    title = f"Round {number}: score differences by decision"
    figure, axes = _axes(title, "score of chosen − score of rejected, label in use before the round")
    names = [name for name in DECISION_COLOURS if (decision == name).any()]
    low, high = np.percentile(margin, [0.2, 99.8])  # a few outliers would squeeze the rest into one bar
    bins = np.linspace(min(low, 0), max(high, 0) or 1.0, BINS + 1)
    groups = [np.clip(margin[decision == name], bins[0], bins[-1]) for name in names]
    labels = [f"{name} ({len(group):,})" for name, group in zip(names, groups, strict=True)]
    axes.hist(groups, bins=bins, stacked=True, label=labels, color=[DECISION_COLOURS[name] for name in names])
    axes.axvline(0, color="#666", linewidth=0.8)
    axes.set_ylabel("pairs")
    axes.legend(fontsize=7, frameon=False)
    return FigureImage(title, f"{title}: {', '.join(labels)}", _uri(figure))


def _axes(title: str, xlabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
