"""The bootstrap against drawing units one by one, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.bootstrap import (
    per_group,
    resampled_mean_of_ratios,
    resampled_ratios,
)
from mrm.evaluation.intervals import percentile_interval

DRAWS = 20_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_hand(right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The same drawn unit by unit."""
    drawn = rng(1).integers(0, len(right), (DRAWS, len(right)))
    return right[drawn].sum(1) / total[drawn].sum(1)


@pytest.mark.parametrize(
    ("right", "total"),
    [
        ([1, 1, 1, 0, 0, 1, 0.5, 1], [1] * 8),
        ([4, 0, 1, 3, 2], [4, 3, 1, 5, 2]),
    ],
)
def test_resampled_ratios_are_distributed_as_if_drawn_one_by_one(right: list[float], total: list[float]) -> None:
    one, other = np.array(right, float), np.array(total, float)
    found, expected = resampled_ratios(one, other, draws=DRAWS, rng=rng()), by_hand(one, other)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.005)
    assert found.std() == pytest.approx(expected.std(), rel=0.03)
    for share in (0.025, 0.25, 0.5, 0.975):
        assert np.quantile(found, share) == pytest.approx(np.quantile(expected, share), abs=0.03)


def test_resampled_ratios_of_a_hundred_pairs_spread_as_a_binomial() -> None:
    right = np.array([1.0] * 80 + [0.0] * 20)
    samples = resampled_ratios(right, np.ones(100), draws=DRAWS, rng=rng())
    assert samples.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 100), rel=0.02)
    found = percentile_interval(100, 0.8, samples)
    low, high = found.low, found.high
    assert low == pytest.approx(0.72, abs=0.011) and high == pytest.approx(0.87, abs=0.011)


def test_resampled_mean_of_ratios_draws_each_part_by_itself() -> None:
    parts = [(np.array([4.0, 0, 1]), np.array([4.0, 1, 2])), (np.array([1.0, 0.0] * 50), np.ones(100))]
    lower, upper = resampled_mean_of_ratios(parts, draws=DRAWS, rng=rng())
    one_by_one = rng()
    own = [resampled_ratios(*part, draws=DRAWS, rng=one_by_one) for part in parts]
    assert (lower == upper).all() and (lower == (own[0] + own[1]) / 2).all()


def test_resampled_mean_of_ratios_of_a_part_whose_units_are_alike_has_its_exact_ends() -> None:
    """Three units right: u ** (1 / 3) at the lower end; three wrong, the mirror image at the upper one; half right, the middle."""
    reach = 0.025 ** (1 / 3)
    for right, low, high in ((1.0, reach, 1.0), (0.0, 0.0, 1 - reach), (0.5, reach / 2, 1 - reach / 2)):
        parts = [(np.full(3, 2 * right), np.full(3, 2.0))]
        lower, upper = resampled_mean_of_ratios(parts, draws=DRAWS, rng=rng())
        assert np.quantile(lower, 0.025) == pytest.approx(low, abs=1e-5)
        assert np.quantile(upper, 0.975) == pytest.approx(high, abs=1e-5)


def test_resampled_mean_of_ratios_leaves_a_mixed_part_its_spread_beside_a_unanimous_one() -> None:
    """Five right: Beta(5, 1) has the variance 5 / (6 ** 2 * 7); of a hundred halves the variance is 1 / 400."""
    parts = [(np.ones(5), np.ones(5)), (np.array([1.0, 0.0] * 50), np.ones(100))]
    lower, upper = resampled_mean_of_ratios(parts, draws=DRAWS, rng=rng())
    assert lower.mean() == pytest.approx((5 / 6 + 1 / 2) / 2, abs=0.002)
    assert lower.std() == pytest.approx(np.sqrt(5 / 252 + 1 / 400) / 2, rel=0.03)
    assert upper.mean() == pytest.approx(0.75, abs=0.002) and upper.std() == pytest.approx(0.05 / 2, rel=0.03)


def test_groups_that_are_right_together_give_a_wider_interval_than_pairs() -> None:
    right = np.repeat([1.0, 0.0], 50)
    groups = np.repeat(np.arange(10), 10)
    pairs = resampled_ratios(right, np.ones(100), draws=DRAWS, rng=rng())
    together = resampled_ratios(*per_group(right, groups), draws=DRAWS, rng=rng())
    assert together.std() == pytest.approx(pairs.std() * np.sqrt(10), rel=0.05)


def test_per_group_sums_and_counts_by_name() -> None:
    sums, numbers = per_group(np.array([1.0, 0.5, 1.0, 0.0]), np.array(["b", "a", "b", "a"], object))
    assert sums.tolist() == [0.5, 2.0] and numbers.tolist() == [2.0, 2.0]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30), st.randoms())
def test_resampled_ratios_do_not_depend_on_order_and_stay_in_range(right: list[float], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(right)
    random.shuffle(shuffled)
    one, other = (
        resampled_ratios(np.array(each), np.ones(len(each)), draws=200, rng=rng(3)) for each in (right, shuffled)
    )
    assert (one == other).all() and min(right) <= one.min() and one.max() <= max(right)


def test_resampled_ratios_all_right_has_no_width_and_none_is_refused() -> None:
    samples = resampled_ratios(np.ones(4), np.ones(4), draws=100, rng=rng())
    found = percentile_interval(3, 1.0, samples)
    assert (found.low, found.high) == (1.0, 1.0)
    with pytest.raises(ValueError, match="no unit"):
        resampled_ratios(np.zeros(0), np.zeros(0), draws=100, rng=rng())


def test_resampled_ratios_of_a_draw_whose_units_have_nothing_are_not_a_number() -> None:
    """One of two units has pairs: a quarter of the draws has it in neither place."""
    samples = resampled_ratios(np.array([1.0, 0.0]), np.array([1.0, 0.0]), draws=DRAWS, rng=rng())
    assert np.isnan(samples).mean() == pytest.approx(0.25, abs=0.01) and set(samples[~np.isnan(samples)]) == {1.0}
