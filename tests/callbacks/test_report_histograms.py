import numpy as np
import pytest

from callbacks.report_histograms import HEIGHT, WIDTH, bin_edges, group_counts, round_panels, stack_paths, ticks
from callbacks.report_view import view_ledgers
from tests.callbacks.fakes import make_ledger
from tests.callbacks.reporting import four_rounds, two_rounds


def test_round_panels_split_by_decision_and_source_in_the_orientation_in_use():
    first, second = round_panels(view_ledgers(two_rounds()))
    assert [(layer.name, layer.count) for layer in first.margin.layers] == [("kept", 2), ("flipped", 2)]
    assert [(layer.name, layer.count) for layer in second.margin.layers] == [("kept", 2), ("dropped", 2)]
    assert "mean -1.88" in first.margin.description  # (-3 - 5 + 1 - 0.5) / 4
    assert "mean -0.375" in second.margin.description  # (2 - 4 + 1 - 0.5) / 4: the first two were flipped before
    assert [(layer.name, layer.count) for layer in second.score.layers] == [("chosen", 4), ("rejected", 4)]
    assert first.margin_by_source == ()  # there is one source
    assert round_panels(view_ledgers([make_ledger(3)])) == []  # nothing decided


def test_round_panels_leave_out_what_was_scored_once_and_is_lost_since():
    lost = make_ledger(
        decision=["keep", "unreadable"],
        active=[True, False],
        decided=[2, 2],
        chosen_score=[1, 2],
        rejected_score=[0, 0],
        round=2,
    )
    before = make_ledger(decision=["keep", "keep"], active=[True, True], decided=[1, 1])
    (panels,) = round_panels(view_ledgers([before, lost]))
    assert [(layer.name, layer.count) for layer in panels.margin.layers] == [("kept", 1)]


def test_round_panels_sources_share_their_bins_and_sum_to_all():
    panels = round_panels(view_ledgers(four_rounds()))
    assert [round_.round for round_ in panels] == [1, 2, 3]
    second = panels[1]
    assert [panel.title for panel in second.margin_by_source] == ["b", "a"]
    assert second.margin.ticks == second.margin_by_source[0].ticks == second.margin_by_source[1].ticks
    by_source = [{layer.name: layer.count for layer in panel.layers} for panel in second.margin_by_source]
    assert by_source == [{"kept": 1, "restored": 2, "dropped": 1}, {"queued": 1}]
    assert sum(sum(counts.values()) for counts in by_source) == sum(layer.count for layer in second.margin.layers) == 5


def test_group_counts_are_those_of_each_group_and_layer():
    edges = np.linspace(0, 4, 5)
    counts = group_counts(
        np.array([0.5, 1.5, 1.5, 9, -1]), np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 0]), (2, 2), edges
    )
    assert counts.tolist() == [[[1, 0, 0, 0], [0, 1, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 1]]]


def test_bin_edges_hold_zero_and_all_but_outliers():
    assert bin_edges(np.array([2.0, 4.0]), 2)[0] == 0
    edges = bin_edges(np.r_[np.linspace(-1, 1, 10_000), 1e6])
    assert -1 <= edges[0] < -0.99 and 0.99 < edges[-1] < 1.1
    assert bin_edges(np.zeros(3), 2).tolist() == [0, 0.5, 1]


def test_stack_paths_each_layer_stands_on_those_before_it():
    lower, upper, none = stack_paths(np.array([[1, 0], [1, 2], [0, 0]]), top=2)
    half, full, wide = HEIGHT / 2, HEIGHT, WIDTH / 2
    assert lower == f"M0 {full:.1f}V{half:.1f}H{wide:.1f}V{full:.1f}H{WIDTH:.1f}V{full:.1f}H{wide:.1f}V{full:.1f}H0.0Z"
    assert upper == f"M0 {half:.1f}V0.0H{wide:.1f}V0.0H{WIDTH:.1f}V{full:.1f}H{wide:.1f}V{half:.1f}H0.0Z"
    assert none == ""


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [(-4.0, 6.0, ["−4", "−2", "0", "2", "4", "6"]), (0.0, 0.3, ["0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3"])],
)
def test_ticks_are_round_numbers_with_zero(low, high, numbers):
    found = ticks(np.array([low, high]))
    assert [number for _, number in found] == numbers
    assert found[numbers.index("0")][0] == pytest.approx(-low / (high - low) * WIDTH)
