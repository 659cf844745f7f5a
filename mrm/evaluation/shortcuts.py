"""Whether a model goes by length and markup instead of content: accuracy where style helps, where it misleads, where it is silent.

Pure functions. Dimension letters: P pairs, D draws of a bootstrap, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrm.evaluation.drawn_parts import equal_cuts, part_sums, rows_within, sums_before

Array = np.ndarray
LENGTH_TOLERANCE = 0.1  # lengths within 10 % count as equal
MATCHED, AGREEING, OPPOSED, MIXED = STYLE_GROUPS = ("matched", "agreeing", "opposed", "mixed")
LENGTH_BINS = 5


def style_groups(length: Array, markup: Array) -> Array:
    """object [P]: how style stands to the preference, one of STYLE_GROUPS.

    The preferred response may be longer, shorter or as long (within LENGTH_TOLERANCE), and have more markup, less or as much. Style
    agrees where one of both is for it and none against it, opposes where it is the other way round; mixed is one for and one against.

    Args:
        length: [P, 2] characters of the preferred and the other response; at least 1.
        markup: [P, 2] pieces of markup (headers, list items, bold, code).
    """
    length, markup = np.asarray(length, np.float64), np.asarray(markup, np.float64)
    longer, shorter = length.max(axis=1), length.min(axis=1)
    alike = longer - shorter <= LENGTH_TOLERANCE * shorter + 1e-9  # lengths are whole: 11 to 10 is 10 % longer, no more
    by_length = np.where(alike, 0, np.sign(length[:, 0] - length[:, 1]))
    by_markup = np.sign(markup[:, 0] - markup[:, 1])
    against, both = np.minimum(by_length, by_markup) < 0, np.maximum(by_length, by_markup) > 0
    cases = [against & both, both, against]
    return np.select(cases, [MIXED, AGREEING, OPPOSED], MATCHED).astype(object)


@dataclass(frozen=True)
class LengthControl:
    """Length-controlled accuracy: accuracy with length taken out.

    Args:
        accuracy: mean over bins of like ratios of lengths, of the mean of both sides' accuracies: pairs whose preferred response is the
            longer one, and pairs whose other one is. Ties are wrong.
        pairs: in bins that have both sides.
        left_out: pairs of equal length, or in a bin that has one side only.
        longer, shorter: accuracy where the preferred response is longer, and where it is shorter; None without such pairs.
    """

    accuracy: float | None
    pairs: int
    left_out: int
    longer: float | None
    shorter: float | None


def length_control(difference: Array, length: Array, bins: int = LENGTH_BINS) -> LengthControl:
    """Accuracy as it would be if the longer response were the preferred one half of the time, whatever the ratio of lengths.

    Args:
        difference: float [P], reward of the preferred response minus that of the other.
        length: [P, 2] characters of both; at least 1.
        bins: of |log ratio|, with about as many pairs each.
    """
    ratio = log_ratio(length)
    right = (np.asarray(difference) > 0).astype(np.float64)
    unequal = np.flatnonzero(ratio != 0)
    parts = np.array_split(unequal[np.argsort(np.abs(ratio[unequal]), kind="stable")], min(bins, max(len(unequal), 1)))
    total, used = 0.0, 0
    for part in parts:
        longer, shorter = part[ratio[part] > 0], part[ratio[part] < 0]
        if len(longer) and len(shorter):
            total += len(part) * (right[longer].mean() + right[shorter].mean()) / 2
            used += len(part)
    return LengthControl(
        float(total / used) if used else None,
        used,
        len(ratio) - used,
        _mean(right[ratio > 0]),
        _mean(right[ratio < 0]),
    )


def log_ratio(length: Array) -> Array:
    """float64 [P]: log of the preferred response's length over the other's.

    Args:
        length: [P, 2], at least 1.
    """
    sides = np.asarray(length, np.float64)
    return np.log(sides[:, 0] / sides[:, 1])


def resampled_length_control(ratio: Array, right: Array, times: Array, bins: int = LENGTH_BINS) -> Array:
    """float64 [D]: the accuracy of `length_control` for each draw of the pairs, its bins made anew; NaN for none.

    Args:
        ratio: float [P], of `log_ratio`, by rising |ratio|.
        right: [P], 0 or 1.
        times: float [D, P], how often each pair is drawn: whole numbers.
        bins: as of `length_control`.
    """
    assert (np.diff(np.abs(ratio)) >= 0).all(), "pairs come by rising |ratio|"
    equal = int((ratio == 0).sum())
    times, longer, right = times[:, equal:], ratio[equal:] > 0, np.asarray(right[equal:], np.float64)
    if not len(longer):
        return np.full(len(times), np.nan)
    until = np.cumsum(times.astype(np.int64), axis=1)  # of whole numbers: seven times as fast
    cuts = equal_cuts(until[:, -1], bins)
    whole = rows_within(until, cuts)
    copies = cuts - sums_before(until, whole)  # of the pair that a cut goes through, those before it
    cut_through = np.minimum(whole, len(longer) - 1)

    def in_bins(column: Array) -> Array:
        return part_sums(times, column, whole) + np.diff(copies * column[cut_through], axis=1)

    size, of_longer = np.diff(cuts, axis=1), in_bins(longer.astype(np.float64))
    right_longer, right_shorter = in_bins(right * longer), in_bins(right * ~longer)
    both = (of_longer > 0) & (of_longer < size)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = (right_longer / of_longer + right_shorter / (size - of_longer)) / 2
        return np.where(both, size * accuracy, 0).sum(axis=1) / np.where(both, size, 0).sum(axis=1)


def within_prompt_correlation(reward_difference: Array, feature_difference: Array) -> float | None:
    """Correlation of reward and a feature over both responses of each pair, each measured from its pair's mean.

    Centred within the pair, what differs between prompts (a hard question, a long answer) plays no part; it does not depend on
    which response is named first.

    Args:
        reward_difference, feature_difference: float [P], first response minus second.

    Returns:
        In [-1, 1]; None where either never differs.
    """
    reward, feature = np.asarray(reward_difference, np.float64), np.asarray(feature_difference, np.float64)
    scale = float(np.sqrt(np.sum(reward**2) * np.sum(feature**2)))
    return float(np.clip(np.sum(reward * feature) / scale, -1.0, 1.0)) if scale > 0 else None


def resampled_correlations(reward_difference: Array, feature_differences: Array, times: Array) -> Array:
    """float64 [D, F]: `within_prompt_correlation` with each feature for each draw of the pairs; NaN for none.

    Args:
        reward_difference: float [P]. feature_differences: float [P, F].
        times: float [D, P], how often each pair is drawn.
    """
    reward, features = np.asarray(reward_difference, np.float64)[:, None], np.asarray(feature_differences, np.float64)
    sums = times @ np.concatenate([reward**2, reward * features, features**2], axis=1)
    together, alone = np.split(sums[:, 1:], 2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(together / np.sqrt(sums[:, :1] * alone), -1.0, 1.0)


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None
