"""From indexes and what was measured to the numbers of a card. Pure; reading is left to `measuring.py`.

Dimension letters: P pairs measured, F style features.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.card import Card, Duplicates, Histogram, Probe, SourceCount, Spread
from datamodules.duplicates import find_pair_duplicates, shared_counts
from datamodules.index import Index
from datamodules.measuring import LANGUAGES, Measures, Visits
from mrm.construction.style import FEATURES, FeatureBalance, feature_balance, style_differences, style_probe

Array = npt.NDArray[Any]
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}
PERCENTILES = (5, 50, 95)
MAX_PROBES = 40  # the largest slices; what has more sources than this has most of them in a handful of samples
STRENGTH_EDGES = tuple(tenth / 10 for tenth in range(1, 10))
LENGTH_EDGES = tuple(2**power for power in range(4, 14))
SIDE_EDGES = tuple(2**power for power in range(5, 13))  # of a square image with as many pixels
ASPECT_EDGES = (1 / 3, 1 / 2, 3 / 4, 0.95, 1.05, 4 / 3, 2, 3)
ASPECT_LABELS = ("below 1:3", "1:3 to 1:2", "1:2 to 3:4", "3:4 to 0.95", "square, ± 5 %", "1.05 to 4:3", "4:3 to 2:1", "2:1 to 3:1", "above 3:1")  # fmt: skip
LENGTHS = ("characters", "words")


def make_card(
    indexes: Mapping[str, Index],
    visits: Visits,
    found: Measures,
    *,
    paths: Mapping[str, str],
    folds: int,
    seed: int,
) -> Card:
    """Puts the card together.

    Args:
        indexes: by data set.
        visits, found: of the pass over their samples.
        paths: of the data sets.
        folds: of the probe's cross-validation.
        seed: of its split, and of the samples drawn.
    """
    parts = list(indexes.values())
    chosen, rejected = found.features()
    strength = np.concatenate([index.pair_strength for index in parts])
    known = strength[np.isfinite(strength)]
    return Card(
        datasets={
            name: {"path": paths[name], "samples": len(index), "fingerprint": index.fingerprint}
            for name, index in indexes.items()
        },
        samples=sum(map(len, parts)),
        pairs=len(strength),
        responses=sum(int(index.n_responses.sum()) for index in parts),
        images=sum(len(index.image_digest) for index in parts),
        sources=tuple(row for name, index in indexes.items() for row in count_sources(name, index)),
        strength_unknown=len(strength) - len(known),
        strengths=_histogram({"pairs": np.round(known.astype(float), 6)}, STRENGTH_EDGES, "{:.1f}", 0.0, 1.0),
        seed=seed,
        visited=len(visits),
        measured=found.read,
        compared_only=found.compared_only,
        measured_pairs=len(chosen),
        lengths=_length_spreads(chosen, rejected),
        length_histogram=_histogram({"chosen": chosen[:, 0], "rejected": rejected[:, 0]}, LENGTH_EDGES, "{:,}"),
        styles=_styles(found, chosen, rejected),
        probes=tuple(_probes(indexes, found, chosen, rejected, folds, seed)),
        **_image_statistics(found),
        formats=dict(found.formats.most_common()),
        duplicates=_duplicates(indexes, visits, found),
        unread=tuple(found.unread),
    )


def count_sources(dataset: str, index: Index) -> list[SourceCount]:
    """A row for each source of a data set, the largest first."""
    names, code = np.unique(np.asarray(index.sources, str), return_inverse=True)
    of_pair = code[index.pair_sample]
    is_known = np.isfinite(index.pair_strength)
    columns = [
        np.bincount(code, minlength=len(names)),
        np.bincount(code, index.n_responses, minlength=len(names)).astype(int),
        np.bincount(of_pair, minlength=len(names)),
        np.bincount(code, np.diff(index.image_start), minlength=len(names)).astype(int),
    ]
    known = np.bincount(of_pair[is_known], minlength=len(names))
    total = np.bincount(of_pair[is_known], index.pair_strength[is_known], minlength=len(names))
    rows = [
        SourceCount(dataset, str(name), *(int(column[i]) for column in columns),
                    _ratio(known[i], columns[2][i]), _ratio(total[i], known[i]))
        for i, name in enumerate(names)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row.samples)


def bucket_counts(values: Array, edges: Sequence[float]) -> tuple[int, ...]:
    """How many values lie below the first edge, from each edge to below the next, and from the last on."""
    return tuple(np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist())


def _histogram(
    series: Mapping[str, Array],
    edges: Sequence[float],
    form: str,
    first: float | None = None,
    last: float | None = None,
) -> Histogram:
    told = [form.format(edge) for edge in edges]
    start = f"below {told[0]}" if first is None else f"{form.format(first)} to {told[0]}"
    end = f"{told[-1]} and more" if last is None else f"{told[-1]} to {form.format(last)}"
    labels = (start, *(f"{a} to {b}" for a, b in zip(told[:-1], told[1:], strict=True)), end)
    return Histogram(labels, {name: bucket_counts(values, edges) for name, values in series.items()})


def _spread(name: str, values: Array) -> Spread:
    if not len(values):
        return Spread(name, math.nan, math.nan, math.nan, math.nan)
    return Spread(name, float(np.mean(values)), *np.percentile(values, PERCENTILES).tolist())


def _length_spreads(chosen: Array, rejected: Array) -> tuple[Spread, ...]:
    sides = (("chosen", chosen), ("rejected", rejected))
    return tuple(
        _spread(f"{unit}, {side}", counts[:, FEATURES.index(unit)]) for unit in LENGTHS for side, counts in sides
    )


def _styles(found: Measures, chosen: Array, rejected: Array) -> dict[str, tuple[FeatureBalance, ...]]:
    """Each feature's balance, by the language of the question."""
    language = np.asarray(found.language, int)
    masks = {LANGUAGE_NAMES[name]: language == number for number, name in enumerate(LANGUAGES)}
    return {name: tuple(feature_balance(chosen[mask], rejected[mask])) for name, mask in masks.items() if mask.any()}


