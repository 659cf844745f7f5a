"""Sums over parts of drawn rows, against the rows copied out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.drawn_parts import equal_cuts, part_sums, rows_within, sums_before


@given(st.integers(0, 60), st.integers(1, 12))
def test_equal_cuts_are_those_of_array_split(total: int, parts: int) -> None:
    expected = [len(part) for part in np.array_split(np.arange(total), parts)]
    assert np.diff(equal_cuts(np.array([total]), parts)).tolist() == [expected]


def test_rows_within_and_sums_before_by_hand() -> None:
    """Rows drawn 2, 0, 1 and 1 times: 2, 2, 3 and 4 until each. Two copies are rows 0 and 1, one is no whole row."""
    until = np.cumsum([[2, 0, 1, 1]], axis=1)
    rows = rows_within(until, np.array([[0, 1, 2, 3, 4]]))
    assert rows.tolist() == [[0, 0, 2, 3, 4]] and sums_before(until, rows).tolist() == [[0, 0, 2, 3, 4]]


def test_part_sums_by_hand_also_of_parts_without_a_row() -> None:
    times, column = np.array([[2.0, 0, 1], [1, 1, 1]]), np.array([1.0, 10, 100])
    bounds = np.array([[0, 1, 1, 3], [0, 0, 2, 3]])
    assert part_sums(times, column, bounds).tolist() == [[2, 0, 100], [0, 11, 100]]
    assert part_sums(times, column, np.array([[0, 3, 3], [3, 3, 3]])).tolist() == [[102, 0], [0, 0]]
