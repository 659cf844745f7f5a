"""Which pairs to leave out so that style no longer tells the winner, and as many as possible stay.

Pairs whose style speaks as strongly (the size of the probe's margin) stand in one stratum; there, of the side that style
favours, only so many stay as the other side allows. The probe is fitted again on what is left, until nothing new is found;
single features are held to the same. How many more of the favoured side may stay is found by trying.

If style names the winner of a share a of the pairs, the 1 - a whom it contradicts all stay, and target / (1 - target) times as
many of the others: (1 - a) / (1 - target) of the pairs in all, a third at a = 0.85 and target 0.55.

Dimension letters: P pairs, F features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mrm.construction.style import (
    FEATURES,
    Array,
    fit_style,
    style_differences,
)
from mrm.construction.style_figures import StyleFigures, StyleRuler
from mrm.construction.thinning import leaning, share_ahead, thin
from mrm.errors import ConfigError, suggest

STYLE_REASON = "style predicts the winner"
UNLIKE_REASON = "its prompt has pairs of more like style"
SUBSAMPLE, MATCH = "subsample", "match"
BALANCE_MODES = (SUBSAMPLE, MATCH)
LEAST_PAIRS = 20  # with fewer, the probe's accuracy is mostly chance and nothing can be told
# How far above 1/2 a probe's accuracy is on its own pairs with nothing to find, in square roots of features / pairs.
_SEEMING = 0.3
_ROUNDS = 8  # of fitting again; two or three are enough in practice
# A set may hold where one with fewer pairs does not, so that bisection alone would miss it.
_SHARES = (0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.59, 0.6, 0.625, 0.65)
_LIKEST = 3  # of a prompt's pairs, at most, that "match" looks for, beside all of them
_HALVINGS = 3  # between the best of these and the next


@dataclass(frozen=True, eq=False)
class StyleBalance:
    """Which pairs stay.

    Args:
        keep: [P] bool.
        reasons: [P] why a pair goes, STYLE_REASON or UNLIKE_REASON; None for one that stays.
        reached: whether the accuracy is at most the target in every folding and, where pairs went, that of the former
            probe within [1 - target, target]; None where too few pairs were given, or are left, to tell.
        before, after: the figures of all pairs, and of those that stay.
    """

    keep: Array
    reasons: tuple[str | None, ...]
    reached: bool | None
    before: StyleFigures
    after: StyleFigures


def balance_style(
    chosen: Array,
    rejected: Array,
    groups: Array,
    keys: Sequence[str],
    *,
    target: float = 0.55,
    mode: str = SUBSAMPLE,
    seed: int = 0,
    folds: int = 5,
    names: Sequence[str] = FEATURES,
) -> StyleBalance:
    """Chooses the pairs that stay.

    Args:
        chosen, rejected: [P, F] of `style_features`.
        groups: [P] number of each pair's prompt.
        keys: P different names of pairs; with the seed, they decide which of equal pairs go, whatever their order.
        target: the probe's accuracy at most, in (0.5, 1).
        mode: "subsample" keeps the most pairs; "match" keeps pairs of the most prompts, by looking only at the one, two
            or three pairs of each prompt that are most alike in style, or at all, whichever serves best.
        seed: of the choice and the foldings.
        folds: of the probe.
        names: F names.

    Raises:
        ConfigError: for an unknown mode or a target out of range.
        ValueError: where lengths differ or a key is there twice.
    """
    _check(target, mode, len(chosen), (rejected, groups, keys), keys)
    chosen, rejected, groups = (np.asarray(values) for values in (chosen, rejected, groups))
    chosen, rejected = (counts.reshape(-1, len(names)) for counts in (chosen, rejected))
    x = style_differences(chosen, rejected)
    ruler = StyleRuler.of(x, folds=folds, seed=seed, names=names)

    def figures(keep: Array) -> StyleFigures:
        return ruler.measure(chosen[keep], rejected[keep], groups[keep])

    keep = likest = np.ones(len(x), bool)
    before = after = figures(keep)
    if _can_tell(before) and (before.highest > target or leaning(x, target, deviations=3)):
        order = _order(keys, seed)
        looked_at = _likest(groups, ruler.distances(x), order) if mode == MATCH else [likest]
        found = [(*_search(x, order, target, figures, among), among) for among in looked_at]
        keep, after, likest = max(
            found, key=lambda f: (_holds(f[1], target), mode == MATCH and f[1].groups, f[0].sum())
        )
    reasons = [
        None if stays else STYLE_REASON if alike else UNLIKE_REASON for stays, alike in zip(keep, likest, strict=True)
    ]
    reached = after.highest <= target and bool(keep.all() or _former_is_near(after, target))
    return StyleBalance(keep, tuple(reasons), reached if _can_tell(after) else None, before, after)


_Figures = Callable[[Array], StyleFigures]


def _search(x: Array, order: Array, target: float, figures: _Figures, among: Array) -> tuple[Array, StyleFigures]:
    """Tries shares of a stratum that the favoured side may have; the most pairs that hold the target.

    What a probe seems to find on its own pairs is let pass first, and held to the share where that was too much. Where
    nothing holds, the smallest share is the answer.
    """
    tried: dict[float, tuple[Array, StyleFigures]] = {}
    for seeming in (_SEEMING, 0.0):
        tried.clear()

        def kept(share: float, seeming: float = seeming) -> int:
            if share not in tried:
                keep = _thinned(x, order, share, target, seeming, among)
                tried[share] = keep, figures(keep)
            keep, found = tried[share]
            return int(keep.sum()) if _holds(found, target) else -1

        best = max(_SHARES, key=kept)
        if kept(best) >= 0:
            break
    above = min((share for share in _SHARES if share > best), default=best)
    for _ in range(_HALVINGS):
        middle = (best + above) / 2
        if kept(middle) > kept(best):
            best = middle
        else:
            above = middle
    return tried[best]


def _thinned(x: Array, order: Array, share: float, target: float, seeming: float, among: Array) -> Array:
    """[P] bool: what is left of some when neither the probe nor a feature finds more than a share, in sample."""
    left = np.flatnonzero(among)
    for number in range(_ROUNDS):
        size = len(left)
        margin = fit_style(x[left]).margin(x[left])
        if share_ahead(margin) > share + 1e-9 + (seeming * math.sqrt(x.shape[1] / size) if number else 0.0):
            left = left[thin(margin, order[left], share)]
        for feature in leaning(x[left], min(share, target), deviations=2):
            left = left[thin(x[left, feature], order[left], min(share, target))]
        if len(left) in (0, size):
            break
    keep = np.zeros(len(x), bool)
    keep[left] = True
    return keep


def _can_tell(figures: StyleFigures) -> bool:
    return figures.probe.pairs >= LEAST_PAIRS and figures.groups >= 2


def _holds(figures: StyleFigures, target: float) -> bool:
    """Whether the target is reached, with something to spare where foldings differ: so that others hold as well."""
    spare = (figures.highest - figures.lowest) / 4
    return not _can_tell(figures) or (figures.highest + spare <= target and _former_is_near(figures, target))


def _former_is_near(figures: StyleFigures, target: float) -> bool:
    return 1 - target - 1e-9 <= figures.former <= target + 1e-9


def _order(keys: Sequence[str], seed: int) -> Array:
    """[P] rank of each pair by the digest of its key: the first stay."""
    digests = [hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest() for key in keys]
    return _ranks((np.frombuffer(b"".join(digests), np.uint64),))


def _likest(groups: Array, distance: Array, order: Array) -> list[Array]:
    """[P] bool each: the likest pair of every prompt, the two likest, ..., all."""
    ranks = _ranks((order, distance, groups))
    _, code, counts = np.unique(groups, return_inverse=True, return_counts=True)
    in_prompt = ranks - (np.cumsum(counts) - counts)[code]
    return [in_prompt < most for most in (*range(1, min(_LIKEST + 1, int(counts.max()))), int(counts.max()))]


def _ranks(columns: tuple[Array, ...]) -> Array:
    """[P] place of each row when sorted by the last column, then the one before it, ..."""
    ranks = np.empty(len(columns[0]), int)
    ranks[np.lexsort(columns)] = np.arange(len(ranks))
    return ranks


def _check(target: float, mode: str, pairs: int, others: tuple, keys: Sequence[str]) -> None:
    if mode not in BALANCE_MODES:
        raise ConfigError(f"mode={mode!r}: known are {', '.join(BALANCE_MODES)}.{suggest(mode, BALANCE_MODES)}")
    if not 0.5 < target < 1:
        raise ConfigError(f"target={target}: must be above 0.5, which is chance, and below 1.")
    if any(len(other) != pairs for other in others):
        raise ValueError(f"chosen has {pairs} rows, and rejected, groups and keys {[len(o) for o in others]}.")
    if len(set(keys)) != pairs:
        raise ValueError(
            "a key is there twice; name each pair once, so that the choice does not depend on their order."
        )
