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
from mrm.evaluation.intervals import Interval, bootstrap_interval
from mrm.evaluation.placement import PlaceBias, place_bias
from mrm.evaluation.shortcuts import (
    STYLE_GROUPS,
    LengthControl,
    length_control,
    style_groups,
    within_prompt_correlation,
)

Array = np.ndarray
DRAWS = 2000  # of the bootstrap, a row
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
        accuracy: with its 95 % interval, by bootstrap over samples; None of no pairs.
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
        given, changed: accuracy with the images given, and with the change.
        gain: the first minus the second, with its interval: about 0 means that the images are not looked at, or not needed.
    """

    change: str
    pairs: int
    given: float
    changed: float
    gain: Interval


@dataclass(frozen=True)
class Diagnostics:
    """All figures.

    Args:
        pairs: P.
        rows: accuracies: all, by style, by strength, by source.
        length: accuracy with length taken out; None without pairs that length says something about.
        correlations: feature -> correlation with the reward within the prompt; None where either never differs.
        images: what images do.
        place: what the place of an image does; None where no pair was scored in both orders.
        calibration: None without pairs.
        not_measured: what there is no figure of, and why.
    """

    pairs: int
    rows: tuple[AccuracyRow, ...]
    length: LengthControl | None
    correlations: dict[str, float | None]
    images: tuple[ImageUse, ...]
    place: PlaceBias | None
    calibration: Calibration | None
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
    texts = ~table.statement
    reasons = list(not_measured)
    images = [use for name, values in _changes(table) if (use := _image_use(table, name, values, seed))]
    swapped = table.statement & np.isfinite(table.swapped)
    place = place_bias(table.difference[swapped], table.swapped[swapped], table.first_preferred[swapped])
    if not texts.any():
        reasons.append("style and length: all pairs are statements about two images.")
    if np.isnan(table.strength).all():
        reasons.append("accuracy by strength: no pair has one.")
    if not table.has_images.any():
        reasons.append("what the images do: no pair has any.")
    if not table.statement.any():
        reasons.append("bias for a place: no pair is a statement about two images.")
    difference = table.difference
    log_length = np.log(table.length[:, 0]) - np.log(table.length[:, 1])
    log_markup = np.log1p(table.markup[:, 0]) - np.log1p(table.markup[:, 1])
    return Diagnostics(
        len(table),
        tuple(_rows(table, seed)),
        length_control(difference[texts], table.length[texts]) if texts.any() else None,
        {
            "log length": within_prompt_correlation(difference[texts], log_length[texts]),
            "log (1 + markup)": within_prompt_correlation(difference[texts], log_markup[texts]),
        },
        tuple(images),
        place,
        calibration(difference),
        tuple(reasons),
    )


def strength_bins(strength: Array, edges: Sequence[float] = STRENGTH_EDGES) -> tuple[Array, list[str]]:
    """(int [P], the bin of each strength, -1 where it is NaN; the bins' names). The last bin has its upper edge in it."""
    names = [f"{low:g} to {high:g}" for low, high in zip(edges, edges[1:], strict=False)]
    with np.errstate(invalid="ignore"):
        bins = np.clip(np.searchsorted(edges, strength, side="right") - 1, 0, len(names) - 1)
    return np.where(np.isnan(strength), -1, bins), names


def _rows(table: PairTable, seed: int) -> Iterator[AccuracyRow]:
    def row(group: str, name: str, which: Array) -> AccuracyRow:
        right = (table.difference[which] > 0).astype(float)
        found = bootstrap_interval(right, seed=seed, draws=DRAWS, clusters=table.sample[which]) if which.any() else None
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
    given, other = table.difference[both] > 0, changed[both] > 0
    gain = bootstrap_interval(given.astype(float) - other, seed=seed, draws=DRAWS, clusters=table.sample[both])
    return ImageUse(change, int(both.sum()), float(given.mean()), float(other.mean()), gain)
