"""Orders and their inverse as properties; the measured bias worked out by hand."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.order import position_bias, shown_order, shuffle, unshuffle


@given(st.integers(1, 8), st.integers(), st.text(), st.text(), st.integers(0, 3))
def test_shown_order_is_a_permutation_and_the_same_again(n, seed, key, judge, repeat):
    order = shown_order(n, seed, key, judge, repeat)
    assert sorted(order) == list(range(n))
    assert order == shown_order(n, seed, key, judge, repeat)


@given(st.integers(2, 6), st.integers(0, 99), st.text(max_size=5))
def test_shown_order_first_asking_is_never_the_given_order(n, seed, key):
    assert shown_order(n, seed, key, "judge") != tuple(range(n))


def test_shown_order_is_the_same_on_every_machine():
    assert [shown_order(4, 0, "key", "judge", repeat) for repeat in range(3)] == [
        (1, 3, 2, 0),
        (2, 1, 3, 0),
        (3, 0, 2, 1),
    ]


def test_shown_order_two_responses_are_exchanged_then_as_given():
    assert [shown_order(2, 5, "k", "j", repeat) for repeat in range(4)] == [(1, 0), (0, 1), (1, 0), (0, 1)]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_shown_order_repeats_show_every_order_once(n):
    orders = [shown_order(n, 0, "k", "j", repeat) for repeat in range(math.factorial(n))]
    assert set(orders) == set(itertools.permutations(range(n)))


def test_shown_order_is_uniform_over_keys():
    counts = Counter(shown_order(3, 0, f"key-{number}", "judge") for number in range(5000))
    assert len(counts) == 5
    # Chi-squared with 4 degrees of freedom exceeds 18.5 once in a thousand.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 18.5


@pytest.mark.parametrize("changes", [{"seed": 1}, {"key": "other"}, {"judge": "other"}])
def test_shown_order_depends_on_seed_key_and_judge(changes):
    fields = {"seed": 0, "key": "key", "judge": "judge"}
    assert shown_order(8, **fields) != shown_order(8, **{**fields, **changes})


@pytest.mark.parametrize(("n", "repeat"), [(0, 0), (2, -1)])
def test_shown_order_impossible_is_refused(n, repeat):
    with pytest.raises(ValueError, match="order needs"):
        shown_order(n, 0, "k", "j", repeat)


def test_unshuffle_by_hand():
    assert shuffle(["a", "b", "c"], (2, 0, 1)) == ["c", "a", "b"]
    assert unshuffle([9, 5, 7], (2, 0, 1)) == [5, 7, 9]


@given(st.permutations(range(6)), st.lists(st.integers(), min_size=6, max_size=6))
def test_unshuffle_turns_shuffle_back(order, values):
    assert unshuffle(shuffle(values, order), order) == values
    assert shuffle(unshuffle(values, order), order) == values


@pytest.mark.parametrize("order", [(0, 0), (1, 2), (0,), (0, 1, 2)])
def test_unshuffle_what_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="not a permutation"):
        unshuffle([1, 2], order)


def test_position_bias_by_hand():
    # First shown: response 1 (8, wins), response 0 (5, loses), response 1 (ties with 0: half).
    bias = position_bias([(1, 0), (0, 1), (1, 0)], [(6.0, 8.0), (5.0, 9.0), (7.0, 7.0)], ["a", "b", "c"])
    assert bias.calls == 3 and bias.left_out == 0
    assert bias.first_wins == pytest.approx((1 + 0 + 0.5) / 3)
    assert bias.expected == 0.5
    assert bias.mean_by_place == pytest.approx(((8 + 5 + 7) / 3, (6 + 9 + 7) / 3))
    assert bias.calls_by_place == (3, 3)
    assert bias.low < 0.5 < bias.high
    assert bias.repeated == 0 and math.isnan(bias.changed)


def test_position_bias_different_numbers_of_responses_expect_the_mean_of_their_chances():
    bias = position_bias([(1, 0), (2, 0, 1, 3)], [(1.0, 2.0), (1.0, 2.0, 9.0, 3.0)], ["a", "b"])
    assert bias.expected == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert bias.first_wins == 1.0
    assert bias.calls_by_place == (2, 2, 1, 1)


def test_position_bias_asked_in_two_orders_counts_changed_winners():
    orders = [(1, 0), (0, 1)] * 3 + [(1, 0), (1, 0)]
    overalls = [(5.0, 6.0), (6.0, 5.0)]  # the first place wins twice: changed
    overalls += [(5.0, 6.0), (5.0, 6.0)]  # the same winner
    overalls += [(6.0, 6.0), (5.0, 6.0)]  # a tie, then one of the two: half
    overalls += [(6.0, 5.0), (5.0, 6.0)]  # the same order: not counted
    bias = position_bias(orders, overalls, ["a", "a", "b", "b", "c", "c", "d", "d"])
    assert bias.repeated == 3
    assert bias.changed == pytest.approx((1 + 0 + 0.5) / 3)
    assert 0 <= bias.changed_low < bias.changed < bias.changed_high <= 1


def test_position_bias_leaves_out_and_counts_what_has_no_comparison():
    bias = position_bias([(1, 0), (0,), (1, 0)], [(None, 8.0), (5.0,), (1.0, 2.0)], ["a", "b", "c"])
    assert (bias.calls, bias.left_out) == (1, 2)


def test_position_bias_of_nothing_is_nan():
    bias = position_bias([], [], [])
    assert bias.calls == 0 and math.isnan(bias.first_wins) and bias.mean_by_place == ()


def test_position_bias_a_judge_that_always_prefers_the_first_is_found():
    orders = [shown_order(3, 0, str(number), "j") for number in range(300)]
    overalls = [unshuffle([8.0, 5.0, 5.0], order) for order in orders]
    bias = position_bias(orders, overalls, [str(number) for number in range(300)])
    assert bias.first_wins == 1.0 and bias.low > 0.9 > bias.expected
