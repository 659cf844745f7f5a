"""Detection by the whole of the training instead of its end: the area under the margin.

Source: Pleiss et al. 2020, arXiv 2001.10528. A wrong label is learnt late and against what the other pairs teach, so the margin
of its pair, averaged over the times that training saw it, stays low even where the trained model has memorised it in the end.

Margins are (score of chosen - score of rejected) in the published orientation, whatever was trained on; the rule turns
them to the orientation in use. Dimension: P pairs.
"""

from __future__ import annotations

import numpy as np

from mrm.curation.policy import TieBreak, distrusted
from mrm.errors import CurationError


def area_under_margin(margin_sum: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean margin over the times that a pair was seen.

    Args:
        margin_sum: float[P], sum of the margins.
        count: int[P], how often each was seen.

    Returns:
        float64[P]; NaN where a pair was never seen or its sum isn't finite.

    Raises:
        CurationError: if the shapes differ or a count is negative.
    """
    margin_sum, count = np.asarray(margin_sum, np.float64), np.asarray(count)
    if margin_sum.shape != count.shape:
        raise CurationError(
            f"sums of margins {margin_sum.shape} and counts {count.shape} must have one shape, [pairs]."
        )
    if (count < 0).any():
        raise CurationError(f"how often a pair was seen cannot be negative, found {count.min()}.")
    known = (count > 0) & np.isfinite(margin_sum)
    return np.where(known, margin_sum, np.nan) / np.maximum(count, 1)


def distrusted_by_margin(
    margin_sum: np.ndarray,
    count: np.ndarray,
    flipped: np.ndarray,
    share: float = 0.5,
    tie_break: TieBreak | None = None,
) -> np.ndarray:
    """`distrusted` with the area under the margin in the place of the strength: the most negative of the negative ones.

    Args:
        margin_sum, count: as of `area_under_margin`.
        flipped: bool[P], whether the label in use is the opposite of the published one.
        share, tie_break: as of `distrusted`.

    Returns:
        bool[P]; never a pair that was never seen.
    """
    area = area_under_margin(margin_sum, count)
    return distrusted(np.where(flipped, -area, area), share, tie_break)
