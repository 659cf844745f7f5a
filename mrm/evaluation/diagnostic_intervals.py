"""How sure the figures of a diagnosis are: 95 % intervals by bootstrap over samples, whose pairs are drawn together.

A share that is the same in all samples has the ends of `alike_ends`. Another figure whose draws are all alike has no ends: they tell
nothing of it. Pure functions. Dimension letters: P pairs, D draws.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrm.evaluation.bootstrap import common_share, per_group, resampled_ratios
from mrm.evaluation.calibration import Calibration, confidences, error_if_calibrated, resampled_error
from mrm.evaluation.intervals import (
    Interval,
    accuracy_interval,
    alike_ends,
    bootstrap_draws,
    ends_of_spread,
    percentile_interval,
)
from mrm.evaluation.position import PositionBias, first_image_decisions, right_in_both, same_image
from mrm.evaluation.shortcuts import LengthControl, log_ratio, resampled_correlations, resampled_length_control

Array = np.ndarray
DRAWS = 2000  # of the bootstrap, a figure
DRAWN, FEWEST = 10**8, 500  # where many pairs are drawn, fewer draws: of 10 ** 8 pairs they take seconds


def draws_for(pairs: int) -> int:
    """Draws of a statistic that goes through all pairs in each."""
    return min(DRAWS, max(FEWEST, DRAWN // pairs))


def style_intervals(
    found: LengthControl,
    correlations: Mapping[str, float | None],
    difference: Array,
    length: Array,
    features: Mapping[str, Array],
    sample: Array,
    *,
    seed: int,
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """(`accuracy`, `longer` and `shorter` of length control, each feature's correlation), of those that there are.

    Args:
        found: of the pairs. correlations: feature -> correlation.
        difference, length: as `length_control` takes them.
        features: feature -> its differences, float [P].
        sample: [P].
        seed: of the bootstrap; the accuracy and the correlations have the same draws.
    """
    ratio, right = log_ratio(length), (difference > 0).astype(float)
    order = np.argsort(np.abs(ratio), kind="stable")
    columns = np.stack([ratio, right, difference, *features.values()], axis=1)[order]

    def statistic(values: Array, times: Array) -> Array:
        accuracy = resampled_length_control(values[:, 0], values[:, 1], times)
        return np.stack([accuracy, *resampled_correlations(values[:, 2], values[:, 3:], times).T], axis=1)

    made = bootstrap_draws(columns, statistic, seed=seed, draws=draws_for(len(order)), clusters=sample[order])
    by_length = {} if found.accuracy is None else {"accuracy": _interval(sample, found.accuracy, made[:, 0])}
    for name, which in (("longer", ratio > 0), ("shorter", ratio < 0)):
        if which.any():
            by_length[name] = accuracy_interval(right[which], seed=seed, draws=DRAWS, clusters=sample[which])
    by_feature = {
        name: _interval(sample, value, made[:, number])
        for number, name in enumerate(features, start=1)
        if (value := correlations[name]) is not None
    }
    return by_length, by_feature


def position_intervals(
    found: PositionBias,
    given: Array,
    swapped: Array,
    first_preferred: Array,
    sample: Array,
    *,
    seed: int,
) -> dict[str, Interval]:
    """Of every share of `PositionBias` that there is.

    Args:
        found: of the pairs.
        given, swapped, first_preferred: as `position_bias` takes them.
        sample: [P].
        seed: of the bootstrap.
    """
    shares = {
        "consistent": right_in_both(given, swapped),
        "given": given > 0,
        "swapped": swapped > 0,
        "same_image": same_image(given, swapped),
    }
    made = {
        name: accuracy_interval(share.astype(float), seed=seed, draws=DRAWS, clusters=sample)
        for name, share in shares.items()
    }
    if found.first_image is not None:
        first, decided = (
            per_group(column, sample)[0] for column in first_image_decisions(given, swapped, first_preferred)
        )
        some = decided > 0
        share, n = common_share(first[some], decided[some]), int(some.sum())
        if share is not None:
            made["first_image"] = Interval(n, found.first_image, *alike_ends(share, n))
        else:
            ratios = resampled_ratios(first, decided, draws=DRAWS, rng=np.random.default_rng(seed))
            made["first_image"] = _interval(sample, found.first_image, ratios)
    return made


def calibration_intervals(found: Calibration, difference: Array, sample: Array, *, seed: int) -> dict[str, Interval]:
    """Of `error`, and as `error_if_calibrated` what it would be of a calibrated model and as many independent pairs.

    The first leans upwards, more than the error itself: each draw has fewer different pairs, and more chance in its
    bins. The second is the mean for a model with the same confidences, and where 95 % of such models lie. It holds where
    each pair is a sample of its own: an error beyond is then more than chance. How far pairs of a sample hang together
    is not known and not drawn, so that it is too low where samples have several pairs: an error beyond may then be
    chance all the same. Where all pairs are of one sample there is none.

    Args:
        found: of the pairs.
        difference: float [P].
        sample: [P].
        seed: of the bootstrap.
    """
    confidence, right = confidences(difference)
    order = np.argsort(confidence, kind="stable")

    def statistic(values: Array, times: Array) -> Array:
        return resampled_error(values[:, 0], values[:, 1], times)

    columns = np.stack([confidence, right], axis=1)[order]
    errors = bootstrap_draws(columns, statistic, seed=seed, draws=draws_for(len(order)), clusters=sample[order])
    made = {"error": _interval(sample, found.error, errors)}
    if made["error"].n > 1:
        chance = error_if_calibrated(difference, seed=seed)
        made["error_if_calibrated"] = ends_of_spread(percentile_interval(found.pairs, float(chance.mean()), chance))
    return made


def _interval(sample: Array, estimate: float, made: Array) -> Interval:
    return ends_of_spread(percentile_interval(len(np.unique(sample)), estimate, made))
