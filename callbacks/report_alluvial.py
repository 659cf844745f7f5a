"""The geometry of an alluvial plot: how many pairs went from state to state, round by round.

Time runs downwards: a bar a snapshot, cut into states, and ribbons between the bars, as wide as they have pairs. So the plot
fits a phone however many rounds there are. Drawing is left to the page's template.

Dimension letters: K states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from callbacks.report_view import STATES

WIDTH = 400.0  # user units, little more than the pixels of a phone's page, so that text stays readable there
GAP = 3.0  # between the states of a bar
BAR = 12.0  # a bar's height
STEP = 112.0  # from bar to bar
TOP = 44.0  # above the first bar: its title and labels
LINE = 11.0  # a line of text
CHARACTER = 6.6  # width of a character of 11 units, in a wide sans serif
LABEL_GAP = 4.0
TELL_AT = (
    0.25,
    0.1,
)  # where a ribbon's count stands: down, and across; near its origin, where ribbons lie side by side


@dataclass(frozen=True)
class Node:
    """A state in a bar. `label_x` is the middle of its label, `x` and `width` are the segment's."""

    column: int
    state: str
    count: int
    x: float
    width: float
    y: float
    label_x: float


@dataclass(frozen=True)
class Ribbon:
    """A flow between two bars. `path` is its outline, an SVG path; `x`, `y` where its count
    stands, `told` if there is room for it."""

    column: int
    origin: str
    target: str
    count: int
    path: str
    width: float
    x: float
    y: float
    told: bool


@dataclass(frozen=True)
class FlowPlot:
    """All that is to be drawn, in user units, within `width` x `height`."""

    width: float
    height: float
    titles: tuple[tuple[float, str], ...]
    nodes: tuple[Node, ...]
    ribbons: tuple[Ribbon, ...]
    description: str


def flow_plot(flows: Sequence[np.ndarray], numbers: Sequence[int], names: Sequence[str] = STATES) -> FlowPlot | None:
    """Lays the plot out.

    Args:
        flows: int [K, K] each; what flows into a state flows out of it in the next.
        numbers: the rounds of the snapshots, one more than flows.
        names: of the K states, in the order in which they stand in a bar.

    Returns:
        None if there is nothing to draw.
    """
    if not flows or not flows[0].sum():
        return None
    counts = np.stack([flows[0].sum(axis=1), *(flow.sum(axis=0) for flow in flows)])  # [bars, K]
    for flow, count in zip(flows, counts[:-1], strict=True):
        assert (flow.sum(axis=1) == count).all(), "what flows into a state must flow out of it"
    total = int(counts[0].sum())
    scale = (WIDTH - GAP * (int((counts > 0).sum(axis=1).max()) - 1)) / total
    left = _lefts(counts, scale)
    nodes = [node for bar in range(len(counts)) for node in _bar(bar, counts[bar], left[bar], scale, names)]
    ribbons = [r for bar, flow in enumerate(flows) for r in _ribbons(bar, flow, left[bar], left[bar + 1], scale, names)]
    titles = [(_y(bar) - TOP + LINE, f"After round {n}" if n else "At the start") for bar, n in enumerate(numbers)]
    end = ", ".join(f"{count:,} {name}" for name, count in zip(names, counts[-1].tolist(), strict=True) if count)
    return FlowPlot(
        WIDTH,
        _y(len(counts) - 1) + BAR + 2,
        tuple(titles),
        tuple(nodes),
        tuple(sorted(ribbons, key=lambda ribbon: -ribbon.count)),  # thin ones on top
        f"Flow of {total:,} open pairs between states over {len(flows)} rounds; at the end {end}. The table below has all counts.",
    )


def spread_labels(
    middles: Sequence[float], widths: Sequence[float], low: float, high: float, gap: float
) -> list[float]:
    """Moves labels apart that stand in a row.

    Args:
        middles: where they would stand, rising.
        widths: of the labels.
        low, high: their room; too many labels for it stand beyond `high`.
        gap: least room between two.

    Returns:
        The middles: without overlap, in order, and within the room if it suffices.
    """
    placed: list[float] = []
    edge = low
    for middle, width in zip(middles, widths, strict=True):
        placed.append(max(middle, edge + width / 2))
        edge = placed[-1] + width / 2 + gap
    edge = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], edge - widths[i] / 2)
        edge = placed[i] - widths[i] / 2 - gap
    shift = max(0.0, low - (placed[0] - widths[0] / 2)) if placed else 0.0
    return [middle + shift for middle in placed]


def _y(bar: int) -> float:
    return TOP + bar * STEP


def _lefts(counts: np.ndarray, scale: float) -> np.ndarray:
    """float [bars, K]: where each state begins, its bar filling the width."""
    left = np.zeros(counts.shape)
    for bar, count in enumerate(counts):
        filled = count > 0
        gap = (WIDTH - count.sum() * scale) / max(int(filled.sum()) - 1, 1)
        before = np.cumsum(count * scale + gap * filled) - (count * scale + gap * filled)
        left[bar] = before
    return left


def _bar(bar: int, count: np.ndarray, left: np.ndarray, scale: float, names: Sequence[str]) -> list[Node]:
    there = np.flatnonzero(count).tolist()
    widths = [count[state] * scale for state in there]
    texts = [CHARACTER * max(len(names[state]), len(f"{int(count[state]):,}")) for state in there]
    middles = [left[state] + width / 2 for state, width in zip(there, widths, strict=True)]
    labels = spread_labels(middles, texts, 0, WIDTH, LABEL_GAP)
    return [
        Node(bar, names[state], int(count[state]), float(left[state]), float(width), _y(bar), float(label))
        for state, width, label in zip(there, widths, labels, strict=True)
    ]


def _ribbons(
    bar: int, flow: np.ndarray, left: np.ndarray, left_after: np.ndarray, scale: float, names: Sequence[str]
) -> list[Ribbon]:
    start, end = _y(bar) + BAR, _y(bar + 1)
    out = left[:, None] + (np.cumsum(flow, axis=1) - flow) * scale  # [K, K]: left edge at the upper bar
    into = left_after[None, :] + (np.cumsum(flow, axis=0) - flow) * scale  # and at the lower one
    made = []
    for origin, target in np.argwhere(flow > 0).tolist():
        count = int(flow[origin, target])
        upper, lower, width = float(out[origin, target]), float(into[origin, target]), float(count * scale)
        made.append(
            Ribbon(
                bar,
                names[origin],
                names[target],
                count,
                _outline(upper, lower, width, start, end),
                width,
                upper + width / 2 + TELL_AT[1] * (lower - upper),
                start + TELL_AT[0] * (end - start),
                width >= CHARACTER * len(f"{count:,}") + 2,
            )
        )
    return made


def _outline(upper: float, lower: float, width: float, start: float, end: float) -> str:
    middle = (start + end) / 2
    return (
        f"M{upper:.1f} {start:.1f}C{upper:.1f} {middle:.1f} {lower:.1f} {middle:.1f} {lower:.1f} {end:.1f}"
        f"H{lower + width:.1f}C{lower + width:.1f} {middle:.1f} {upper + width:.1f} {middle:.1f} {upper + width:.1f} {start:.1f}Z"
    )