def _probes(
    indexes: Mapping[str, Index], found: Measures, chosen: Array, rejected: Array, folds: int, seed: int
) -> list[Probe]:
    differences, prompt = style_differences(chosen, rejected), np.asarray(found.prompt, np.uint64)
    probes = []
    for name, mask in _slices(indexes, found).items():
        result = style_probe(differences[mask], prompt[mask], folds=folds, seed=seed)
        longer = feature_balance(chosen[mask], rejected[mask])[0].more_wins
        interval = (result.accuracy, result.low, result.high)
        probes.append(Probe(name, result.pairs, result.groups, longer, *interval, result.weights))
    return probes


def _slices(indexes: Mapping[str, Index], found: Measures) -> dict[str, Array]:
    """Which pairs the probe is asked about: all, each data set, source and language; none that is another again."""
    part, row = np.asarray(found.part, int), np.asarray(found.row, int)
    language = np.asarray(found.language, int)
    slices = {"all pairs": np.ones(len(part), bool)}
    for number, (name, index) in enumerate(indexes.items()):
        here = part == number
        slices[name] = here
        sources = np.full(len(part), "", object)
        sources[here] = np.asarray(index.sources)[row[here]]
        for source, _ in Counter(sources[here].tolist()).most_common(MAX_PROBES):
            slices[f"{name}: {source}"] = here & (sources == source)
    slices |= {LANGUAGE_NAMES[name]: language == number for number, name in enumerate(LANGUAGES)}
    kept: dict[str, Array] = {}
    for name, mask in slices.items():
        if mask.any() and not any(np.array_equal(mask, other) for other in kept.values()):
            kept[name] = mask
    return kept


def _image_statistics(found: Measures) -> dict[str, Any]:
    width, height = np.asarray(found.width, np.int64), np.asarray(found.height, np.int64)
    aspect = _histogram({"images": width / np.maximum(height, 1)}, ASPECT_EDGES, "{}")
    return {
        "pixels": _histogram({"images": np.sqrt(width * height)}, SIDE_EDGES, "{0}²"),
        "aspects": Histogram(ASPECT_LABELS, aspect.series),
        "sizes": (_spread("width", width), _spread("height", height), _spread("pixels", width * height)),
    }


def _duplicates(indexes: Mapping[str, Index], visits: Visits, found: Measures) -> Duplicates:
    names = list(indexes)
    digests = [index.image_digest for index in indexes.values()]
    _, counts = np.unique(np.concatenate(digests), return_counts=True)
    pairs = find_pair_duplicates(np.asarray(found.digest, np.uint64), np.asarray(found.first_won, bool))
    places = [[(found.digest_part[i], found.digest_row[i]) for i in group] for group in pairs.groups]
    return Duplicates(
        images=int(counts.sum()),
        images_distinct=len(counts),
        most_used=int(counts.max(initial=0)),
        samples_sharing_images=int(visits.alike.sum()),
        pairs_compared=pairs.compared,
        pairs_surplus=pairs.surplus,
        contradicting=pairs.contradicting,
        named=tuple(tuple(f"{names[p]}/{indexes[names[p]].keys[row]}" for p, row in group) for group in places),
        shared_images=tuple((names[a], names[b], n) for (a, b), n in shared_counts(digests).items()),
    )


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
