"""A data set's card: what its shards hold, in numbers.

Counts, strengths and repeated images are those of all samples; texts, styles and image sizes those of the samples that
were measured, whose number the card tells. Filling it is left to `card_statistics.py`, drawing it to `card_page.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.measuring import UnreadSample
from mrm.construction.style import FeatureBalance


@dataclass(frozen=True)
class SourceCount:
    """One source of one data set. `strength_known`: share of its pairs; `strength_mean`: of those."""

    dataset: str
    source: str
    samples: int
    responses: int
    pairs: int
    images: int
    strength_known: float
    strength_mean: float


@dataclass(frozen=True)
class Histogram:
    """Counts by label; a series a name."""

    labels: tuple[str, ...]
    series: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Bar:
    """One bar: its series' number and name, count, share of the series, and width as a share of the longest."""

    series: int
    name: str
    count: int
    share: float
    width: float


@dataclass(frozen=True)
class Spread:
    """Mean and percentiles (5, 50, 95) of a number; NaN of none."""

    name: str
    mean: float
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Probe:
    """The style probe on some of the pairs; see `mrm.construction.style.ProbeResult`. `longer_wins`: by characters."""

    name: str
    pairs: int
    prompts: int
    longer_wins: float
    accuracy: float
    low: float
    high: float
    weights: dict[str, float]


@dataclass(frozen=True)
class Duplicates:
    """What occurs twice, over all samples.

    Args:
        images, images_distinct: of the index; most_used: how often the most frequent image occurs.
        samples_sharing_images: samples that have the same images as another one.
        pairs_compared: pairs of these, and of samples with several. pairs_surplus: those whose images, prompt and responses occurred before.
        contradicting: groups of equal pairs that disagree about the winner.
        named: the first few groups, as `data set/key` each.
        shared_images: (data set, data set, different images that both have).
    """

    images: int
    images_distinct: int
    most_used: int
    samples_sharing_images: int
    pairs_compared: int
    pairs_surplus: int
    contradicting: int
    named: tuple[tuple[str, ...], ...]
    shared_images: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Card:
    """All of it. Balanced: `visited` = `measured` + `compared_only` + unread samples."""

    datasets: dict[str, dict[str, Any]]
    samples: int
    pairs: int
    responses: int
    images: int
    sources: tuple[SourceCount, ...]
    strength_unknown: int
    strengths: Histogram
    seed: int
    visited: int
    measured: int
    compared_only: int
    measured_pairs: int
    lengths: tuple[Spread, ...]
    length_histogram: Histogram
    styles: dict[str, tuple[FeatureBalance, ...]]
    probes: tuple[Probe, ...]
    pixels: Histogram
    aspects: Histogram
    sizes: tuple[Spread, ...]
    formats: dict[str, int]
    duplicates: Duplicates
    unread: tuple[UnreadSample, ...]

    @property
    def unread_reasons(self) -> dict[str, int]:
        """Unread samples by reason, the most frequent first."""
        return dict(Counter(sample.reason for sample in self.unread).most_common())

    def to_json(self) -> dict[str, Any]:
        """As JSON values: what is not known is null."""
        return _plain({**dataclasses.asdict(self), "unread_reasons": self.unread_reasons})


def histogram_bars(histogram: Histogram) -> list[tuple[str, list[Bar]]]:
    """(label, a bar a series) of each bucket, without the empty ones at both ends."""
    counts = np.array(list(histogram.series.values()))
    totals, most = counts.sum(axis=1), counts.max(initial=0)
    filled = np.flatnonzero(counts.any(axis=0))
    if not len(filled):
        return []
    return [
        (
            histogram.labels[bucket],
            [
                Bar(number, name, int(n), float(n / total) if total else 0.0, float(n / most))
                for number, (name, n, total) in enumerate(zip(histogram.series, counts[:, bucket], totals, strict=True))
            ],
        )
        for bucket in range(filled[0], filled[-1] + 1)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
