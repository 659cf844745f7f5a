"""What a reward model goes by: accuracy by style, strength, source and image, and whether its differences mean what they say.

Pure functions over one table of pairs. Dimension letters: P pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mrm.evaluation.calibration import Calibration, calibration
from mrm.evaluation.diagnostic_intervals import DRAWS, calibration_intervals, position_intervals, style_intervals
from mrm.evaluation.intervals import Interval, accuracy_interval, bootstrap_interval, ends_of_spread
from mrm.evaluation.position import PositionBias, position_bias
from mrm.evaluation.shortcuts import (
    STYLE_GROUPS,
    LengthControl,
    length_control,
    log_ratio,
    style_groups,
    within_prompt_correlation,
)

Array = np.ndarray
STRENGTH_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class PairTable:
    """Scored pairs.

    Args:
        sample: int [P], number of each pair's sample; pairs of one are drawn together.
        source: object [P], its data set.
        strength: float [P], in [0, 1]; NaN where nobody knows.
        length: [P, 2] characters of the preferred and the other response. markup: [P, 2] their pieces of markup.
        statement: bool [P], pairs of statements about two images, about which length and markup say nothing.
        first_preferred: bool [P], of these, whether the preferred image is shown first.
        has_images: bool [P].
        difference: float [P], reward of the preferred response minus that of the other.
        without_images, others_images, swapped: float [P], the same without images, with another sample's images, and, of statements, with
            both images in the other order; NaN where that was not scored.
    """

    sample: Array
    source: Array
    strength: Array
    length: Array
    markup: Array
    statement: Array
    first_preferred: Array
    has_images: Array
    difference: Array
    without_images: Array
    others_images: Array
    swapped: Array

    def __len__(self) -> int:
        return len(self.difference)


@dataclass(frozen=True)
class AccuracyRow:
    """Accuracy over some of the pairs.

    Args:
        group, name: what pairs these are.
        pairs, ties: how many, and how many of them have equal rewards, which counts as wrong.
        accuracy: with its 95 % interval, of `accuracy_interval` over samples. None of no pairs.
    """

    group: str
    name: str
    pairs: int
    ties: int
    accuracy: Interval | None


@dataclass(frozen=True)
class ImageUse:
    """What the images do, over the pairs that were scored both ways.

    Args:
        change: what was changed: "removed" or "another sample's".
        pairs: that were scored both ways.
        given, changed: accuracy with the images given, and with the change, each with its interval as in AccuracyRow.
        gain: the first minus the second, with its interval: about 0 means that the images are not looked at, or not needed.
            Without ends where it is the same in all samples, which is no sign of either.
    """

    change: str
    pairs: int
    given: Interval
    changed: Interval
    gain: Interval


@dataclass(frozen=True)
class Diagnostics:
    """All figures.

    Args:
        pairs: P.
        rows: accuracies: all, by style, by strength, by source.
        length: length-controlled accuracy; None without pairs that length says something about.
        correlations: feature -> correlation with the reward within the prompt; None where either never differs.
        images: what images do.
        position: position bias; None where no pair was scored in both orders.
        calibration: None without pairs.
        intervals: of what stands above as bare numbers: part -> figure -> its interval, where it has one. `calibration`
            has `error_if_calibrated` too: what the error of a calibrated model would be with as many independent pairs, by
            chance alone; not where all pairs are of one sample.
        not_measured: what there is no figure of, and why.
    """

    pairs: int
    rows: tuple[AccuracyRow, ...]
    length: LengthControl | None
    correlations: dict[str, float | None]
    images: tuple[ImageUse, ...]
    position: PositionBias | None
    calibration: Calibration | None
    intervals: dict[str, dict[str, Interval]]
    not_measured: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON types."""
        return dataclasses.asdict(self)


