import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.curation.policy import distrusted
from mrm.curation.trajectories import area_under_margin, distrusted_by_margin
from mrm.errors import CurationError

NAN = np.nan


def test_area_under_margin_is_the_mean_over_the_times_seen():
    area = area_under_margin(np.array([6.0, -3.0, 0.0, 5.0, NAN]), np.array([3, 2, 0, 0, 4]))
    np.testing.assert_array_equal(area, [2.0, -1.5, NAN, NAN, NAN])


def test_area_under_margin_counts_that_cannot_be_are_refused():
    with pytest.raises(CurationError, match="one shape"):
        area_under_margin(np.zeros(2), np.zeros(3, int))
    with pytest.raises(CurationError, match="negative, found -1"):
        area_under_margin(np.zeros(2), np.array([1, -1]))


def test_distrusted_by_margin_judges_the_label_in_use_and_never_the_unseen():
    sums, count = np.array([-8.0, 6.0, -2.0, -9.0, 4.0]), np.array([4, 2, 2, 0, 1])
    # as published -2, 3, -1, unseen, 4; the second is flipped: -3. Of three negatives the most negative one.
    flipped = np.array([False, True, False, False, False])
    assert distrusted_by_margin(sums, count, flipped).tolist() == [False, True, False, False, False]
    assert distrusted_by_margin(sums, count, flipped, 1.0).tolist() == [True, True, True, False, False]


seen = st.lists(st.tuples(st.sampled_from([-4.0, -1.0, 0.0, 2.0, NAN]), st.integers(0, 3), st.booleans()), max_size=20)


@given(seen, st.sampled_from([0.3, 0.5, 1.0]))
def test_distrusted_by_margin_ranks_as_by_strength_and_mirrors(rows, share):
    sums, count, flipped = (np.array([row[i] for row in rows], dtype) for i, dtype in enumerate((float, int, bool)))
    selected = distrusted_by_margin(sums, count, flipped, share)
    strength = np.array([NAN if n == 0 else s / n * (-1 if f else 1) for s, n, f in rows], float)
    np.testing.assert_array_equal(selected, distrusted(strength, share))
    np.testing.assert_array_equal(selected, distrusted_by_margin(-sums, count, ~flipped, share))
    assert not selected[count == 0].any()
