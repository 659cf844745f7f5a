"""How many labels of a pool are wrong, told from the scores alone, with the error of the estimate.

A model that ranks pairs contradicts a label for two reasons: the label is wrong, or the model is. The model is wrong mostly where it
is unsure, wrong labels are everywhere. So what it still contradicts where it is sure is noise. As a psychometric
function with a lapse rate (Wichmann and Hill 2001), over the margin m = |strength|:

    P(label agrees with the model | m) = e + (1 - 2 e) * sigmoid(k m)

e, the share of wrong labels, in [0, 0.5], and k > 0, how much sense the model's margins make, are fitted by maximum likelihood; the
standard error is that of the observed information, k being unknown too. Of a pair's label then
P(wrong | strength s) = sigmoid(logit(e) - k s).

What it assumes, and what follows where that fails:
- The model hasn't been trained on the pool's labels. One that has memorised them agrees with the wrong ones: too low.
- Where the model is surest it is right. A model that is confidently wrong about a share l of all pairs (overconfidence, heavy
  tails of its errors, a style that it was taught to like) adds that share: it reads e + l - 2 e l, too high.
- Labels are wrong as often where the model is sure as where it isn't. If close pairs are mislabelled more often: too low,
  since the rate is that among the sure ones. Noise that goes with style is no harm as such, only where the model errs by style too.
- The model ranks at least some 0.64 of the pairs right. A worse one over clean labels and a good one over labels of which nearly
  half are wrong look alike; what scores a pool is taken for the good one.
- 0.5 is as bad as it gets. Labels that are wrong more often than right look like a bad model. Where the fit is hardly likelier than
  labels and model that agree by chance alone, nothing is known: half of the labels may be wrong, or the model may know nothing.

Dimensions: P pairs, B bins, K slopes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mrm.errors import CurationError

MIN_PAIRS = 50
BINS = 512  # of equal size; a million pairs then cost as much as five hundred
LOG_SLOPES = (-0.7, 7.0)  # natural logarithm of k times the median margin: 0.64 of the pairs ranked right, to a step
GRID, REFINEMENTS, HALVINGS = 17, 8, 50
BY_CHANCE = 7.88  # twice the gain in log-likelihood over chance, which 1 in 100 pools of 2,000 coin flips passes, and 1 in 300 of 200
NO_ERROR = 1 / math.sqrt(48)  # the error of knowing nothing but that a rate lies between 0 and 0.5


@dataclass(frozen=True)
class NoiseEstimate:
    """The estimated share of wrong labels.

    Args:
        rate: e, in [0, 0.5]; NaN where it cannot be told.
        error: its standard error; NaN with it.
        slope: k, 1 / unit of the strengths; NaN with it.
        pairs: of how many pairs it was made: those with a finite strength.
        reason: why it cannot be told; "" where it can.
        by_chance: whether it cannot be told since model and labels agree no more than by chance: then nothing says which are wrong.
    """

    rate: float
    error: float
    slope: float
    pairs: int
    reason: str = ""
    by_chance: bool = False

    @property
    def known(self) -> bool:
        return not self.reason


def estimate_noise(strength: np.ndarray) -> NoiseEstimate:
    """Estimates how many labels are wrong.

    Args:
        strength: float[P], (score of chosen - score of rejected) under the labels as they are; NaN is left out.
            The order of the pairs makes no difference, not even in the last digit.

    Returns:
        The estimate; unknown, with the reason, for a pool too small, without margins of different size, without a contradicted
        label, or where model and labels agree no more than by chance.
    """
    strength = np.asarray(strength, np.float64)
    strength = strength[np.isfinite(strength)]
    margins = np.abs(strength)
    pairs, against = len(strength), int((strength < 0).sum())
    if pairs < MIN_PAIRS:
        return _unknown(pairs, f"{pairs} pairs are too few to tell it from, at least {MIN_PAIRS} are needed")
    if margins.min() == margins.max():
        return _unknown(pairs, "all margins are equal, so sure and unsure pairs cannot be told apart")
    if against == 0:
        return _unknown(pairs, "no label is contradicted")
    scale = float(np.median(margins[margins > 0]))
    margin, agree, contradict = _binned(strength / scale)
    rate, slope = _fit(margin, agree, contradict)
    error = _error(margin, agree, contradict, rate, slope)
    if _gain(margin, agree, contradict, rate, slope) < BY_CHANCE or not error < NO_ERROR:
        told = f"model and labels agree too little ({1 - against / pairs:.1%} of the pairs) for their number"
        return NoiseEstimate(math.nan, math.nan, math.nan, pairs, told, by_chance=True)
    return NoiseEstimate(rate, error, slope / scale, pairs)


def wrong_probability(strength: np.ndarray, estimate: NoiseEstimate) -> np.ndarray:
    """How likely each label is wrong, given what the model says of it.

    Args:
        strength: float[P], under the labels as they are.
        estimate: of the pool that they are from.

    Returns:
        float64[P], falling with the strength, e at strength 0; NaN where the strength isn't finite or the estimate unknown.
    """
    strength = np.asarray(strength, np.float64)
    finite = np.isfinite(strength)
    with np.errstate(divide="ignore"):
        prior = np.log(estimate.rate) - np.log1p(-estimate.rate)
    return np.where(finite, _sigmoid(prior - estimate.slope * np.where(finite, strength, 0.0)), np.nan)


def expected_share(strength: np.ndarray, estimate: NoiseEstimate) -> float:
    """The share of the negative pairs that is expected to be wrong: how many of them to distrust.

    Args:
        strength: float[P], under the labels as they are; NaN is left out.
        estimate: of the pool that they are from.

    Returns:
        In [0, 1]; 0 where no pair is negative.

    Raises:
        CurationError: if there are negatives and the estimate is unknown.
    """
    strength = np.asarray(strength, np.float64)
    negative = np.sort(
        strength[(strength < 0) & np.isfinite(strength)]
    )  # sorted: a sum that the pairs' order doesn't change
    if len(negative) == 0:
        return 0.0
    if not estimate.known:
        raise CurationError(
            f"the share of wrong labels cannot be estimated: {estimate.reason}. Give distrust_share as a number, 0.5 as released,"
            " instead of letting the estimated noise set it."
        )
    return float(np.clip(wrong_probability(negative, estimate).mean(), 0.0, 1.0))


def _unknown(pairs: int, reason: str) -> NoiseEstimate:
    return NoiseEstimate(math.nan, math.nan, math.nan, pairs, reason)


def _binned(strength: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean margin float64[B], agreeing pairs, contradicted pairs), of bins by margin; equal margins share a bin. Ties are no vote."""
    strength = strength[strength != 0]
    order = np.argsort(np.abs(strength), kind="stable")
    margins, positive = np.abs(strength)[order], strength[order] > 0
    edges = margins[np.linspace(0, len(margins), BINS, endpoint=False).astype(np.int64)]
    starts = np.unique(np.searchsorted(margins, edges))
    sizes = np.diff(np.append(starts, len(margins)))
    agree = np.add.reduceat(positive.astype(np.int64), starts).astype(np.float64)
    return np.add.reduceat(margins, starts) / sizes, agree, sizes - agree


