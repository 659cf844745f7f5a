"""Detection by the whole of the training instead of its end: the area under the margin.

Source: Pleiss et al. 2020, arXiv 2001.10528. A wrong label is learnt late and against what the other pairs teach, so the margin
of its pair, averaged over the times that training saw it, stays low even where the trained model has memorised it in the end.

Both responses of a pair are seen as often, so the area is also the difference of their mean scores: a score pass like any other,
by which the rules of `policy.py` decide. Dimension: P pairs, or responses.
"""

from __future__ import annotations

import numpy as np

from mrm.errors import CurationError


def area_under_margin(margin_sum: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean margin over the times that a pair was seen.

    Args:
        margin_sum: float[P], sum of the margins (score of chosen - score of rejected), or of a response's scores.
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
