"""Intervals: of a mean over a few seeds by Student's t, of any statistic over many samples by the bootstrap, and of a
share that all samples have alike, whose draws would tell nothing.

Pure functions of arrays. Dimension letters: N samples, D draws, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mrm.evaluation.bootstrap import ALIKE, AT_ONCE, common_share, per_group, resampled_ratios

LEVEL = 0.95
DRAWS = 10_000
HALVINGS = 200  # of the angle that a quantile is looked for in; a float is settled after 60 or so

Array = np.ndarray
Statistic = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Interval:
    """A figure and how sure it is.

    Args:
        n: how many values it is of: seeds, or samples.
        estimate: the figure.
        low, high: ends of the interval; None where one value tells nothing of its spread.
        spread: standard deviation of the values (by n - 1), or of the bootstrap's draws; None as the ends.
    """

    n: int
    estimate: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None

    @property
    def excludes_zero(self) -> bool | None:
        """Whether 0 lies outside; None without an interval."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high

    @property
    def half_width(self) -> float | None:
        """Half the interval's length; None without one."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_central(t: float, df: int) -> float:
    """P(|T| <= t) of Student's t with a whole number of degrees of freedom: Abramowitz and Stegun, 26.7.3 and 26.7.4.

    Args:
        t: at least 0.
        df: degrees of freedom, at least 1.
    """
    assert df >= 1 and t >= 0, (t, df)
    return _central(math.atan(t / math.sqrt(df)), df)


def _central(theta: float, df: int) -> float:
    sine, cosine = math.sin(theta), math.cos(theta)
    total, term = 0.0, cosine if df % 2 else 1.0
    for k in range(2 + df % 2, df + 1, 2):  # of cos^(k - 2), until df - 2
        total += term
        term *= cosine * cosine * (k - 1) / k
    return 2 / math.pi * (theta + sine * total) if df % 2 else sine * total


def t_tail(t: float, df: int) -> float:
    """P(|T| > |t|): the two-sided p-value of a t statistic."""
    return 0.0 if math.isinf(t) else min(1.0, max(0.0, 1.0 - t_central(abs(t), df)))


def t_quantile(level: float, df: int) -> float:
    """The t with P(|T| <= t) = level, such as 12.706 of 0.95 with one degree of freedom.

    Args:
        level: in (0, 1).
        df: degrees of freedom, at least 1.
    """
    assert 0 < level < 1, level
    low, high = 0.0, math.pi / 2  # by the angle, whose range is bounded whatever t is
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _central(middle, df) < level else (low, middle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def mean_interval(values: Sequence[float] | Array, level: float = LEVEL) -> Interval:
    """The mean and its interval by Student's t; without ends where there is one value.

    Args:
        values: [N] finite numbers, at least one.
        level: of the interval.
    """
    given = np.asarray(values, float)
    assert given.ndim == 1 and len(given) and np.isfinite(given).all(), values
    mean = float(given.mean())
    if len(given) == 1:
        return Interval(1, mean)
    spread = float(given.std(ddof=1))
    half = t_quantile(level, len(given) - 1) * spread / math.sqrt(len(given))
    return Interval(len(given), mean, mean - half, mean + half, spread)


def weighted_mean(values: Array, weights: Array) -> Array:
    """The statistic that the bootstrap has by default: the mean of [N] values under [D, N] weights, [D]."""
    return weights @ values / weights.sum(axis=1)


def bootstrap_draws(
    values: Sequence[float] | Array,
    statistic: Statistic = weighted_mean,
    *,
    seed: int,
    draws: int = DRAWS,
    clusters: Sequence[object] | Array | None = None,
) -> Array:
    """The statistic of samples drawn with replacement, float64 [D]; of K figures [D, K], all of the same draws.

    Args:
        values: [N, ...], a row a sample; paired figures are rows of differences, or of several columns.
        statistic: (values, [D, N] how often each row is drawn) -> [D] or [D, K]. A row may be in no draw of a block.
        seed: of the draws; the same gives the same.
        draws: D.
        clusters: [N] what rows belong together, such as pairs of one prompt: they are drawn together. None draws each by itself.
    """
    given = np.asarray(values, float)
    assert given.ndim >= 1 and len(given) and draws >= 1, (given.shape, draws)
    of_row, count = _clusters(clusters, len(given))
    random = np.random.default_rng(seed)
    if statistic is weighted_mean and given.ndim == 1:
        return resampled_ratios(*per_group(given, of_row), draws=draws, rng=random)
    block = max(1, AT_ONCE // max(len(given), count))
    parts = []
    for start in range(0, draws, block):
        chosen = random.integers(count, size=(min(block, draws - start), count))
        times = np.stack([np.bincount(row, minlength=count) for row in chosen])  # 8 times as fast as multinomial
        parts.append(
            np.asarray(statistic(given, (times[:, of_row] if count < len(given) else times).astype(float)), float)
        )
    return np.concatenate(parts)


def _clusters(clusters: Sequence[object] | Array | None, rows: int) -> tuple[Array, int]:
    """[N] each row's cluster by number, and how many there are."""
    if clusters is None:
        return np.arange(rows), rows
    names, of_row = np.unique(np.asarray(clusters), return_inverse=True)
    assert len(of_row) == rows, "a cluster a row"
    if len(names) == rows:
        return np.arange(rows), rows  # whichever of them has which number
    return of_row, len(names)


