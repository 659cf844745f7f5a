import numpy as np
import pytest

from mrm.evaluation.placement import place_bias

FIRST = np.array([True, True, False, False])


def test_place_bias_by_hand():
    """Pair 0 right in both orders; pair 1 follows the first place; pair 2 wrong in both; pair 3 tied, then right."""
    found = place_bias(np.array([1.0, 1, -1, 0]), np.array([1.0, -1, -1, 1]), FIRST)
    assert (found.pairs, found.consistent, found.given, found.swapped) == (4, 0.25, 0.5, 0.5)
    assert found.same_image == 0.5  # pairs 0 and 2
    # For the first place: pair 0 yes, then no; pair 1 yes, yes; pair 2 yes, then no; pair 3 undecided, then
    # (the preferred one came first after the swap) yes.
    assert found.first_image == pytest.approx(5 / 7)


@pytest.mark.parametrize(("sign", "first"), [(1, 1.0), (-1, 0.0)])
def test_place_bias_of_a_model_that_sees_places_only(sign, first):
    given = np.where(FIRST, 1.0, -1.0) * sign
    found = place_bias(given, -given, FIRST)
    assert (found.consistent, found.same_image, found.first_image) == (0.0, 0.0, first)


def test_place_bias_of_nothing_is_none():
    assert place_bias(np.zeros(0), np.zeros(0), np.zeros(0, bool)) is None
