import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.shortcuts import (
    AGREEING,
    MATCHED,
    MIXED,
    OPPOSED,
    length_control,
    log_ratio,
    resampled_correlations,
    resampled_length_control,
    style_groups,
    within_prompt_correlation,
)


def test_style_groups_by_hand():
    length = np.array([[100, 105], [100, 111], [200, 100], [200, 100], [50, 100], [100, 100]])
    markup = np.array([[0, 0], [2, 2], [0, 0], [0, 1], [0, 3], [4, 1]])
    expected = [MATCHED, OPPOSED, AGREEING, MIXED, OPPOSED, AGREEING]
    assert style_groups(length, markup).tolist() == expected


@given(st.integers(1, 10_000))
def test_style_groups_a_tenth_longer_is_as_long_and_a_letter_more_is_longer(tenths):
    length = np.array([[11 * tenths, 10 * tenths], [11 * tenths + 1, 10 * tenths], [10 * tenths, 11 * tenths]])
    assert style_groups(length, np.zeros((3, 2))).tolist() == [MATCHED, AGREEING, MATCHED]


@given(st.lists(st.tuples(*[st.integers(1, 400)] * 2, *[st.integers(0, 4)] * 2), min_size=1, max_size=20))
def test_style_groups_preference_turned_mirrors(rows):
    given_rows = np.array(rows)
    turned = {MATCHED: MATCHED, MIXED: MIXED, AGREEING: OPPOSED, OPPOSED: AGREEING}
    length, markup = given_rows[:, :2], given_rows[:, 2:]
    mirrored = style_groups(length[:, ::-1], markup[:, ::-1])
    assert [turned[name] for name in style_groups(length, markup)] == mirrored.tolist()


def test_length_control_by_hand():
    """Right where the preferred one is longer (three pairs), wrong where it is shorter (one): 0.75 becomes 0.5."""
    length = np.array([[20, 10], [30, 10], [20, 10], [10, 20], [10, 10]])
    found = length_control(np.array([1.0, 1, 1, -1, 1]), length, bins=1)
    assert (found.accuracy, found.pairs, found.left_out) == (0.5, 4, 1)
    assert (found.longer, found.shorter) == (1.0, 0.0)


def test_length_control_bin_with_one_side_is_left_out_and_told():
    length = np.array([[11, 10], [10, 11], [90, 10], [80, 10]])
    found = length_control(np.array([1.0, -1, 1, 1]), length, bins=2)
    assert (found.accuracy, found.pairs, found.left_out) == (0.5, 2, 2)
    none = length_control(np.array([1.0]), np.array([[5, 5]]))
    assert (none.accuracy, none.pairs, none.left_out, none.longer) == (None, 0, 1, None)


def test_length_control_of_a_model_that_goes_by_length_is_a_half():
    rng = np.random.default_rng(0)
    length = rng.integers(5, 500, (4000, 2))
    longer_first = np.sort(length, axis=1)[:, ::-1]
    length = np.where(rng.random((4000, 1)) < 0.8, longer_first, length)  # the longer response mostly wins
    difference = np.log(length[:, 0] / length[:, 1])
    assert np.mean(difference > 0) > 0.85
    assert length_control(difference, length).accuracy == pytest.approx(0.5)


def test_within_prompt_correlation_by_hand_and_whichever_comes_first():
    reward, feature = np.array([1.0, 2.0, -1.0]), np.array([1.0, 0.0, 1.0])
    assert within_prompt_correlation(reward, feature) == pytest.approx(0.0)
    assert within_prompt_correlation(reward, 3 * reward) == pytest.approx(1.0)
    turned = np.array([1, -1, 1])
    feature = np.array([2.0, 1.0, 0.5])
    found = within_prompt_correlation(reward, feature)
    assert found == pytest.approx((2 + 2 - 0.5) / np.sqrt(6 * 5.25))
    assert within_prompt_correlation(reward * turned, feature * turned) == pytest.approx(found)
    assert within_prompt_correlation(reward, np.zeros(3)) is None


PAIRS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), *[st.integers(1, 5)] * 2, st.integers(0, 3)), min_size=1, max_size=25
)


@given(PAIRS, st.integers(1, 6))
def test_resampled_length_control_is_that_of_the_pairs_copied_out(rows, bins):
    difference, length, times = np.array([r[0] for r in rows]), np.array([r[1:3] for r in rows]), [r[3] for r in rows]
    order = np.argsort(np.abs(log_ratio(length)), kind="stable")
    ratio, right = log_ratio(length)[order], difference[order] > 0
    weights = np.array([np.ones(len(rows)), np.array(times, float)[order]])
    once, drawn = resampled_length_control(ratio, right, weights, bins)
    for found, own in ((once, np.ones(len(rows), int)), (drawn, times)):
        expected = length_control(np.repeat(difference, own), np.repeat(length, own, axis=0), bins).accuracy
        assert found == pytest.approx(expected) if expected is not None else np.isnan(found)


def test_resampled_length_control_cuts_between_the_copies_of_a_pair():
    """Drawn twice, once and once: L right, L wrong, S right. Halves: L L, accuracy of one side; L S: (0 + 1) / 2."""
    ratio, right = np.array([0.1, 0.2, -0.3]), np.array([1, 0, 1])
    assert resampled_length_control(ratio, right, np.array([[2.0, 1, 1]]), bins=2).tolist() == [0.5]
    # Three times the first: L L is one bin, L S of the first and the last the other: (1 + 1) / 2.
    assert resampled_length_control(ratio, right, np.array([[3.0, 0, 1]]), bins=2).tolist() == [1.0]


@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 3, st.integers(0, 3)), min_size=1, max_size=20))
def test_resampled_correlations_are_those_of_the_pairs_copied_out(rows):
    reward, *features = np.round(np.array([r[:3] for r in rows]), 2).T
    times = np.array([r[3] for r in rows])
    made = resampled_correlations(reward, np.stack(features, axis=1), np.array([np.ones(len(rows)), times]))
    for draw, own in enumerate((np.ones(len(rows), int), times)):
        for number, feature in enumerate(features):
            expected = within_prompt_correlation(np.repeat(reward, own), np.repeat(feature, own))
            found = made[draw, number]
            assert found == pytest.approx(expected) if expected is not None else np.isnan(found)