def bootstrap_interval(
    values: Sequence[float] | Array,
    statistic: Statistic = weighted_mean,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    clusters: Sequence[object] | Array | None = None,
) -> Interval:
    """The percentile bootstrap interval of a statistic over samples.

    Args:
        values, statistic, seed, draws, clusters: as of `bootstrap_draws`.
        level: of the interval.

    Returns:
        n counts samples, or clusters where they are given; without ends where there is one of them.
    """
    given = np.asarray(values, float)
    whole = np.asarray(statistic(given, np.ones((1, len(given)))), float)
    n = len(given) if clusters is None else len(np.unique(np.asarray(clusters)))
    if n == 1:
        return Interval(1, float(whole[0]))
    made = bootstrap_draws(given, statistic, seed=seed, draws=draws, clusters=clusters)
    return percentile_interval(n, float(whole[0]), made, level)


def accuracy_interval(
    right: Sequence[float] | Array,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    clusters: Sequence[object] | Array | None = None,
) -> Interval:
    """The interval of a share, such as an accuracy: by bootstrap, or `alike_ends` where all clusters have the same share.

    Args:
        right: [N] in [0, 1].
        seed, draws, level, clusters: as of `bootstrap_interval`.
    """
    given = np.asarray(right, float)
    of_row, count = _clusters(clusters, len(given))
    share = common_share(*per_group(given, of_row))
    if share is not None:
        return Interval(count, share, *alike_ends(share, count, level))
    return bootstrap_interval(given, seed=seed, draws=draws, level=level, clusters=clusters)


def ends_of_spread(found: Interval) -> Interval:
    """The interval, without ends where its draws are all alike: such draws tell nothing of how sure the figure is.

    Args:
        found: of a figure about as large as a share, a difference of shares or a correlation.
    """
    spreads = found.spread is not None and found.spread > ALIKE
    return found if spreads else Interval(found.n, found.estimate)


def alike_ends(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Ends of an interval of the mean share, where all n units that were drawn have the same one.

    That units have it by a chance of p shows in all n by p ** n, which is (1 - level) / 2 at p = ((1 - level) / 2) ** (1 / n).
    So many have it at least, and the rest may have any, from 0 to 1. Of a share of 0 or 1 this is the exact binomial interval
    (Clopper and Pearson, 1934).

    Args:
        share: in [0, 1].
        n: units, at least 1.
        level: of the interval, in (0, 1).
    """
    assert 0 <= share <= 1 and n >= 1 and 0 < level < 1, (share, n, level)
    reach = ((1 - level) / 2) ** (1 / n)
    return share * reach, share * reach + (1 - reach)


def percentile_interval(n: int, estimate: float, made: Array, level: float = LEVEL) -> Interval:
    """The interval that [D] draws of a statistic give.

    Draws in which there is no figure, NaN, are left out; where they are more than 1 - level, there are no ends.

    Args:
        n: samples or clusters that were drawn from.
        estimate: the statistic of the sample itself.
        made: of `bootstrap_draws`.
        level: of the interval.
    """
    some = made[~np.isnan(made)]
    if len(some) < level * len(made):
        return Interval(n, estimate)
    low, high = np.quantile(some, [(1 - level) / 2, (1 + level) / 2])
    spread = float(some.std(ddof=1)) if len(some) > 1 else None
    return Interval(n, estimate, float(low), float(high), spread)
