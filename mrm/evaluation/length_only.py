"""The baseline that reads nothing: the longer response wins.

A model that does not beat it may have learned length. Length is in characters; where both are equally long a coin would be tossed, so
that half a pair is right. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LONGER, EQUAL, SHORTER = 1.0, 0.5, 0.0


def length_only(chosen: Sequence[str | None], rejected: Sequence[str | None]) -> Array:
    """float64 [N]: 1 where the chosen response is the longer one, 0.5 where both are equally long, else 0; NaN without texts."""
    return np.array([_longer(one, other) for one, other in zip(chosen, rejected, strict=True)], np.float64)


def _longer(chosen: str | None, rejected: str | None) -> float:
    if chosen is None or rejected is None:
        return float("nan")
    if len(chosen) == len(rejected):
        return EQUAL
    return LONGER if len(chosen) > len(rejected) else SHORTER
