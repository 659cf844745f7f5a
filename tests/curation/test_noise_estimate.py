"""The noise estimate: against worked-out probabilities, against made pools of known noise, and where nothing can be told."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrm.curation.noise_estimate import (
    MIN_PAIRS,
    NoiseEstimate,
    estimate_noise,
    expected_share,
    wrong_probability,
)
from mrm.errors import CurationError

NAN = math.nan


def strengths(noise, accuracy, pairs, seed=0):
    """A model whose strengths under the right labels are normal and right in `accuracy`, under labels of some noise."""
    rng = np.random.default_rng(seed)
    right = NormalDist().inv_cdf(accuracy) + rng.standard_normal(pairs)
    return np.where(rng.random(pairs) < noise, -right, right)


@pytest.mark.parametrize("accuracy", [0.8, 0.9, 0.97])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2, 0.3, 0.4, 0.45])
def test_estimate_noise_made_pool_is_near_the_truth_and_knows_how_near(noise, accuracy):
    found = estimate_noise(strengths(noise, accuracy, 40_000))
    assert found.known and found.pairs == 40_000
    assert found.rate == pytest.approx(noise, abs=max(3 * found.error, 0.002))
    assert found.error < 0.012
    # normal strengths of mean mu and deviation 1 are right with log odds 2 mu m
    if 0 < noise < 0.4:
        assert found.slope == pytest.approx(2 * NormalDist().inv_cdf(accuracy), rel=0.2)


def test_estimate_noise_intervals_cover_the_truth():
    found = [estimate_noise(strengths(0.3, 0.85, 3000, seed)) for seed in range(50)]
    hits = [abs(one.rate - 0.3) < 1.96 * one.error for one in found]
    assert 43 <= sum(hits)
    assert abs(np.mean([one.rate for one in found]) - 0.3) < 0.008


def test_estimate_noise_unit_of_the_strengths_does_not_matter():
    strength = strengths(0.2, 0.9, 2000)
    one, other = estimate_noise(strength), estimate_noise(strength * 1000)
    assert (other.rate, other.error) == pytest.approx((one.rate, one.error), rel=1e-6)
    assert other.slope == pytest.approx(one.slope / 1000, rel=1e-6)


@pytest.mark.parametrize("pairs", [200, 2000, 20_000])
def test_estimate_noise_coin_flips_are_unknown_in_all_but_one_pool_in_a_hundred(pairs):
    rng = np.random.default_rng(0)
    found = [estimate_noise(rng.standard_normal(pairs)) for _ in range(40)]
    assert sum(one.known for one in found) <= 2
    assert all(one.by_chance and "agree too little" in one.reason for one in found if not one.known)


def test_estimate_noise_labels_wrong_more_often_than_right_are_unknown():
    assert estimate_noise(strengths(0.6, 0.9, 5000)).by_chance
    assert not estimate_noise(np.ones(3)).by_chance  # too few is another reason


def test_estimate_noise_surer_model_that_contradicts_as_often_means_more_noise():
    """Where contradictions are unsure ones, the model is at fault; where they are sure ones, the labels are."""
    rng = np.random.default_rng(0)
    agree, against = rng.uniform(0, 4, 8000), rng.uniform(0, 4, 2000)
    everywhere = estimate_noise(np.concatenate([agree, -against]))
    unsure = estimate_noise(np.concatenate([agree, -against / 8]))
    assert everywhere.rate == pytest.approx(0.2, abs=0.02) and unsure.rate < 0.01


@pytest.mark.parametrize(
    ("strength", "reason"),
    [
        ([], "0 pairs are too few"),
        ([-1.0, 1.0] * (MIN_PAIRS // 2 - 1), "too few"),
        ([NAN, np.inf] * MIN_PAIRS, "0 pairs are too few"),
        ([-1.0, 1.0, 1.0] * MIN_PAIRS, "all margins are equal"),
        ([0.0] * MIN_PAIRS, "all margins are equal"),
        (np.arange(1.0, 100.0), "no label is contradicted"),
        (-np.arange(1.0, 100.0), "agree too little"),
    ],
)
def test_estimate_noise_nothing_to_tell_it_from_is_unknown_with_the_reason(strength, reason):
    found = estimate_noise(np.array(strength))
    assert not found.known and reason in found.reason
    assert math.isnan(found.rate) and math.isnan(found.error) and math.isnan(found.slope)


@settings(max_examples=15, deadline=None)  # a fit is slow beside a deadline
@given(st.permutations(range(200)), st.floats(0, 0.4))
def test_estimate_noise_permuted_pairs_give_the_same_bits(order, noise):
    strength = np.round(strengths(noise, 0.8, 200), 1)  # with ties
    assert repr(estimate_noise(strength[list(order)])) == repr(estimate_noise(strength))


def test_wrong_probability_by_hand():
    estimate = NoiseEstimate(rate=0.2, error=0.01, slope=math.log(2), pairs=100)
    # odds of wrong 1/4, doubled for each unit against the label: 1/4, 1/2 at -1, 1 at -2, 1/8 at +1
    found = wrong_probability(np.array([0.0, -1.0, -2.0, 1.0, NAN]), estimate)
    np.testing.assert_allclose(found, [1 / 5, 1 / 3, 1 / 2, 1 / 9, NAN])


def test_wrong_probability_is_that_of_bayes_for_both_kinds_of_pair():
    e, k, m = 0.3, 1.7, 0.9
    c = 1 / (1 + math.exp(-k * m))
    found = wrong_probability(np.array([m, -m]), NoiseEstimate(e, 0.01, k, 100))
    agree, against = e * (1 - c) / (e * (1 - c) + (1 - e) * c), e * c / (e * c + (1 - e) * (1 - c))
    np.testing.assert_allclose(found, [agree, against])


def test_wrong_probability_without_noise_is_zero_and_without_estimate_unknown():
    assert wrong_probability(np.array([-5.0, 5.0]), NoiseEstimate(0.0, 0.01, 1.0, 100)).tolist() == [0.0, 0.0]
    assert np.isnan(wrong_probability(np.array([-5.0]), NoiseEstimate(NAN, NAN, NAN, 0, "why"))).all()


def test_expected_share_is_the_mean_over_the_negatives():
    estimate = NoiseEstimate(rate=0.2, error=0.01, slope=math.log(2), pairs=100)
    assert expected_share(np.array([-1.0, -2.0, 5.0, NAN, 0.0]), estimate) == pytest.approx((1 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.4])
def test_expected_share_of_a_made_pool_is_the_share_of_its_negatives_that_are_wrong(noise):
    rng = np.random.default_rng(1)
    right, wrong = NormalDist().inv_cdf(0.88) + rng.standard_normal(40_000), rng.random(40_000) < noise
    strength = np.where(wrong, -right, right)
    assert expected_share(strength, estimate_noise(strength)) == pytest.approx(wrong[strength < 0].mean(), abs=0.04)


def test_expected_share_unknown_estimate_says_what_to_do_unless_nothing_is_negative():
    unknown = NoiseEstimate(NAN, NAN, NAN, 3, "3 pairs are too few")
    assert expected_share(np.array([1.0, NAN]), unknown) == 0.0
    with pytest.raises(CurationError, match="3 pairs are too few.*Give distrust_share as a number"):
        expected_share(np.array([-1.0]), unknown)
