"""How good a round was, where the truth is known: label noise before and after, precision and recall of its flips.

For reporting only: the truth never reaches the policy.
"""

from __future__ import annotations

import numpy as np

UNKNOWN = -1


def noise(truth: np.ndarray, flipped: np.ndarray, rows: np.ndarray) -> float | None:
    """The share of wrong labels among some pairs.

    Args:
        truth: int8[P], 1 where the published label is wrong, 0 where it is right, -1 unknown.
        flipped: bool[P], whether the label in use is the opposite of the published one.
        rows: bool[P], the pairs to look at.

    Returns:
        In [0, 1], over the pairs of known truth; None if there is none.
    """
    known = rows & (truth != UNKNOWN)
    return float(wrong_labels(truth, flipped)[known].mean()) if known.any() else None


def flip_quality(
    truth: np.ndarray, flipped_before: np.ndarray, selected: np.ndarray, pool: np.ndarray
) -> tuple[float | None, float | None]:
    """Precision and recall of the labels that a round distrusted, against the labels that were wrong before it.

    Args:
        truth: int8[P], as in `noise`.
        flipped_before: bool[P], the labels in use before the round.
        selected: bool[P], the pairs whose label the round overturned.
        pool: bool[P], the pairs it could have chosen from.

    Returns:
        (share of the selected that were wrong, share of the wrong that were selected); None where the divisor is 0.
    """
    wrong, known = wrong_labels(truth, flipped_before), truth != UNKNOWN
    hits = int((selected & wrong & known).sum())
    chosen, all_wrong = int((selected & known).sum()), int((pool & wrong & known).sum())
    return (hits / chosen if chosen else None), (hits / all_wrong if all_wrong else None)


def settled(
    truth: np.ndarray, flipped: np.ndarray, active: np.ndarray, rows: np.ndarray
) -> tuple[float | None, float | None]:
    """What became of the labels that were published wrong, and of those that were published right.

    Args:
        truth: int8[P], as in `noise`.
        flipped: bool[P], whether the label in use is the opposite of the published one.
        active: bool[P], pairs in use.
        rows: bool[P], the pairs to look at.

    Returns:
        (share of the wrong ones that are not in use as published: mended, dropped or waiting; share of the right ones that are
        not in use as published: turned, dropped or waiting); None where there is none.
    """
    as_published = active & ~flipped
    wrong, right = rows & (truth == 1), rows & (truth == 0)
    mended = 1 - float(as_published[wrong].mean()) if wrong.any() else None
    lost = 1 - float(as_published[right].mean()) if right.any() else None
    return mended, lost


def wrong_labels(truth: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """bool[P]: the label in use is wrong. False where the truth is unknown: mask with `truth != UNKNOWN`."""
    return (truth != UNKNOWN) & ((truth == 1) != flipped)
