import numpy as np
import pytest

from mrm.evaluation.position import first_image_decisions, position_bias

FIRST = np.array([True, True, False, False])


def test_position_bias_by_hand():
    """Pair 0 right in both orders; pair 1 follows the first place; pair 2 wrong in both; pair 3 tied, then right."""
    found = position_bias(np.array([1.0, 1, -1, 0]), np.array([1.0, -1, -1, 1]), FIRST)
    assert (found.pairs, found.consistent, found.given, found.swapped) == (4, 0.25, 0.5, 0.5)
    assert found.same_image == 0.5  # pairs 0 and 2
    # For the first place: pair 0 yes, then no; pair 1 yes, yes; pair 2 yes, then no; pair 3 undecided, then
    # (the preferred one came first after the swap) yes.
    assert found.first_image == pytest.approx(5 / 7)


@pytest.mark.parametrize(("sign", "first"), [(1, 1.0), (-1, 0.0)])
def test_position_bias_of_a_model_that_sees_places_only(sign, first):
    given = np.where(FIRST, 1.0, -1.0) * sign
    found = position_bias(given, -given, FIRST)
    assert (found.consistent, found.same_image, found.first_image) == (0.0, 0.0, first)


def test_position_bias_of_nothing_is_none():
    assert position_bias(np.zeros(0), np.zeros(0), np.zeros(0, bool)) is None


def test_first_image_decisions_by_hand_and_as_often_as_pairs_are_drawn():
    given, swapped, times = np.array([1.0, 1, -1, 0]), np.array([1.0, -1, -1, 1]), np.array([0, 2, 1, 3])
    first, decided = first_image_decisions(given, swapped, FIRST)
    assert (first.tolist(), decided.tolist()) == ([1, 2, 1, 1], [2, 2, 2, 1])
    copied = position_bias(*(np.repeat(column, times) for column in (given, swapped, FIRST)))
    assert copied.first_image == pytest.approx((times @ first) / (times @ decided))
