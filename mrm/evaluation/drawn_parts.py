"""Sums over parts of sorted rows, for draws of a bootstrap: rows are not copied, it is said how often each was drawn.

Pure functions. Dimension letters: N rows, D draws, B parts.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def equal_cuts(total: Array, parts: int) -> Array:
    """int64 [D, B + 1]: where the parts begin and end that `np.array_split` makes of so many rows.

    Args:
        total: int64 [D], at least 0.
        parts: B; where there are fewer rows, as many parts have one and the others none.
    """
    number = np.arange(parts + 1)
    return total[:, None] // parts * number + np.minimum(total[:, None] % parts, number)


def rows_within(until: Array, counts: Array) -> Array:
    """int64 [D, B]: how many rows, with all their copies, lie within the first so many drawn ones.

    Args:
        until: int64 [D, N], running sums of how often each row is drawn.
        counts: int64 [D, B].
    """
    return np.stack([np.searchsorted(row, count, side="right") for row, count in zip(until, counts, strict=True)])


def sums_before(until: Array, rows: Array) -> Array:
    """[D, B]: of running sums [D, N], what the first [D, B] rows come to."""
    return np.where(rows > 0, np.take_along_axis(until, np.maximum(rows - 1, 0), axis=1), 0)


def part_sums(times: Array, column: Array, bounds: Array) -> Array:
    """float64 [D, B]: sums of a column over the rows from each bound to the next, each row as often as it is drawn.

    Args:
        times: float [D, N].
        column: float [N].
        bounds: int [D, B + 1], rising, in [0, N].
    """
    terms = np.empty((len(times), len(column) + 1))  # one more, so that a bound at the end is a place too
    terms[:, -1] = 0
    np.multiply(times, column, out=terms[:, :-1])
    places = bounds + np.arange(len(times))[:, None] * terms.shape[1]
    sums = np.add.reduceat(terms.ravel(), places.ravel()).reshape(bounds.shape)[:, :-1]
    return np.where(np.diff(bounds, axis=1) > 0, sums, 0.0)  # of an empty part, `reduceat` gives the row at its bound
