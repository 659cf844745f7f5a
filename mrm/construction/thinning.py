"""Leaving out pairs of a side that is ahead: the arithmetic of `balance.py`. Pure.

Dimension letters: P pairs, F features.
"""

from __future__ import annotations

import math

import numpy as np

from mrm.construction.style import Array

_STRATUM = 400  # pairs at least: with fewer, a side is ahead by chance and pairs go for nothing
_MOST_STRATA = 20


def thin(values: Array, order: Array, share: float) -> Array:
    """[P] bool: which pairs stay when, among those of values of like size, no sign may have more than a share.

    Args:
        values: [P] what is said about each pair; its sign for whom, its size how strongly. Zeros stay.
        order: [P] different numbers; of the sign with too many, those with the smallest stay.
        share: in [0.5, 1).
    """
    keep = np.ones(len(values), bool)
    stratum = _strata(np.abs(values))
    for number in range(int(stratum.max(initial=-1)) + 1):
        more, less = (np.flatnonzero((stratum == number) & (sign * values > 0)) for sign in (1, -1))
        if len(more) < len(less):
            more, less = less, more
        allowed = math.floor(share / (1 - share) * len(less) + 1e-9)
        keep[more[np.argsort(order[more])][allowed:]] = False
    return keep


def _strata(sizes: Array) -> Array:
    """[P] number of each size's stratum, by rising size: about as many in each, equal sizes together; -1 for zeros."""
    known = np.sort(sizes[sizes > 0])
    count = min(max(len(known) // _STRATUM, 1), _MOST_STRATA)
    bounds = np.unique(known[[len(known) * i // count for i in range(1, count)]]) if len(known) else known
    return np.where(sizes > 0, np.searchsorted(bounds, sizes, side="right"), -1)


def share_ahead(values: Array) -> float:
    """Share of the more frequent sign among values that aren't zero; 0.5 without any."""
    more, less = int((values > 0).sum()), int((values < 0).sum())
    return max(more, less) / (more + less) if more + less else 0.5


def leaning(x: Array, limit: float, deviations: float) -> list[int]:
    """The features that go with winning or losing.

    Args:
        x: [P, F] differences in style.
        limit: share of the more frequent sign, from which on.
        deviations: and beyond chance, in so many standard deviations.
    """
    found = []
    for feature, values in enumerate(x.T):
        differing = int((values != 0).sum())
        if differing and share_ahead(values) > max(limit, 0.5 + deviations / 2 / math.sqrt(differing)) + 1e-9:
            found.append(feature)
    return found
