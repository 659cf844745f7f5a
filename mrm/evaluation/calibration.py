"""Whether a reward difference means what Bradley and Terry say: sigmoid of the difference is the chance that the first response is better.

A pair has no first response of its own, so the model's side is taken: its confidence is sigmoid(|difference|), in [0.5, 1], and it is
right where the preferred response has the higher reward. Pure functions. Dimension letters: P pairs, B bins, D draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mrm.evaluation.bootstrap import AT_ONCE
from mrm.evaluation.drawn_parts import equal_cuts, part_sums, rows_within, sums_before

Array = np.ndarray
BINS = 10
CALIBRATED_DRAWS = 1000
FLATTEST, STEEPEST = 1e-3, 1e3  # factors that rewards are multiplied by at most


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of about the same confidence.

    Args:
        pairs: how many.
        confidence: their mean confidence, in [0.5, 1].
        accuracy: the share on which the model is right; a tie is half right, as its confidence of 0.5 says.
    """

    pairs: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy lie apart.

    Args:
        pairs: P.
        error: expected calibration error (ECE): the mean over pairs of |confidence - accuracy| of their bin.
        brier: mean squared difference of confidence and being right.
        log_loss: mean -log sigmoid(difference), in nats; log 2 is knowing nothing.
        factor: what rewards are to be multiplied by for the smallest log loss; below 1, the model is too sure. At an end of
            [0.001, 1000] where it grows without end (all pairs right) or nothing is known.
        log_loss_at_factor: the loss then.
        bins: of about equal numbers of pairs, by rising confidence; pairs of equal confidence share one.
    """

    pairs: int
    error: float
    brier: float
    log_loss: float
    factor: float
    log_loss_at_factor: float
    bins: tuple[ReliabilityBin, ...]


def calibration(difference: Array, bins: int = BINS) -> Calibration | None:
    """Compares confidence with accuracy.

    Args:
        difference: float [P], reward of the preferred response minus that of the other; finite.
        bins: at most so many; fewer where there are fewer pairs, or few confidences.

    Returns:
        None of no pairs.
    """
    difference = np.asarray(difference, np.float64)
    if not len(difference):
        return None
    confidence, right = confidences(difference)
    found = tuple(
        ReliabilityBin(len(part), float(confidence[part].mean()), float(right[part].mean()))
        for part in _binned(confidence, right, bins)
    )
    error = sum(each.pairs * abs(each.confidence - each.accuracy) for each in found) / len(difference)
    factor = best_factor(difference)
    return Calibration(
        len(difference),
        float(error),
        float(np.mean(np.square(confidence - right))),
        log_loss(difference),
        factor,
        log_loss(factor * difference),
        found,
    )


def confidences(difference: Array) -> tuple[Array, Array]:
    """(float64 [P], float64 [P]): the confidence in each pair, from 0.5 to 1, and whether it is right: 0.5 of a tie."""
    return sigmoid(np.abs(difference)), 0.5 + 0.5 * np.sign(difference)


def resampled_error(confidence: Array, right: Array, times: Array, bins: int = BINS) -> Array:
    """float64 [D]: the `error` of `calibration` for each draw of the pairs, its bins made anew.

    Args:
        confidence, right: float [P], of `confidences`, by rising confidence.
        times: float [D, P], how often each pair is drawn: whole numbers, at least one pair a draw.
        bins: as of `calibration`.
    """
    steps = np.diff(confidence)
    assert (steps >= 0).all(), "pairs come by rising confidence"
    # Pairs of equal confidence stay together: values, each with its first pair, and the pairs' number behind the last.
    first = np.concatenate([[0], np.flatnonzero(steps) + 1, [len(confidence)]])
    until = np.cumsum(times.astype(np.int64), axis=1)
    if len(first) <= len(confidence):
        until = until[:, first[1:] - 1]
    cuts = equal_cuts(until[:, -1], bins)[:, 1:-1]
    # A value that a cut goes through belongs to the bin behind it where the middle one of its pairs does.
    value = rows_within(until, cuts)
    begin, end = sums_before(until, value), sums_before(until, np.minimum(value + 1, until.shape[1]))
    value += (end > begin) & (begin + (end - begin - 1) // 2 < cuts)
    edge = np.zeros((len(times), 1), np.int64)
    bounds = np.concatenate([edge, first[value], edge + len(confidence)], axis=1)
    return np.abs(part_sums(times, confidence - right, bounds)).sum(axis=1) / until[:, -1]


def error_if_calibrated(difference: Array, *, seed: int, draws: int = CALIBRATED_DRAWS, bins: int = BINS) -> Array:
    """float64 [D]: the `error` of a model with the same confidences that is calibrated, as often as it is drawn.

    The accuracy of a bin lies off its confidence by chance alone, the further the fewer pairs it has: the error is
    never 0. Each pair is drawn right with its confidence as the chance, by itself; a tie stays half right. Of pairs that
    are right and wrong together, such as those of one sample, a bin has less to go by than it has pairs: what is drawn
    here is then too low.

    Args:
        difference: float [P], at least one pair.
        seed: of the draws.
        draws: D.
        bins: as of `calibration`.
    """
    confidence, right = confidences(np.asarray(difference, np.float64))
    random, error = np.random.default_rng(seed), np.zeros(draws)
    for part in _binned(confidence, right, bins):
        own = confidence[part]
        ties, decided = (own == 0.5).sum() / 2, own[own > 0.5]
        for start in range(0, draws, block := max(1, AT_ONCE // max(len(decided), 1))):
            size = min(block, draws - start)
            drawn = random.random((size, len(decided)), np.float32) < decided
            error[start : start + size] += np.abs(np.count_nonzero(drawn, axis=1) + ties - own.sum())
    return error / len(confidence)


def _binned(confidence: Array, right: Array, bins: int) -> list[Array]:
    """Numbers of the pairs of each bin, by rising confidence; which pairs those are does not depend on the pairs' order.

    Equal parts of the sorted pairs, but equal confidences stay together, in the part that the middle one of them falls into:
    cut apart, they would be told from each other by nothing but their order.
    """
    order = np.lexsort((right, confidence))
    cuts = np.cumsum([len(part) for part in np.array_split(order, min(bins, len(order)))])
    _, starts, counts = np.unique(confidence[order], return_index=True, return_counts=True)
    part_of = np.repeat(np.searchsorted(cuts, starts + (counts - 1) // 2, side="right"), counts)
    return np.split(order, np.flatnonzero(np.diff(part_of)) + 1)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 + 0.5 * np.tanh(np.asarray(x, np.float64) / 2)


def log_loss(difference: Array) -> float:
    """Mean of -log sigmoid(difference), in nats."""
    return float(np.logaddexp(0, -difference).mean())


def best_factor(difference: Array) -> float:
    """The factor in [0.001, 1000] that makes the log loss of the multiplied differences smallest, to 1 part in a million.

    The loss is convex in the factor: its slope is followed to 0 by bisection.
    """

    def slope(factor: float) -> float:
        return float(np.mean(-difference * (1 - sigmoid(factor * difference))))

    low, high = math.log(FLATTEST), math.log(STEEPEST)
    if slope(FLATTEST) >= 0:
        return FLATTEST
    if slope(STEEPEST) <= 0:
        return STEEPEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp((low + high) / 2)
