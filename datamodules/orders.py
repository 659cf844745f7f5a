"""The order of an epoch's samples, by name: pure functions, to which a curriculum is added in a few lines.

An order says which sample comes before which. `plan.py` cuts the sequence into windows, groups each window by length and
mixes its steps; an order that is to be felt (`in_sequence`) keeps the windows where it put them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Order:
    """One way to go through an epoch.

    Args:
        arrange: (strength float [E] of the epoch's entries, NaN where unknown; generator) -> int64 [E], the entries'
            numbers in the order to see them.
        by_strength: whether it looks at strengths: where none is known it would have no effect, and is refused.
        in_sequence: whether steps stay in it; False mixes them over the whole epoch once more.
    """

    arrange: Callable[[Array, np.random.Generator], Array]
    by_strength: bool
    in_sequence: bool


def shuffled(strength: Array, rng: np.random.Generator) -> Array:
    """Any order, each as likely as the other."""
    return rng.permutation(len(strength))


def easy_first(strength: Array, rng: np.random.Generator) -> Array:
    """From clear preferences to close ones; equal strengths shuffled, unknown ones where the median of the known is."""
    known = strength[~np.isnan(strength)]
    middle = float(np.median(known)) if len(known) else 0.0
    mixed = rng.permutation(len(strength))
    return mixed[np.argsort(-np.nan_to_num(strength[mixed], nan=middle), kind="stable")]


ORDERS = {
    "shuffled": Order(shuffled, by_strength=False, in_sequence=False),
    "easy_first": Order(easy_first, by_strength=True, in_sequence=True),
}
