"""Intervals, against tables of Student's t and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.intervals import (
    Interval,
    accuracy_interval,
    alike_ends,
    bootstrap_draws,
    bootstrap_interval,
    ends_of_spread,
    mean_interval,
    percentile_interval,
    t_central,
    t_quantile,
    t_tail,
    weighted_mean,
)


@pytest.mark.parametrize(
    ("level", "df", "value"),
    [
        (0.5, 1, 1.0),  # Cauchy: half lies within 1
        (0.95, 1, 12.706205),
        (0.95, 2, 4.302653),
        (0.95, 3, 3.182446),
        (0.95, 4, 2.776445),
        (0.99, 4, 4.604095),
        (0.95, 9, 2.262157),
        (0.90, 10, 1.812461),
        (0.95, 30, 2.042272),
        (0.95, 1000, 1.962339),
    ],
)
def test_t_quantile_is_that_of_the_tables(level: float, df: int, value: float) -> None:
    assert t_quantile(level, df) == pytest.approx(value, abs=1e-6)


@given(st.floats(0.01, 0.999), st.integers(1, 60))
def test_t_quantile_and_central_share_undo_each_other(level: float, df: int) -> None:
    assert t_central(t_quantile(level, df), df) == pytest.approx(level, abs=1e-9)


def test_t_tail_of_two_degrees_of_freedom_is_its_closed_form() -> None:
    for t in (0.0, 0.5, 3.0, 40.0):
        assert t_tail(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)
    assert t_tail(math.inf, 2) == 0.0


def test_mean_interval_of_three_seeds_is_worked_out_by_hand() -> None:
    # mean 2, standard deviation 1, standard error 1 / sqrt(3), t(0.95, 2) = 4.302653
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.n, found.estimate, found.spread) == (3, 2.0, 1.0)
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert found.excludes_zero is False


def test_mean_interval_of_one_seed_has_no_ends() -> None:
    assert mean_interval([0.5]) == Interval(1, 0.5)
    assert mean_interval([0.5]).excludes_zero is None


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(0), 0
    for trial in range(200):
        found = bootstrap_interval(random.random(80) < 0.7, seed=trial, draws=400)
        held += found.low <= 0.7 <= found.high
    assert 180 <= held <= 198  # 190 expected, standard deviation 3


def test_bootstrap_draws_vary_as_a_mean_does() -> None:
    made = bootstrap_draws(np.arange(100.0), seed=3, draws=20_000)
    assert made.std() == pytest.approx(np.arange(100.0).std() / 10, rel=0.03)
    assert made.tolist() == bootstrap_draws(np.arange(100.0), seed=3, draws=20_000).tolist()


def same_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weighted_mean(values, weights)


@pytest.mark.parametrize("statistic", [weighted_mean, same_mean])
def test_bootstrap_draws_do_not_depend_on_the_size_of_blocks(statistic, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_draws([1.0, 2.0, 4.0], statistic, seed=1, draws=50)
    for module in ("bootstrap", "intervals"):
        monkeypatch.setattr(f"mrm.evaluation.{module}.AT_ONCE", 30)  # blocks of ten draws
    assert bootstrap_draws([1.0, 2.0, 4.0], statistic, seed=1, draws=50).tolist() == whole.tolist()


def test_bootstrap_means_drawn_by_kind_spread_as_those_drawn_by_row() -> None:
    """The mean has a way of its own, which a statistic that is not known to be the mean does not take."""
    values, clusters = [0, 1, 1, 1, 0, 1, 0, 0, 1], list("aabbbcddd")
    for belonging in (None, clusters):
        kinds, rows = (
            bootstrap_draws(values, statistic, seed=5, draws=40_000, clusters=belonging)
            for statistic in (weighted_mean, same_mean)
        )
        assert kinds.mean() == pytest.approx(rows.mean(), abs=0.005)
        assert kinds.std() == pytest.approx(rows.std(), rel=0.02)


def test_bootstrap_clusters_are_drawn_whole() -> None:
    # Two clusters of equal values: a draw is 0, a half or 1, never anything else.
    made = bootstrap_draws([0.0, 0.0, 1.0, 1.0], seed=0, draws=500, clusters=["a", "a", "b", "b"])
    assert set(made.tolist()) == {0.0, 0.5, 1.0}
    assert bootstrap_interval([0.0, 1.0], seed=0, clusters=["a", "a"]) == Interval(1, 0.5)


def test_bootstrap_takes_a_statistic_of_several_columns() -> None:
    def ratio(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (weights @ values[:, 0]) / (weights @ values[:, 1])

    found = bootstrap_interval([[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]], ratio, seed=0, draws=100)
    assert found.estimate == found.low == found.high == 2.0


def test_bootstrap_draws_of_several_figures_are_of_the_same_draws() -> None:
    def both(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.stack([weighted_mean(values, weights), 2 * weighted_mean(values, weights)], axis=1)

    made = bootstrap_draws([1.0, 2.0, 4.0], both, seed=1, draws=50, clusters=["a", "b", "b"])
    assert made.shape == (50, 2) and (made[:, 1] == 2 * made[:, 0]).all()


def test_percentile_interval_leaves_out_draws_without_a_figure_unless_they_decide() -> None:
    made = np.arange(101.0)
    assert percentile_interval(9, 50.0, made) == percentile_interval(9, 50.0, np.append(made, [math.nan] * 5))
    assert percentile_interval(9, 50.0, np.append(made, [math.nan] * 6)) == Interval(9, 50.0)  # 6 of 107: 5.6 %


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_bootstrap_interval_lies_within_the_values(values: list[float]) -> None:
    found = bootstrap_interval(values, seed=0, draws=50)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_alike_ends_of_all_right_and_all_wrong_are_those_of_the_tables() -> None:
    """0.025 ** (1 / 10) is 0.6915, 0.05 ** (1 / 2) is 0.2236; one unit tells next to nothing."""
    low, high = alike_ends(1.0, 10)
    assert low == pytest.approx(0.69150, abs=1e-5) and high == 1.0
    assert alike_ends(0.0, 10) == (0.0, pytest.approx(1 - 0.69150, abs=1e-5))
    assert alike_ends(1.0, 2, level=0.9)[0] == pytest.approx(math.sqrt(0.05))
    assert alike_ends(1.0, 1)[0] == pytest.approx(0.025)


def test_alike_ends_of_units_that_are_each_half_right() -> None:
    """At least 0.6915 of all are half right: 0.3457, and 0.3085 more where the rest are right."""
    assert alike_ends(0.5, 10) == (pytest.approx(0.34575, abs=1e-5), pytest.approx(0.65425, abs=1e-5))


@given(st.floats(0, 1), st.integers(1, 500), st.floats(0.5, 0.999))
def test_alike_ends_mirror_and_hold_what_they_say(share: float, n: int, level: float) -> None:
    (low, high), (mirrored, _) = alike_ends(share, n, level), alike_ends(1 - share, n, level)
    assert 0 <= low <= share <= high + 1e-12 and high <= 1 + 1e-12 and high == pytest.approx(1 - mirrored)
    others = high - low  # the share of units that may be otherwise
    assert (1 - others) ** n == pytest.approx((1 - level) / 2)  # the chance that none of these is drawn


def test_accuracy_interval_is_the_bootstrap_but_where_all_samples_are_alike() -> None:
    some = [1.0, 1.0, 0.0, 1.0]
    assert accuracy_interval(some, seed=0, draws=50) == bootstrap_interval(some, seed=0, draws=50)
    found = accuracy_interval([1.0] * 6, seed=0, draws=50, clusters=list("aabbcd"))  # four samples
    assert (found.n, found.low, found.high) == (4, pytest.approx(0.025**0.25), 1.0)
    assert accuracy_interval([0.0], seed=0, draws=50) == Interval(1, 0.0, 0.0, pytest.approx(0.975))


def test_accuracy_interval_of_samples_that_are_half_right_is_no_point() -> None:
    """Each sample has one pair right and one wrong: whichever are drawn, the share is a half."""
    found = accuracy_interval([1.0, 0, 1, 0], seed=0, draws=50, clusters=list("aabb"))
    assert found == Interval(2, 0.5, *alike_ends(0.5, 2))
    by_pair = accuracy_interval([1.0, 0, 1, 0], seed=0, draws=500)
    assert (by_pair.low, by_pair.high) == (0.0, 1.0)  # a sixteenth of the draws each


def test_ends_of_spread_are_left_out_where_the_draws_are_alike_but_for_rounding() -> None:
    assert ends_of_spread(Interval(3, 0.3, 0.3, 0.3 + 1e-16, 1e-17)) == Interval(3, 0.3)
    assert ends_of_spread(Interval(3, 0.3)) == Interval(3, 0.3)
    some = Interval(3, 0.3, 0.1, 0.5, 0.1)
    assert ends_of_spread(some) == some