def _fit(margin: np.ndarray, agree: np.ndarray, contradict: np.ndarray) -> tuple[float, float]:
    """(e, k) of the largest likelihood: over a grid of slopes that is drawn closer, the best rate for each."""
    low, high = LOG_SLOPES
    for _ in range(REFINEMENTS):
        grid = np.linspace(low, high, GRID)
        right = _sigmoid(np.exp(grid)[:, None] * margin)
        wrong = _sigmoid(-np.exp(grid)[:, None] * margin)  # 1 - right, without rounding to 0
        rates = _best_rates(right, wrong, agree, contradict)
        p = rates[:, None] * wrong + (1 - rates[:, None]) * right
        q = rates[:, None] * right + (1 - rates[:, None]) * wrong
        likelihood = (agree * np.log(p) + contradict * np.log(np.maximum(q, 1e-300))).sum(axis=1)
        best = int(likelihood.argmax())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    return float(rates[best]), float(np.exp(grid[best]))


def _gain(margin: np.ndarray, agree: np.ndarray, contradict: np.ndarray, rate: float, slope: float) -> float:
    """Twice the gain in log-likelihood over coin flips, e = 0.5: a likelihood-ratio statistic."""
    right, wrong = _sigmoid(slope * margin), _sigmoid(-slope * margin)
    p, q = rate * wrong + (1 - rate) * right, rate * right + (1 - rate) * wrong
    return float(2 * (agree * np.log(2 * p) + contradict * np.log(np.maximum(2 * q, 1e-300))).sum())


def _best_rates(right: np.ndarray, wrong: np.ndarray, agree: np.ndarray, contradict: np.ndarray) -> np.ndarray:
    """float64[K]: the likeliest e in [0, 0.5] for each slope. The likelihood is concave in e: its derivative is halved in."""
    low, high = np.zeros(len(right)), np.full(len(right), 0.5)
    for _ in range(HALVINGS):
        rate = ((low + high) / 2)[:, None]
        p, q = rate * wrong + (1 - rate) * right, rate * right + (1 - rate) * wrong
        rises = ((right - wrong) * (contradict / np.maximum(q, 1e-300) - agree / p)).sum(axis=1) > 0
        low, high = np.where(rises, rate[:, 0], low), np.where(rises, high, rate[:, 0])
    return (low + high) / 2


def _error(margin: np.ndarray, agree: np.ndarray, contradict: np.ndarray, rate: float, slope: float) -> float:
    """Standard error of e, from the observed information of (e, log k).

    A steeper k means a higher rate, at most 0.5, and none is flatter than the flattest allowed: the spread of that range is the
    most that an unknown k can add, and stands for it where the fit lies at its edge or the information has no peak.
    """
    right, wrong, x = _sigmoid(slope * margin), _sigmoid(-slope * margin), slope * margin
    p, q = rate * wrong + (1 - rate) * right, np.maximum(rate * right + (1 - rate) * wrong, 1e-300)
    bend = right * wrong * x
    by_rate, by_slope = wrong - right, (1 - 2 * rate) * bend
    first, second = agree / p - contradict / q, agree / p**2 + contradict / q**2
    of_rate = (second * by_rate**2).sum()
    flattest = np.exp(LOG_SLOPES[:1])[:, None] * margin
    lowest = _best_rates(_sigmoid(flattest), _sigmoid(-flattest), agree, contradict)[0]
    widest = math.hypot(1 / math.sqrt(of_rate), (0.5 - lowest) / math.sqrt(3))
    if math.log(slope) < LOG_SLOPES[0] + 1e-3:
        return widest
    of_both = (second * by_rate * by_slope + first * 2 * bend).sum()
    of_slope = (second * by_slope**2 - first * (1 - 2 * rate) * bend * (1 + (wrong - right) * x)).sum()
    left = (
        of_rate - of_both**2 / of_slope if of_slope > 1e-9 * len(margin) else of_rate
    )  # a step: any steep slope is as good
    return min(1 / math.sqrt(left), widest) if left > 0 else widest


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)