def diagnose(table: PairTable, *, seed: int = 0, not_measured: Sequence[str] = ()) -> Diagnostics:
    """Draws all figures.

    Args:
        table: finite differences; at least one pair.
        seed: of the bootstrap.
        not_measured: reasons that the table does not know of.
    """
    reasons = list(not_measured)
    images = [use for name, values in _changes(table) if (use := _image_use(table, name, values, seed))]
    texts, swapped = ~table.statement, table.statement & np.isfinite(table.swapped)
    if not texts.any():
        reasons.append("style and length: all pairs are statements about two images.")
    if np.isnan(table.strength).all():
        reasons.append("accuracy by strength: no pair has one.")
    if not table.has_images.any():
        reasons.append("what the images do: no pair has any.")
    if not table.statement.any():
        reasons.append("position bias: no pair is a statement about two images.")
    length, correlations, style = _style(table, texts, seed)
    position, places = _position(table, swapped, seed)
    fit = calibration(table.difference)
    fits = calibration_intervals(fit, table.difference, table.sample, seed=seed) if fit else {}
    return Diagnostics(
        len(table),
        tuple(_rows(table, seed)),
        length,
        correlations,
        tuple(images),
        position,
        fit,
        {**style, "position": places, "calibration": fits},
        tuple(reasons),
    )


def _style(
    table: PairTable, texts: Array, seed: int
) -> tuple[LengthControl | None, dict[str, float | None], dict[str, dict[str, Interval]]]:
    """Length control and the correlations of the pairs that are texts, with their intervals."""
    difference, length, markup = table.difference[texts], table.length[texts], np.log1p(table.markup[texts])
    features = {"log length": log_ratio(length), "log (1 + markup)": markup[:, 0] - markup[:, 1]}
    correlations = {name: within_prompt_correlation(difference, feature) for name, feature in features.items()}
    if not texts.any():
        return None, correlations, {"length": {}, "correlations": {}}
    found = length_control(difference, length)
    of_length, of_features = style_intervals(
        found, correlations, difference, length, features, table.sample[texts], seed=seed
    )
    return found, correlations, {"length": of_length, "correlations": of_features}


def _position(table: PairTable, swapped: Array, seed: int) -> tuple[PositionBias | None, dict[str, Interval]]:
    given = table.difference[swapped], table.swapped[swapped], table.first_preferred[swapped]
    found = position_bias(*given)
    return found, {} if found is None else position_intervals(found, *given, table.sample[swapped], seed=seed)


def strength_bins(strength: Array, edges: Sequence[float] = STRENGTH_EDGES) -> tuple[Array, list[str]]:
    """(int [P], the bin of each strength, -1 where it is NaN; the bins' names). The last bin has its upper edge in it."""
    names = [f"{low:g} to {high:g}" for low, high in zip(edges, edges[1:], strict=False)]
    with np.errstate(invalid="ignore"):
        bins = np.clip(np.searchsorted(edges, strength, side="right") - 1, 0, len(names) - 1)
    return np.where(np.isnan(strength), -1, bins), names


def _rows(table: PairTable, seed: int) -> Iterator[AccuracyRow]:
    def row(group: str, name: str, which: Array) -> AccuracyRow:
        found = _accuracy(table.difference, table, which, seed) if which.any() else None
        return AccuracyRow(group, name, int(which.sum()), int((table.difference[which] == 0).sum()), found)

    yield row("all", "all pairs", np.ones(len(table), bool))
    texts = np.flatnonzero(~table.statement)
    if len(texts):
        style = np.full(len(table), None, object)
        style[texts] = style_groups(table.length[texts], table.markup[texts])
        yield from (row("style", name, style == name) for name in STYLE_GROUPS)
    bins, names = strength_bins(table.strength)
    if (bins >= 0).any():
        yield from (row("strength", name, bins == number) for number, name in enumerate(names))
        if (bins < 0).any():
            yield row("strength", "unknown", bins < 0)
    sources = sorted(set(table.source.tolist()))
    yield from (row("source", name, table.source == name) for name in sources)


def _changes(table: PairTable) -> list[tuple[str, Array]]:
    return [("removed", table.without_images), ("another sample's", table.others_images)]


def _image_use(table: PairTable, change: str, changed: Array, seed: int) -> ImageUse | None:
    both = table.has_images & np.isfinite(changed)
    if not both.any():
        return None
    more = (table.difference[both] > 0).astype(float) - (changed[both] > 0)
    gain = bootstrap_interval(more, seed=seed, draws=DRAWS, clusters=table.sample[both])
    given, other = (_accuracy(difference, table, both, seed) for difference in (table.difference, changed))
    return ImageUse(change, int(both.sum()), given, other, ends_of_spread(gain))


def _accuracy(difference: Array, table: PairTable, which: Array, seed: int) -> Interval:
    """Of the pairs bool [P], at least one, with the differences [P]."""
    right = (difference[which] > 0).astype(float)
    return accuracy_interval(right, seed=seed, draws=DRAWS, clusters=table.sample[which])
