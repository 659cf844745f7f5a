"""Tests of differences between two models that were measured on the same seeds, or on the same samples. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrm.evaluation.intervals import (
    DRAWS,
    LEVEL,
    Array,
    Interval,
    bootstrap_draws,
    mean_interval,
    percentile_interval,
    t_tail,
)

ROUNDING = 1e-6  # of a figure: runs log theirs in 32 bits, whose rounding is 6e-8


@dataclass(frozen=True)
class PairedTest:
    """A mean difference, its interval, and the p-value of no difference (two-sided).

    Args:
        interval: of the mean difference, first minus second.
        p: None where it cannot be had; `unknown` says why.
        unknown: why there is no p-value; empty where there is one.
    """

    interval: Interval
    p: float | None
    unknown: str = ""


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models' right and wrong answers on the same samples.

    Args:
        only_first, only_second: the discordant counts, samples that only the one has right.
        exact: p-value of the binomial test. mid: its mid-p, which is less timid: only half of the observed table counts.
    """

    only_first: int
    only_second: int
    exact: float
    mid: float


def paired_t(first: Sequence[float] | Array, second: Sequence[float] | Array, level: float = LEVEL) -> PairedTest:
    """The mean of first - second with its t interval, for the same seeds in the same order.

    Args:
        first, second: [N] finite numbers, at least one.
        level: of the interval.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    interval = mean_interval(difference, level)
    if interval.spread is None:
        return PairedTest(interval, None, "one shared seed")
    scale = max(float(np.abs(first).max()), float(np.abs(second).max()))
    if interval.spread <= ROUNDING * scale:  # of rounding alone
        if abs(interval.estimate) <= ROUNDING * scale:
            return PairedTest(Interval(interval.n, 0.0, 0.0, 0.0, 0.0), 1.0)
        # Equal by coarseness (one sample more is 1/N), so the spread of zero is no evidence of certainty.
        return PairedTest(Interval(interval.n, interval.estimate), None, "all seeds differ by the same")
    t = interval.estimate / (interval.spread / math.sqrt(interval.n))
    return PairedTest(interval, t_tail(t, interval.n - 1))


def paired_bootstrap(
    first: Sequence[float] | Array,
    second: Sequence[float] | Array,
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
    clusters: Sequence[object] | Array | None = None,
) -> PairedTest:
    """The mean of first - second over samples, drawn again with replacement, each sample with both its figures.

    The p-value is twice the smaller share of draws on one side of 0, draws at 0 on both, with one draw added: it is never 0.

    Args:
        first, second: [N] figures of the same samples in the same order: 0 and 1, or means over seeds.
        seed, draws, level, clusters: as of `bootstrap_interval`.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    n = len(difference) if clusters is None else len(np.unique(np.asarray(clusters)))
    if n == 1:
        return PairedTest(Interval(1, float(difference.mean())), None, "one sample")
    made = bootstrap_draws(difference, seed=seed, draws=draws, clusters=clusters)
    return difference_test(n, float(difference.mean()), made, level, differing=differing(difference, clusters))


def differing(difference: Array, clusters: Sequence[object] | Array | None = None) -> int:
    """In how many samples, or clusters of them, [N] differences are not 0."""
    if clusters is None:
        return int((difference != 0).sum())
    _, of_row = np.unique(np.asarray(clusters), return_inverse=True)
    return int((np.abs(np.bincount(of_row, difference)) > ROUNDING).sum())


def difference_test(n: int, estimate: float, made: Array, level: float = LEVEL, *, differing: int) -> PairedTest:
    """Interval and p-value of a difference by bootstrap draws of it, of any statistic.

    Args:
        n: samples or clusters that were drawn from.
        estimate: the difference itself.
        made: [D] draws.
        level: of the interval.
        differing: how many of the n differ at all. Of few, all one way, every draw lies on one side, which is no evidence: that k signs are
            alike has the chance 2 ** (1 - k), below which the p-value never is.
    """
    below, above = int((made <= 0).sum()), int((made >= 0).sum())
    p = min(1.0, max(2 * (min(below, above) + 1) / (len(made) + 1), 2.0 ** (1 - differing)))
    return PairedTest(percentile_interval(n, estimate, made, level), p)


def mcnemar(first: Sequence[bool] | Array, second: Sequence[bool] | Array) -> McNemar:
    """McNemar's test, exact and mid-p (Fagerland, Lydersen and Laake 2013).

    Args:
        first, second: [N] which samples the models have right, in the same order.
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    assert one.shape == other.shape and one.ndim == 1, (one.shape, other.shape)
    b, c = int((one & ~other).sum()), int((~one & other).sum())
    n, k = b + c, min(b, c)
    if n == 0:
        return McNemar(0, 0, 1.0, 1.0)
    masses = _binomial_masses(n, k)
    below = float(masses.sum() - masses[-1])
    at = float(masses[-1])
    return McNemar(b, c, min(1.0, 2 * (below + at)), min(1.0, 2 * below + at))


def _binomial_masses(n: int, k: int) -> Array:
    """P(X = 0), ..., P(X = k) of n tosses of a fair coin, [k + 1]."""
    whole = math.lgamma(n + 1) - n * math.log(2)
    logs = [whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    return np.exp(np.array(logs))


def holm(p_values: Sequence[float] | Array) -> Array:
    """Holm's adjusted p-values, [N] in the order given: comparing each with alpha keeps the chance of any false finding below alpha."""
    given = np.asarray(p_values, float)
    order = np.argsort(given, kind="stable")
    factors = len(given) - np.arange(len(given))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return adjusted
