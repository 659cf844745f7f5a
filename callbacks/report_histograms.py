"""Histograms of scores and margins for the report: by round, by source and by decision, as outlines for the page to draw.

All panels of a kind in a round have the same bins, so that sources can be compared; each has its own height, which is told.
A million pairs are binned in one pass.

Dimension letters: P pairs, G groups (all pairs, then sources), L layers, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from callbacks.report_sources import ALL
from callbacks.report_view import DROPPED, FLIPPED, KEPT, QUEUED, RESTORED, STATES, UNREADABLE, LedgerView, RoundView

BINS = 40
OUTER = 0.2  # per cent at either end that share the outermost bins: a few outliers would squeeze the rest into one bar
WIDTH, HEIGHT = 320.0, 104.0  # user units of the bars' room
DECIDED = (KEPT, FLIPPED, RESTORED, QUEUED, DROPPED)  # a stack's layers, from the ground up
SCORED = ("chosen", "rejected")


@dataclass(frozen=True)
class Layer:
    """A group of pairs in a panel: its name, how many they are, and the outline of its bars as an SVG path."""

    name: str
    count: int
    path: str


@dataclass(frozen=True)
class Panel:
    """One histogram.

    Args:
        title: whose it is. description: it in words. top: pairs of the highest bar.
        layers: those that have pairs. ticks: (x, number) along the axis, zero among them.
    """

    title: str
    description: str
    top: int
    layers: tuple[Layer, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class RoundPanels:
    """A round's histograms, of all pairs first; the lists of the sources are empty where there is one source."""

    round: int
    margin: Panel
    score: Panel
    margin_by_source: tuple[Panel, ...]
    score_by_source: tuple[Panel, ...]


def round_panels(view: LedgerView) -> list[RoundPanels]:
    """The histograms of every round that decided about scored pairs; of the pairs it decided about.

    Orientation is that of the label in use before the round: a negative margin contradicts the label.
    """
    picture, names = view.pictured()
    made = []
    for seen in view.rounds:
        rows = seen.fresh & np.isfinite(seen.margin) & (seen.state != UNREADABLE)  # scored once, and lost since
        if seen.number > 0 and rows.any():
            made.append(_round(seen, rows, picture[view.source[rows]], names))
    return made


def bin_edges(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """float64 [B + 1]: even bins over all but the outermost values, and over zero.

    Args:
        values: float [P], at least one, finite.
        bins: B.
    """
    low, high = np.percentile(values, [OUTER, 100 - OUTER])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def group_counts(
    values: np.ndarray, group: np.ndarray, layer: np.ndarray, shape: tuple[int, int], edges: np.ndarray
) -> np.ndarray:
    """Counts values by group, layer and bin, all at once.

    Args:
        values: float [P]; those beyond the edges count in the outermost bins.
        group, layer: int [P].
        shape: (G, L).
        edges: float [B + 1], even.

    Returns:
        int64 [G, L, B].
    """
    bins = len(edges) - 1
    place = np.floor((values.astype(np.float64) - edges[0]) * (bins / (edges[-1] - edges[0]))).astype(np.int64)
    flat = (group.astype(np.int64) * shape[1] + layer) * bins + np.clip(place, 0, bins - 1)
    return np.bincount(flat, minlength=shape[0] * shape[1] * bins).reshape(*shape, bins)


def stack_paths(counts: np.ndarray, top: int) -> list[str]:
    """Outlines of stacked bars, in user units, y downwards; each layer stands on those before it.

    Args:
        counts: int [L, B].
        top: what fills the height.

    Returns:
        L SVG paths, "" for a layer without pairs.
    """
    upper = np.cumsum(counts, axis=0)
    return [
        _steps(HEIGHT * (1 - high / top), HEIGHT * (1 - (high - own) / top)) if own.any() else ""
        for high, own in zip(upper, counts, strict=True)
    ]


def ticks(edges: np.ndarray, most: int = 6) -> tuple[tuple[float, str], ...]:
    """(x in user units, number) at round numbers within the edges, zero among them where it is within."""
    low, high = float(edges[0]), float(edges[-1])
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)
    places = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step + 0.0  # no "-0"
    return tuple(((place - low) / (high - low) * WIDTH, f"{place:.6g}".replace("-", "−")) for place in places.tolist())


def _round(seen: RoundView, rows: np.ndarray, group: np.ndarray, names: Sequence[str]) -> RoundPanels:
    layer_of = np.full(len(STATES), -1)
    layer_of[list(DECIDED)] = np.arange(len(DECIDED))
    layer = layer_of[seen.state[rows]]
    margin = seen.margin[rows]
    assert (layer >= 0).all(), (
        "a scored pair that a round decided about is kept, flipped, restored, queued, dropped or unreadable"
    )
    margins = _panels(f"round {seen.number}: margins", margin, group, layer, names, [STATES[code] for code in DECIDED])
    both = np.concatenate([seen.chosen_score[rows], seen.rejected_score[rows]])
    sides = np.repeat([0, 1], len(group))
    scores = _panels(
        f"round {seen.number}: scores", both, np.concatenate([group, group]), sides, names, SCORED, stacked=False
    )
    several = len(margins) > 2  # beside that of all pairs
    return RoundPanels(
        seen.number, margins[0], scores[0], margins[1:] if several else (), scores[1:] if several else ()
    )


def _panels(
    what: str,
    values: np.ndarray,
    group: np.ndarray,
    layer: np.ndarray,
    names: Sequence[str],
    layers: Sequence[str],
    stacked: bool = True,
) -> tuple[Panel, ...]:
    """Of all pairs, then of each group that has any."""
    edges = bin_edges(values)
    counts = group_counts(values, group, layer, (len(names), len(layers)), edges)
    means = np.bincount(group, values, minlength=len(names)) / np.maximum(np.bincount(group, minlength=len(names)), 1)
    panels = [_panel(what, ALL, counts.sum(axis=0), float(values.mean(dtype=np.float64)), edges, layers, stacked)]
    for name, own, mean in zip(names, counts, means.tolist(), strict=True):
        if own.any():
            panels.append(_panel(what, name, own, mean, edges, layers, stacked))
    return tuple(panels)


def _panel(
    what: str, name: str, counts: np.ndarray, mean: float, edges: np.ndarray, layers: Sequence[str], stacked: bool
) -> Panel:
    top = int((counts.sum(axis=0) if stacked else counts).max())
    paths = stack_paths(counts, top) if stacked else [stack_paths(own[None], top)[0] for own in counts]
    drawn = tuple(
        Layer(layer, int(own.sum()), path) for layer, own, path in zip(layers, counts, paths, strict=True) if path
    )
    groups = ", ".join(f"{layer.name} {layer.count:,}" for layer in drawn)
    text = f"{what} of {name}: {groups}; mean {mean:.3g}; from {edges[0]:.3g} to {edges[-1]:.3g}; highest bar {top:,}"
    return Panel(name, text[0].upper() + text[1:], top, drawn, ticks(edges))


def _steps(upper: np.ndarray, lower: np.ndarray) -> str:
    """The outline between two stairs; there along the upper one, back along the lower one."""
    width = WIDTH / len(upper)
    there = [f"V{y:.1f}H{(i + 1) * width:.1f}" for i, y in enumerate(upper.tolist())]
    back = [f"V{y:.1f}H{i * width:.1f}" for i, y in reversed(list(enumerate(lower.tolist())))]
    return f"M0 {lower[0]:.1f}{''.join(there)}{''.join(back)}Z"
