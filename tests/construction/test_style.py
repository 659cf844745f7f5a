"""Style features on texts counted by hand, and the probe's numbers and symmetries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.style import (
    FEATURES,
    accuracy_interval,
    feature_balance,
    fit_style,
    style_differences,
    style_features,
    style_probe,
)


def counts(text: str) -> dict[str, int]:
    """What is not zero."""
    return {name: int(n) for name, n in zip(FEATURES, style_features(text), strict=True) if n}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat.", {"characters": 6, "words": 2}),
        ("It's well-known", {"characters": 15, "words": 2}),
        ("图中有2只猫。", {"characters": 7, "words": 6}),
        ("# A\n## B\n#C", {"characters": 11, "words": 3, "headers": 2}),
        ("- a\n* b\n2. c\n3、d\n4.5", {"characters": 20, "words": 8, "list_items": 4}),
        ("**a** and __b__, 2 ** 3", {"characters": 23, "words": 5, "bold": 2}),
        ("`x` ```\ny `z`\n``` `w`", {"characters": 21, "words": 4, "code": 3}),
        ("```\nnever closed", {"characters": 16, "words": 2, "code": 1}),
        ("I see my cat; we agree", {"characters": 22, "words": 6, "first_person": 3}),
        ("II, in an image", {"characters": 15, "words": 4}),
        ("我们自我介绍", {"characters": 6, "words": 6, "first_person": 1}),
        ("I’m sorry, I can't.", {"characters": 19, "words": 4, "first_person": 2, "refusals": 2}),
        ("抱歉，无法", {"characters": 5, "words": 4, "refusals": 2}),
    ],
)
def test_style_features_are_counted(text, expected):
    assert counts(text) == expected


@given(st.text(max_size=200))
def test_style_features_of_any_text_are_counts(text):
    features = style_features(text)
    assert features.shape == (len(FEATURES),)
    assert (features >= 0).all() and (features[1:] <= len(text)).all()


@pytest.mark.parametrize("piece", ["*", "`", "#", "_", "- ", "1", "\n", "I am ", "```", "我"])
def test_style_features_of_a_megabyte_of_marks_end(piece):
    assert style_features(piece * (1_000_000 // len(piece)))[0] > 900_000


def test_style_differences_are_logarithmic_and_mirror():
    differences = style_differences([[math.e - 1, 0]], [[0, 3]])
    np.testing.assert_allclose(differences, [[1.0, -math.log(4)]])
    np.testing.assert_allclose(style_differences([[0, 3]], [[math.e - 1, 0]]), -differences)


def test_feature_balance_by_hand():
    chosen, rejected = [[4, 0], [2, 0], [3, 0], [1, 0]], [[2, 0], [2, 0], [1, 0], [3, 0]]
    first, second = feature_balance(np.array(chosen), np.array(rejected), ["a", "b"])
    assert (first.chosen_mean, first.rejected_mean, first.differing) == (2.5, 2.0, 3)
    assert first.more_wins == pytest.approx(2 / 3)
    assert second.differing == 0 and math.isnan(second.more_wins)


def test_fit_style_solves_the_equation_of_one_feature():
    # All winners have 2 more: n * sigmoid(-w) = l2 * w. With w = log 3 the sigmoid is 1/4.
    model = fit_style(np.full((8, 1), 2.0), l2=2 / math.log(3))
    assert model.scale.tolist() == [2.0]
    assert model.weights[0] == pytest.approx(math.log(3))
    assert model.margin(np.array([[2.0], [-4.0]])).tolist() == pytest.approx([math.log(3), -2 * math.log(3)])


def test_fit_style_without_penalty_finds_the_odds():
    # Three of four times the one with more wins: odds of 3.
    model = fit_style(np.array([[1.0]] * 300 + [[-1.0]] * 100), l2=1e-9)
    assert model.weights[0] == pytest.approx(math.log(3))


def random_differences(pairs: int, seed: int = 0, features: int = len(FEATURES)):
    return np.random.default_rng(seed).normal(size=(pairs, features))


def test_style_probe_of_swapped_pairs_mirrors():
    differences = random_differences(200) + 0.3
    one, other = (style_probe(d, np.arange(200)) for d in (differences, -differences))
    assert (one.accuracy, one.low, one.high) == (other.accuracy, other.low, other.high)
    assert other.weights == {name: -weight for name, weight in one.weights.items()}


def test_style_probe_does_not_depend_on_units():
    differences = random_differences(200) + 0.2
    scaled = differences * np.array([1000.0, 1e-6] + [1.0] * (len(FEATURES) - 2))
    assert style_probe(scaled, np.arange(200)).accuracy == style_probe(differences, np.arange(200)).accuracy


def test_style_probe_of_random_labels_is_near_chance():
    inside = 0
    for seed in range(20):
        result = style_probe(random_differences(500, seed), np.arange(500), seed=seed)
        assert 0.4 < result.accuracy < 0.6
        inside += result.low <= 0.5 <= result.high
    assert inside >= 17  # 19 expected


def test_style_probe_of_a_planted_style_is_near_one():
    differences = random_differences(300)
    differences[:, 4] = np.abs(differences[:, 4]) * 3 + 1
    result = style_probe(differences, np.arange(300))
    assert result.accuracy > 0.97 and result.low > 0.95
    assert max(result.weights, key=result.weights.__getitem__) == FEATURES[4]


def test_style_probe_without_any_difference_is_chance():
    result = style_probe(np.zeros((50, len(FEATURES))), np.arange(50))
    assert result.accuracy == 0.5
    assert result.low < 0.5 < result.high


def test_style_probe_learns_nothing_from_the_held_out_group():
    # Each prompt has a feature of its own that gives its winners away; across prompts there is nothing to learn.
    differences = np.kron(np.eye(8), np.ones((10, 1)))
    names = [str(i) for i in range(8)]
    assert style_probe(differences, np.repeat(np.arange(8), 10), names=names).accuracy == 0.5
    assert style_probe(differences, np.arange(80), names=names).accuracy == 1.0


def test_style_probe_of_less_than_two_groups_is_unknown():
    for pairs in (0, 3):
        result = style_probe(np.ones((pairs, len(FEATURES))), np.zeros(pairs, int))
        assert math.isnan(result.accuracy) and math.isnan(result.low)
        assert result.pairs == pairs


def test_style_probe_refuses_one_fold():
    with pytest.raises(ValueError, match="folds=1"):
        style_probe(random_differences(10), np.arange(10), folds=1)


def test_accuracy_interval_of_single_pairs_is_wilsons():
    # 80 of 100, Wilson by hand: center (0.8 + 1.92073/100) / 1.0384146, half 1.95996/1.0384146 * sqrt(0.0016 + 0.0000960365)
    right = np.array([1.0] * 80 + [0.0] * 20)
    # The groups' variance has 99 in its divisor, so they are worth 99 observations.
    low, high = accuracy_interval(right, np.arange(100))
    assert (low, high) == pytest.approx((0.7111708, 0.8666331), abs=1e-3)


def test_accuracy_interval_counts_copies_once():
    right = np.array([1.0] * 30 + [0.0] * 10)
    single = accuracy_interval(right, np.arange(40))
    copies = accuracy_interval(np.repeat(right, 7), np.repeat(np.arange(40), 7))
    assert copies == pytest.approx(single)


def test_accuracy_interval_of_all_right_is_not_a_point():
    low, high = accuracy_interval(np.ones(20), np.arange(20))
    assert low == pytest.approx(20 / (20 + 1.959964**2)) and high == 1.0
