"""Pairs left out until style no longer tells the winner: what has to hold for any set."""

import random

import numpy as np
import pytest

from mrm.construction.balance import balance_style
from mrm.construction.style import FEATURES, feature_balance, style_differences, style_features, style_probe
from mrm.errors import ConfigError

FANCY = (
    lambda text: f"Looking carefully at the image, I can clearly see the answer. {text}. I hope this helps!",
    lambda text: "## Answer\n" + "\n".join(f"- **{word}**" for word in text.split()),
)
PLAIN = (lambda text: text, lambda text: f"The answer is {text}.")


def styled_pairs(count: int, rate: float, seed: int = 0, pairs_of_prompt: int = 1):
    """Chosen and rejected counts, prompts and keys; the winner is the fancy one at a rate, whatever their lengths."""
    chosen, rejected = [], []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        sides = (FANCY, PLAIN) if rng.random() < rate else (PLAIN, FANCY)
        for made, styles in zip((chosen, rejected), sides, strict=True):
            made.append(style_features(rng.choice(styles)(" ".join(["word"] * rng.randint(1, 30)))))
    groups = np.arange(count) // pairs_of_prompt
    return np.array(chosen), np.array(rejected), groups, [f"pair{number}" for number in range(count)]


@pytest.mark.parametrize("mode", ["subsample", "match"])
@pytest.mark.parametrize("rate", [0.15, 0.7, 0.85])
def test_balance_style_ends_below_the_target_with_as_many_pairs_as_can_stay(rate, mode):
    chosen, rejected, groups, keys = styled_pairs(2000, rate)
    found = balance_style(chosen, rejected, groups, keys, mode=mode)
    named = found.before.probe.accuracy
    assert named > 0.65 and found.reached is True
    assert found.after.highest <= 0.55 and 0.45 <= found.after.former <= 0.55
    # The 1 - named whom style contradicts stay, and 0.55 / 0.45 as many of the others.
    assert found.keep.mean() > 0.9 * (1 - named) / 0.45
    assert found.after.probe.pairs == found.keep.sum()


def test_balance_style_holds_for_other_foldings_and_for_every_feature():
    chosen, rejected, groups, keys = styled_pairs(3000, 0.85)
    keep = balance_style(chosen, rejected, groups, keys).keep
    differences = style_differences(chosen, rejected)[keep]
    for seed in range(50, 60):
        assert style_probe(differences, groups[keep], seed=seed).accuracy <= 0.56
    for row in feature_balance(chosen[keep], rejected[keep]):
        assert row.differing == 0 or 0.45 <= row.more_wins <= 0.55


def test_balance_style_of_balanced_pairs_leaves_nothing_out():
    found = balance_style(*styled_pairs(2000, 0.5))
    assert found.keep.all() and found.reached is True
    assert found.after == found.before


def test_balance_style_a_feature_hidden_from_the_probe_is_balanced_too():
    # Many winners have a little more, a few losers much more: the mean is even, the sign is not.
    rng = np.random.default_rng(0)
    size = np.where(rng.random(2000) < 0.8, 1.0, 4.0)
    words = size * np.where(rng.random(2000) < np.where(size == 1, 0.8, 0.2), 1, -1)
    counts = np.zeros((2, 2000, len(FEATURES)))
    counts[0, :, 1], counts[1, :, 1] = np.expm1(np.maximum(words, 0)), np.expm1(np.maximum(-words, 0))
    found = balance_style(*counts, np.arange(2000), [str(i) for i in range(2000)])
    assert 0.45 <= next(f for f in found.after.features if f.feature == "words").more_wins <= 0.55


def test_balance_style_without_the_other_side_leaves_only_equal_styles():
    chosen, rejected, groups, keys = styled_pairs(200, 1.0)
    chosen[:40] = rejected[:40]
    found = balance_style(chosen, rejected, groups, keys)
    assert found.keep.tolist() == [True] * 40 + [False] * 160
    assert found.after.probe.accuracy == 0.5


def test_balance_style_does_not_depend_on_the_order_of_pairs():
    chosen, rejected, groups, keys = styled_pairs(600, 0.8, pairs_of_prompt=3)
    shuffle = np.random.default_rng(1).permutation(600)
    for mode in ("subsample", "match"):
        kept = balance_style(chosen, rejected, groups, keys, mode=mode).keep
        moved = balance_style(
            chosen[shuffle], rejected[shuffle], groups[shuffle], [keys[i] for i in shuffle], mode=mode
        ).keep
        assert (moved == kept[shuffle]).all()


def test_balance_style_of_swapped_pairs_keeps_the_same():
    chosen, rejected, groups, keys = styled_pairs(600, 0.8)
    assert (
        balance_style(chosen, rejected, groups, keys).keep == balance_style(rejected, chosen, groups, keys).keep
    ).all()


def test_balance_style_seed_decides_which_pairs_stay():
    pairs = styled_pairs(600, 0.8)
    one, again, other = (balance_style(*pairs, seed=seed).keep for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).any()


def styled_prompts(count: int, seed: int = 0):
    """Prompts of three responses, two of one style: pairs of like style say nothing, the others' winner is fancy in 85 %."""
    alike = styled_pairs(count, 0.5, seed + 1)
    alike[0][:] = alike[1][:, :]
    alike[0][:, 0] += np.where(np.random.default_rng(seed).random(count) < 0.5, 1, -1)
    unlike = styled_pairs(2 * count, 0.85, seed)
    groups = np.r_[np.arange(count), np.arange(2 * count) // 2]
    return np.r_[alike[0], unlike[0]], np.r_[alike[1], unlike[1]], groups, [f"k{i}" for i in range(3 * count)]


def test_balance_style_match_keeps_more_prompts_with_more_like_pairs():
    pairs = styled_prompts(1000)
    most, match = (balance_style(*pairs, mode=mode) for mode in ("subsample", "match"))
    assert most.reached and match.reached
    assert match.after.groups == 1000 > most.after.groups
    assert match.after.distance < most.after.distance
    assert most.keep.sum() > match.keep.sum()


def test_balance_style_names_a_reason_for_every_pair_that_goes():
    for mode, known in (
        ("subsample", {None, "style predicts the winner"}),
        ("match", {None, "its prompt has pairs of more like style"}),
    ):
        found = balance_style(*styled_prompts(1000), mode=mode)
        assert set(found.reasons) <= known | {"style predicts the winner"}
        assert [reason is None for reason in found.reasons] == found.keep.tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 19])
def test_balance_style_of_few_pairs_keeps_all_and_says_that_it_cannot_tell(count):
    found = balance_style(*styled_pairs(count, 1.0))
    assert found.keep.shape == (count,) and found.keep.all()
    assert found.reached is None and found.before.probe.pairs == count


def test_balance_style_of_one_prompt_cannot_tell():
    found = balance_style(*styled_pairs(40, 1.0, pairs_of_prompt=40))
    assert found.keep.all() and found.reached is None


@pytest.mark.parametrize(
    ("changes", "message"), [({"mode": "matching"}, "Did you mean 'match'"), ({"target": 0.5}, "target=0.5")]
)
def test_balance_style_wrong_setting_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        balance_style(*styled_pairs(4, 0.5), **changes)


def test_balance_style_wrong_lengths_and_keys_are_refused():
    chosen, rejected, groups, keys = styled_pairs(4, 0.5)
    with pytest.raises(ValueError, match="4 rows"):
        balance_style(chosen, rejected[:3], groups, keys)
    with pytest.raises(ValueError, match="twice"):
        balance_style(chosen, rejected, groups, ["a", "a", "b", "c"])
