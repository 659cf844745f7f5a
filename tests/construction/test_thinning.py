"""Leaving out pairs of a side that is ahead, worked out by hand."""

import numpy as np
import pytest

from mrm.construction.thinning import leaning, share_ahead, thin


def test_thin_keeps_of_the_favoured_side_what_the_other_allows():
    # Three against one: at a share of 0.5 one may stay, of 2/3 two; the first in order do. The zero stays.
    values, order = np.array([1.0, 1.0, 1.0, -1.0, 0.0]), np.array([4, 0, 1, 2, 3])
    assert thin(values, order, 0.5).tolist() == [False, True, False, True, True]
    assert thin(values, order, 2 / 3).tolist() == [False, True, True, True, True]
    assert thin(values, order, 0.75).all()


def test_thin_of_swapped_signs_is_the_same():
    rng = np.random.default_rng(0)
    values, order = rng.normal(0.3, 1, 2000), rng.permutation(2000)
    assert (thin(values, order, 0.5) == thin(-values, order, 0.5)).all()


def test_thin_balances_every_size():
    rng = np.random.default_rng(0)
    sizes = np.repeat([1.0, 2.0], 2000)
    # Small values are right in 60 %, large ones in 90 %.
    values = np.where(rng.random(4000) < np.where(sizes == 1, 0.6, 0.9), sizes, -sizes)
    keep = thin(values, np.arange(4000), 0.5)
    for size in (1.0, 2.0):
        left = values[keep & (sizes == size)]
        assert (left > 0).sum() == (left < 0).sum() == (values == -size).sum()


def test_thin_of_nothing_is_nothing():
    assert thin(np.zeros(0), np.zeros(0, int), 0.5).shape == (0,)


@pytest.mark.parametrize(("values", "share"), [([1, 1, -1, 0], 2 / 3), ([-1, -1, -1, 1], 3 / 4), ([0], 0.5), ([], 0.5)])
def test_share_ahead_does_not_count_zeros(values, share):
    assert share_ahead(np.array(values)) == share


def test_leaning_is_beyond_the_limit_and_beyond_chance():
    # 70 of 100, 7 of 10 (0.2 above 1/2 is 1.3 standard deviations), 54 of 100, and the first the other way round.
    x = np.zeros((100, 4))
    x[:, 0] = np.where(np.arange(100) < 70, 1, -1)
    x[:10, 1] = np.where(np.arange(10) < 7, 1, -1)
    x[:, 2] = np.where(np.arange(100) < 54, 1, -1)
    x[:, 3] = -x[:, 0]
    assert leaning(x, 0.55, deviations=3) == [0, 3]
    assert leaning(x, 0.55, deviations=1) == [0, 1, 3]
    assert leaning(x, 0.71, deviations=1) == []
