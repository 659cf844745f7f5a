import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.calibration import (
    FLATTEST,
    STEEPEST,
    best_factor,
    calibration,
    confidences,
    error_if_calibrated,
    log_loss,
    resampled_error,
)

A = math.log(3)  # sigmoid 0.75
DIFFERENCES = st.lists(st.floats(-20, 20), min_size=1, max_size=30).map(np.array)


def test_calibration_three_of_four_right_at_three_quarters_is_calibrated():
    found = calibration(np.array([A, A, A, -A]), bins=1)
    assert (found.pairs, len(found.bins)) == (4, 1)
    assert found.bins[0].confidence == pytest.approx(0.75) and found.bins[0].accuracy == 0.75
    assert found.error == pytest.approx(0) and found.factor == pytest.approx(1, abs=1e-5)
    assert found.brier == pytest.approx((3 * 0.25**2 + 0.75**2) / 4)
    assert found.log_loss == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)


def test_calibration_twice_as_steep_is_too_sure_and_told_by_how_much():
    found = calibration(np.array([2 * A, 2 * A, 2 * A, -2 * A]), bins=1)
    assert found.error == pytest.approx(0.9 - 0.75)  # 1 / (1 + 3 ** -2) is 0.9
    assert found.factor == pytest.approx(0.5, abs=1e-5)
    assert found.log_loss_at_factor == pytest.approx(log_loss(np.array([A, A, A, -A])))


def test_calibration_bins_hold_the_like_confident_and_a_tie_is_half_right():
    found = calibration(np.array([0.0, A, 0.0, -A]), bins=2)
    assert [(each.pairs, each.accuracy) for each in found.bins] == [(2, 0.5), (2, 0.5)]
    assert found.error == pytest.approx(0.125)  # the first bin: 0.5 and 0.5; the second: 0.75 and 0.5


def test_calibration_equal_confidences_share_a_bin_in_whatever_order_they_come():
    sides = np.repeat([1.0, -1.0], [70, 30])
    for difference in (sides, sides[::-1], np.random.default_rng(0).permutation(sides)):
        found = calibration(difference)
        assert [(each.pairs, each.accuracy) for each in found.bins] == [(100, 0.7)]
        assert found.error == pytest.approx(1 / (1 + math.exp(-1)) - 0.7)


def test_calibration_without_equals_has_bins_of_equal_size():
    assert [each.pairs for each in calibration(np.arange(1.0, 8.0), bins=3).bins] == [3, 2, 2]


def test_calibration_equals_go_where_the_middle_one_of_them_falls():
    found = calibration(
        np.array([A, 2 * A, A, A, 3 * A, 4 * A]), bins=2
    )  # cut behind the third: three of A are before it
    assert [each.pairs for each in found.bins] == [3, 3]
    found = calibration(
        np.array([A, 2 * A, 2 * A, 2 * A, 2 * A, 4 * A]), bins=3
    )  # cut behind the second and the fourth
    assert [each.pairs for each in found.bins] == [1, 4, 1]


@given(st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=40), st.randoms())
def test_calibration_does_not_depend_on_the_order_of_the_pairs(values, random):
    shuffled = random.sample(values, len(values))
    one, other = calibration(np.array(values), bins=4), calibration(np.array(shuffled), bins=4)
    assert (one.bins, one.error) == (other.bins, other.error)


def test_calibration_of_nothing_is_none_and_of_all_right_has_the_steepest_factor():
    assert calibration(np.zeros(0)) is None
    assert best_factor(np.array([0.1, 2.0])) == STEEPEST
    assert best_factor(np.array([A, -A])) == FLATTEST  # a coin


@given(DIFFERENCES)
def test_calibration_is_bounded_and_counts_every_pair_once(difference):
    found = calibration(difference)
    assert sum(each.pairs for each in found.bins) == len(difference)
    assert 0 <= found.error <= 1 and 0 <= found.brier <= 1
    assert found.log_loss_at_factor <= found.log_loss + 1e-9


VALUES = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])


@given(st.lists(st.tuples(VALUES, st.integers(0, 4)), min_size=1, max_size=30), st.integers(1, 12))
def test_resampled_error_is_that_of_the_pairs_copied_out(rows, bins):
    difference, times = (np.array(column) for column in zip(*rows, strict=True))
    times[0] += times.sum() == 0
    confidence, right = confidences(difference)
    order = np.argsort(confidence, kind="stable")
    weights = np.array([np.ones(len(rows)), times], float)[:, order]
    found = resampled_error(confidence[order], right[order], weights, bins)
    for error, own in zip(found, (np.ones(len(rows), int), times), strict=True):
        assert error == pytest.approx(calibration(np.repeat(difference, own), bins).error)


@given(DIFFERENCES, st.integers(0, 99))
def test_resampled_error_of_different_confidences_is_that_of_the_pairs_copied_out(difference, seed):
    times = np.bincount(np.random.default_rng(seed).integers(len(difference), size=len(difference)))
    times = np.pad(times, (0, len(difference) - len(times)))
    confidence, right = confidences(difference)
    order = np.argsort(confidence, kind="stable")
    found = resampled_error(confidence[order], right[order], times[None, order].astype(float), bins=4)
    assert found[0] == pytest.approx(calibration(np.repeat(difference, times), bins=4).error)


def test_error_if_calibrated_by_hand():
    """Two pairs with the confidence 0.75: both right, 9 in 16, is off by 0.25; one, 6 in 16, by 0.25; none by 0.75."""
    made = error_if_calibrated(np.array([A, -A]), seed=0, draws=20_000, bins=1)
    assert set(np.round(made, 6)) == {0.25, 0.75}
    assert made.mean() == pytest.approx((9 * 0.25 + 6 * 0.25 + 0.75) / 16, abs=0.005)


def test_error_if_calibrated_of_ties_is_none_and_falls_with_the_pairs():
    assert error_if_calibrated(np.zeros(5), seed=0, draws=3).tolist() == [0, 0, 0]
    few, many = (error_if_calibrated(np.random.default_rng(0).normal(1, 1, n), seed=0).mean() for n in (100, 10_000))
    assert few == pytest.approx(10 * many, rel=0.1)  # by the root of their number


def test_error_if_calibrated_is_what_a_calibrated_model_has():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 400)
    size = np.log(confidence / (1 - confidence))
    errors = [calibration(np.where(random.random(400) < confidence, size, -size)).error for _ in range(200)]
    assert np.mean(errors) == pytest.approx(error_if_calibrated(size, seed=1).mean(), rel=0.05)
