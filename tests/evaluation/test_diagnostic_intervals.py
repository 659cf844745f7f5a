"""Intervals of a diagnosis: of what figures, around what, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from mrm.evaluation.calibration import calibration
from mrm.evaluation.diagnostic_intervals import (
    DRAWS,
    calibration_intervals,
    draws_for,
    position_intervals,
    style_intervals,
)
from mrm.evaluation.intervals import Interval, accuracy_interval
from mrm.evaluation.position import position_bias
from mrm.evaluation.shortcuts import length_control, log_ratio, within_prompt_correlation


def some_pairs(pairs: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    length = random.integers(5, 500, (pairs, 2))
    return 0.5 * log_ratio(length) + random.normal(0.5, 1, pairs), length


def style(difference: np.ndarray, length: np.ndarray, sample: np.ndarray):
    features = {"log length": log_ratio(length), "none": np.zeros(len(length))}
    found = length_control(difference, length)
    correlations = {name: within_prompt_correlation(difference, feature) for name, feature in features.items()}
    made = style_intervals(found, correlations, difference, length, features, sample, seed=3)
    return found, correlations, *made


def test_style_intervals_lie_around_the_figures_of_all_pairs() -> None:
    found, correlations, by_length, by_feature = style(*some_pairs(), np.arange(300))
    assert set(by_length) == {"accuracy", "longer", "shorter"} and set(by_feature) == {"log length"}
    for name, interval in by_length.items():
        assert interval.estimate == getattr(found, name) and interval.low < interval.estimate < interval.high
    correlation = by_feature["log length"]
    assert correlation.estimate == correlations["log length"] and correlation.n == 300
    # Fisher: the standard error of a correlation of 300 independent pairs is about (1 - r ** 2) / sqrt(300).
    assert correlation.spread == pytest.approx((1 - correlation.estimate**2) / np.sqrt(300), rel=0.2)
    # An accuracy of 300 pairs, both sides weighing alike: sqrt(p (1 - p) / 300) or a little more.
    p = found.accuracy
    assert by_length["accuracy"].spread == pytest.approx(np.sqrt(p * (1 - p) / 300), rel=0.2)


def test_style_intervals_of_pairs_of_few_samples_are_wider() -> None:
    difference, length = some_pairs(60)
    alone = style(difference, length, np.arange(60))
    copied = style(np.repeat(difference, 5), np.repeat(length, 5, axis=0), np.repeat(np.arange(60), 5))
    by_row = style(np.repeat(difference, 5), np.repeat(length, 5, axis=0), np.arange(300))
    for part, name in ((2, "accuracy"), (3, "log length")):
        assert copied[part][name].n == 60
        assert copied[part][name].spread == pytest.approx(alone[part][name].spread, rel=0.1)
        assert by_row[part][name].spread < 0.7 * copied[part][name].spread


def test_intervals_without_an_estimate_or_without_a_spread_have_no_ends() -> None:
    one_sided = style(np.array([1.0, -1]), np.array([[20, 10], [30, 10]]), np.arange(2))
    assert "accuracy" not in one_sided[2] and set(one_sided[2]) == {"longer"}
    all_right = style(np.ones(40), np.array([[20, 10], [10, 20]] * 20), np.arange(40))
    assert all_right[2]["accuracy"] == Interval(40, 1.0)
    assert all_right[2]["longer"].low == pytest.approx(0.025 ** (1 / 20))  # twenty samples, exact
    assert style(*some_pairs(20), np.zeros(20, int))[3]["log length"].low is None  # one sample


def test_position_intervals_lie_around_the_shares() -> None:
    random = np.random.default_rng(1)
    given, first = random.normal(0.3, 1, 200), random.random(200) < 0.5
    swapped = given + random.normal(0, 0.5, 200)
    found, sample = position_bias(given, swapped, first), np.arange(200)
    made = position_intervals(found, given, swapped, first, sample, seed=0)
    assert set(made) == {"consistent", "given", "swapped", "same_image", "first_image"}
    for name, interval in made.items():
        assert interval.estimate == pytest.approx(getattr(found, name)) and interval.n == 200
        assert interval.low < interval.estimate < interval.high
    right = ((given > 0) & (swapped > 0)).astype(float)
    assert made["consistent"] == accuracy_interval(right, seed=0, draws=DRAWS, clusters=sample)


def test_position_intervals_of_a_model_that_sees_places_only_are_exact() -> None:
    """All decisions of four samples are for the first image, the same image never wins; a fifth is not decided."""
    first = np.array([True, False, True, False, True])
    given = np.where(first, 1.0, -1.0) * [1, 1, 1, 1, 0]
    found = position_bias(given, -given, first)
    made = position_intervals(found, given, -given, first, np.arange(5), seed=0)
    assert made["first_image"] == Interval(4, 1.0, pytest.approx(0.025**0.25), 1.0)
    assert (made["consistent"].low, made["consistent"].high) == (0.0, pytest.approx(1 - 0.025**0.2))


def test_calibration_intervals_tell_a_model_that_is_too_sure_from_chance() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 500)
    size = np.log(confidence / (1 - confidence))
    difference = np.where(random.random(500) < confidence, size, -size)
    for factor, beyond in ((1, False), (3, True)):
        found = calibration(factor * difference)
        made = calibration_intervals(found, factor * difference, np.arange(500), seed=0)
        assert made["error"].estimate == found.error and made["error"].n == 500
        chance = made["error_if_calibrated"]
        assert chance.low < chance.estimate < chance.high and (found.error > chance.high) is beyond


def test_calibration_intervals_of_a_calibrated_model_count_pairs_as_independent_and_are_none_of_one_sample() -> None:
    difference, _ = some_pairs(60)
    fit = calibration(difference)
    alone, together, one = (
        calibration_intervals(fit, difference, sample, seed=0)
        for sample in (np.arange(60), np.arange(60) // 5, np.zeros(60, int))
    )
    assert together["error_if_calibrated"] == alone["error_if_calibrated"] and alone["error_if_calibrated"].n == 60
    assert (alone["error"].n, together["error"].n) == (60, 12)
    assert one == {"error": Interval(1, fit.error)}


def test_calibration_intervals_of_ties_alone_have_no_ends() -> None:
    """Each pair is half right with the confidence 0.5, whatever is drawn."""
    made = calibration_intervals(calibration(np.zeros(4)), np.zeros(4), np.arange(4), seed=0)
    assert made == {"error": Interval(4, 0.0), "error_if_calibrated": Interval(4, 0.0)}


def test_draws_for_many_pairs_are_fewer() -> None:
    assert [draws_for(pairs) for pairs in (10, 50_000, 100_000, 10**7)] == [2000, 2000, 1000, 500]
