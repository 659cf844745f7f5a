"""The longer response wins."""

from __future__ import annotations

import numpy as np

from mrm.evaluation.length_only import length_only


def test_length_only_longer_is_right_equal_is_half_and_no_text_unknown() -> None:
    found = length_only(["abc", "a", "ab", None, "甲乙丙"], ["ab", "ab", "cd", "x", "ab"])
    assert found[[0, 1, 2, 4]].tolist() == [1.0, 0.0, 0.5, 1.0] and np.isnan(found[3])
