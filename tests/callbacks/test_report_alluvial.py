import re

import numpy as np
import pytest

from callbacks.report_alluvial import BAR, CHARACTER, LABEL_GAP, WIDTH, flow_plot, spread_labels
from callbacks.report_flow import flow_matrix
from callbacks.report_view import STATES

NAMES = ("a", "b", "c")


def random_flows(seed: int, rounds: int = 4, pairs: int = 500, states: int = len(STATES)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    walks = [rng.integers(0, states, pairs)]
    for _ in range(rounds):
        walks.append(np.where(rng.random(pairs) < 0.7, walks[-1], rng.integers(0, states, pairs)))
    return [flow_matrix(before, after) for before, after in zip(walks[:-1], walks[1:], strict=True)]


def test_flow_plot_segments_and_ribbons_are_as_wide_as_they_have_pairs():
    plot = flow_plot([np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])], [0, 1], NAMES)
    (start, a, b), scale = plot.nodes, (WIDTH - 3) / 8
    assert (start.x, start.width, start.count) == (0, pytest.approx(8 * scale), 8)
    assert (a.x, a.width) == (0, pytest.approx(6 * scale)) and b.x + b.width == pytest.approx(WIDTH)
    stays, goes = plot.ribbons  # the widest is drawn first
    assert (stays.origin, stays.target, stays.count, stays.told) == ("a", "a", 6, True)
    assert goes.path.startswith(f"M{6 * scale:.1f} {start.y + BAR:.1f}C") and f"{b.x:.1f} {b.y:.1f}H" in goes.path
    assert "8 open pairs" in plot.description and "6 a, 2 b" in plot.description
    assert [text for _, text in plot.titles] == ["At the start", "After round 1"]


@pytest.mark.parametrize("seed", range(5))
def test_flow_plot_ribbons_tile_their_segments_within_the_picture(seed):
    flows = random_flows(seed)
    plot = flow_plot(flows, range(5))
    for node in plot.nodes:
        out = sum(
            ribbon.width for ribbon in plot.ribbons if (ribbon.column, ribbon.origin) == (node.column, node.state)
        )
        into = sum(r.width for r in plot.ribbons if (r.column + 1, r.target) == (node.column, node.state))
        assert node.column == 4 or out == pytest.approx(node.width)
        assert node.column == 0 or into == pytest.approx(node.width)
        assert 0 <= node.x <= node.x + node.width <= WIDTH + 1e-6 and 0 < node.y < plot.height
    for column in range(5):
        bar = [node for node in plot.nodes if node.column == column]
        assert all(left.x + left.width < right.x for left, right in zip(bar[:-1], bar[1:], strict=True))
        assert sum(node.count for node in bar) == 500
    places = [float(number) for ribbon in plot.ribbons for number in re.findall(r"[\d.]+", ribbon.path)]
    assert max(places) <= max(WIDTH, plot.height) and len(plot.ribbons) == sum((flow > 0).sum() for flow in flows)


def test_flow_plot_unbalanced_flows_are_a_bug_and_nothing_is_no_plot():
    with pytest.raises(AssertionError, match="must flow out"):
        flow_plot([np.array([[0, 2], [0, 0]]), np.array([[2, 0], [0, 0]])], [0, 1, 2], NAMES[:2])
    assert flow_plot([], [0]) is None and flow_plot([np.zeros((3, 3), int)], [0, 1], NAMES) is None


def test_spread_labels_moves_them_apart_within_their_room():
    assert spread_labels([10, 50], [20, 20], 0, 100, 5) == [10, 50]  # room enough
    assert spread_labels([50, 51], [20, 20], 0, 100, 5) == [50, 75]
    assert spread_labels([98, 99], [20, 20], 0, 100, 5) == [65, 90]  # pushed back from the edge
    assert spread_labels([1, 2], [20, 20], 0, 100, 5) == [10, 35]
    assert spread_labels([], [], 0, 100, 5) == []


def test_spread_labels_of_all_curated_states_fit_a_bar():
    texts = [CHARACTER * max(len(name), 6) for name in STATES[1:]]
    for middle in (0, 200, WIDTH):
        placed = spread_labels([middle] * 7, texts, 0, WIDTH, LABEL_GAP)
        gaps = np.diff(placed) - (np.array(texts[:-1]) + texts[1:]) / 2
        assert (gaps >= LABEL_GAP - 1e-9).all()
        assert placed[0] - texts[0] / 2 >= -1e-9 and placed[-1] + texts[-1] / 2 <= WIDTH + 1e-9
