import numpy as np
import pytest

from mrm.curation.trajectories import area_under_margin
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
