"""Whether a reward difference means what Bradley and Terry say: sigmoid of the difference is the chance that the first response is better.

A pair has no first response of its own, so the model's side is taken: its confidence is sigmoid(|difference|), in [0.5, 1], and it is
right where the preferred response has the higher reward. Pure functions. Dimension letters: P pairs, B bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
BINS = 10
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
        error: expected calibration error: the mean over pairs of |confidence - accuracy| of their bin.
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
    confidence = sigmoid(np.abs(difference))
    right = 0.5 + 0.5 * np.sign(difference)
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
