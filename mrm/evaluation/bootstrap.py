"""Bootstrap of accuracies: how far a figure would move if other pairs (or groups of pairs) had been drawn.

Units are drawn with replacement: pairs, or groups of pairs that share a prompt and are not independent. Since a unit counts by its
number of right answers and its number of pairs only, drawing N units comes to drawing how often each of the few kinds of
unit occurs (a multinomial): the same distribution, without the array of draws x N that `intervals.bootstrap_draws` needs for a statistic
of any kind; a mean of samples is drawn so there too. Pure functions.

Dimension letters: U units, K kinds of unit, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SEED = 20_240
ALIKE = 1e-12  # shares, or draws of a figure about as large, that spread no more are all alike
AT_ONCE = 1 << 20  # numbers of a block of draws: 8 MB, near what a processor's cache holds


def resampled_ratios(right: Array, total: Array, *, draws: int, rng: np.random.Generator) -> Array:
    """float64 [B]: accuracy over as many units as there are, drawn with replacement; or another ratio of two sums.

    Args:
        right: [U] right answers of each unit; a half is one of two orders right.
        total: [U] pairs of each unit. Of a draw whose units have none there is no accuracy: NaN.
        draws: B.
        rng: where they come from.

    Raises:
        ValueError: without a unit.
    """
    if not len(right):
        raise ValueError("there is no unit to draw.")
    kinds, counts = np.unique(np.stack([right, total], axis=1).astype(np.float64), axis=0, return_counts=True)
    block, made = max(1, AT_ONCE // len(kinds)), []
    for start in range(0, draws, block):
        drawn = rng.multinomial(len(right), counts / len(right), size=min(block, draws - start)) @ kinds
        with np.errstate(invalid="ignore"):
            made.append(drawn[:, 0] / drawn[:, 1])
    return np.concatenate(made)


def resampled_mean_of_ratios(
    parts: Sequence[tuple[Array, Array]], *, draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The mean of several accuracies, each of whose units are drawn among themselves (stratified).

    Args:
        parts: (right, total) of each, as `resampled_ratios` takes them.
        draws: B.
        rng: where they come from.

    Returns:
        (float64 [B], float64 [B]): draws that the interval's lower end is to be taken from, and its upper end; the same
        ones where no accuracy is the same in all of its units.
    """
    both = [_for_both_ends(right, total, draws=draws, rng=rng) for right, total in parts]
    return np.mean([low for low, _ in both], axis=0), np.mean([high for _, high in both], axis=0)


def _for_both_ends(right: Array, total: Array, *, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws of an accuracy as `resampled_ratios` makes them; where all U units have the same one, those would be one number.

    Instead, what is drawn has the ends of `intervals.alike_ends`, whatever its level, as its percentiles: with u uniform in
    [0, 1], a share of u ** (1 / U) of all units, which is Beta(U, 1), has that accuracy, and the rest 0 for the lower end and 1
    for the upper one. Draws of lower ends, and of upper ones, may be summed with those of other accuracies ("melding": Fay,
    Proschan and Brittain, Biometrics 71, 2015).
    """
    share = common_share(right, total)
    if share is None:
        made = resampled_ratios(right, total, draws=draws, rng=rng)
        return made, made
    uniform = rng.permutation(np.linspace(0, 1, draws))  # a grid, so that of a lone category the ends are exact
    reach = uniform ** (1 / len(right))
    return share * reach, share * reach + (1 - reach)


def common_share(right: Array, total: Array) -> float | None:
    """The share that all units have alike, such as each right in one of two orders; None where they differ, or there are none.

    Args:
        right, total: [U] of each unit, how much of how many; `total` above 0.
    """
    shares = np.asarray(right, float) / total
    return float(shares[0]) if len(shares) and np.ptp(shares) <= ALIKE else None


def per_group(values: Array, groups: Array) -> tuple[Array, Array]:
    """(float64 [G] sums, float64 [G] numbers) of the values [N] by group [N], in the order of the groups' names."""
    _, codes = np.unique(groups, return_inverse=True)
    return np.bincount(codes, weights=values), np.bincount(codes).astype(np.float64)
