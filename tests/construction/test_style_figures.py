"""The figures of style before and after."""

import math

import numpy as np
import pytest

from mrm.construction.balance import balance_style
from mrm.construction.style import FEATURES
from mrm.construction.style_figures import measure_style
from tests.construction.test_balance import styled_pairs


def test_measure_style_of_what_is_kept_is_what_balancing_reports():
    chosen, rejected, groups, keys = styled_pairs(600, 0.8)
    found = balance_style(chosen, rejected, groups, keys)
    assert measure_style(chosen, rejected, groups) == found.before
    keep = found.keep
    after = measure_style(chosen[keep], rejected[keep], groups[keep], first=(chosen, rejected))
    assert after == found.after
    assert measure_style(chosen[keep], rejected[keep], groups[keep]).former != after.former


def test_measure_style_distance_is_in_units_of_the_first_pairs():
    # Differences of log 4 in words: one unit in one of eight features, so sqrt(1 / 8); half of it after.
    chosen, rejected = np.zeros((30, len(FEATURES))), np.zeros((30, len(FEATURES)))
    chosen[:, 1] = 3.0
    after = np.where(chosen > 0, 1.0, 0.0)
    first = measure_style(chosen, rejected, np.arange(30))
    assert first.distance == pytest.approx(1 / 8**0.5)
    second = measure_style(after, rejected, np.arange(30), first=(chosen, rejected))
    assert second.distance == pytest.approx(0.5 / 8**0.5)


def test_measure_style_range_is_that_of_several_foldings():
    chosen, rejected, groups, _ = styled_pairs(300, 0.6)
    figures = measure_style(chosen, rejected, groups)
    assert figures.lowest <= figures.probe.accuracy <= figures.highest
    assert figures.lowest < figures.highest and figures.groups == 300


def test_measure_style_of_no_pairs_is_unknown():
    figures = measure_style(np.zeros((0, len(FEATURES))), np.zeros((0, len(FEATURES))), np.zeros(0))
    assert figures.probe.pairs == 0
    assert all(math.isnan(value) for value in (figures.highest, figures.former, figures.distance))
