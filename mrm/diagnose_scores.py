"""The table of pairs that `mrm.diagnose` draws figures from: what the pairs are, and what a file says of them.

What a model says of them is computed by `diagnose_model.py`.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.pair_pools import PairPool
from datamodules.score_files import read_scores, write_scores
from datamodules.texts import Texts
from mrm.construction.style import FEATURES, style_features
from mrm.errors import ConfigError, MrmError, UnreadableSamplesError
from mrm.evaluation.diagnostics import PairTable
from mrm.evaluation.variants import first_image_preferred, is_statement
from mrm.preference import PreferenceSample
from mrm.progress import shown

GIVEN, REMOVED, OTHERS, SWAPPED = VARIANTS = ("given", "without_images", "others_images", "swapped")
NAMED = 5
NO_PAIR = "no pair"
_MARKUP = [FEATURES.index(name) for name in ("headers", "list_items", "bold", "code")]

Rewards = list[float]


@dataclass
class Bad:
    """Samples that could not be used: how many, why, and the first by name.

    Args:
        samples: how many.
        reasons: reason -> samples.
        named: key -> the whole reason, of the first.
        why: number among the samples of all pools -> the whole reason.
    """

    samples: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    named: dict[str, str] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)

    def note(self, number: int, key: str, reason: str, detail: str) -> None:
        self.samples += 1
        self.why[number] = detail or reason
        self.reasons[reason] += 1
        if len(self.named) < NAMED:
            self.named[key] = detail

    def told(self) -> str:
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.reasons.most_common())
        return f"{reasons}; first: {'; '.join(f'{key}: {detail}' for key, detail in self.named.items())}"


@dataclass
class Rows:
    """Pairs one by one, on their way to a `PairTable`, with the numbers that name them."""

    names: list[tuple[str, int]] = field(default_factory=list)  # key, number within the sample
    chosen: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, sample: PreferenceSample, number: int, found: dict[str, Rewards], first: int = 0) -> None:
        """All pairs of one sample.

        Args:
            sample: as it was given.
            number: of the sample.
            found: variant -> rewards of its responses.
            first: number of its first pair.
        """
        style = [style_features(response) for response in sample.responses]
        for place, pair in enumerate(sample.pairs):
            sides = (pair.chosen, pair.rejected)
            difference = {name: own[sides[0]] - own[sides[1]] for name, own in found.items()}
            if SWAPPED in difference:  # there the other statement is the right one
                difference[SWAPPED] = -difference[SWAPPED]
            self.names.append((sample.key, first + place))
            self.chosen.append(found[GIVEN][sides[0]])
            self.rejected.append(found[GIVEN][sides[1]])
            values = {
                "sample": number,
                "source": sample.source,
                "strength": math.nan if pair.strength is None else pair.strength,
                "length": [len(sample.responses[side]) for side in sides],
                "markup": [float(style[side][_MARKUP].sum()) for side in sides],
                "statement": is_statement(sample),
                "first_preferred": first_image_preferred(sample, pair),
                "has_images": bool(sample.images),
                **{"difference" if name == GIVEN else name: difference.get(name, math.nan) for name in VARIANTS},
            }
            for name, value in values.items():
                self.columns.setdefault(name, []).append(value)

    def table(self) -> PairTable:
        """All of them; at least one."""
        types: dict[str, type] = {"sample": np.int64, "source": object}
        types |= dict.fromkeys(("statement", "first_preferred", "has_images"), bool)
        return PairTable(**{name: np.array(values, types.get(name, float)) for name, values in self.columns.items()})


def scored_by_file(pools: Sequence[PairPool], path: Path, bad: Bad, *, progress: bool) -> Rows:
    """The pairs of all pools, with the scores of a file: a line a pair in their order. No image is read.

    Raises:
        ConfigError: for a file that does not fit, by its line.
    """
    keys, numbers, _ = _all_pairs(pools)
    chosen, rejected, reasons = read_scores(path, keys, numbers)
    rows, first, first_pair = Rows(), 0, 0
    for pool in pools:
        for number, sample in readable(pool, pool.texts, first, bad, progress):
            start = first_pair + int(pool.pair_start[number - first])
            mine = slice(start, start + len(sample.pairs))
            if why := next(filter(None, reasons[mine]), ""):
                bad.note(number, sample.key, "unreadable in scores=", why)
                continue
            for place, pair in enumerate(sample.pairs):
                own = [math.nan] * len(sample.responses)
                own[pair.chosen], own[pair.rejected] = float(chosen[start + place]), float(rejected[start + place])
                one = dataclasses.replace(sample, pairs=(pair,))
                rows.add(one, number, {GIVEN: own}, place)
        first, first_pair = first + len(pool), first_pair + pool.n_pairs
    return rows


def write_lines(path: Path, pools: Sequence[PairPool], rows: Rows, bad: Bad) -> None:
    """Writes what `scored_by_file` takes: a line for every pair of all pools in order, of those without scores why."""
    keys, numbers, samples = _all_pairs(pools)
    chosen, rejected = np.full((2, len(numbers)), np.nan)
    reasons = np.array([bad.why.get(sample, "") for sample in samples.tolist()], object)
    own = np.searchsorted(samples, np.array(rows.columns["sample"])) + np.array([number for _, number in rows.names])
    chosen[own], rejected[own] = rows.chosen, rows.rejected
    assert (np.isfinite(chosen) == (reasons == "")).all(), "a pair has scores, or its sample is noted"
    write_scores(path, keys, numbers, chosen, rejected, reasons)


def _all_pairs(pools: Sequence[PairPool]) -> tuple[Texts, np.ndarray, np.ndarray]:
    """Of the pairs of all pools in order: key, number within the sample, and number of the sample among those of all pools."""
    keys: list[str] = []
    numbers, samples, first = [], [], 0
    for pool in pools:
        names = pool.keys.tolist()
        of_pair = np.asarray(pool.pair_sample, np.int64)
        keys += [names[sample] for sample in of_pair.tolist()]
        numbers.append(np.arange(pool.n_pairs) - np.asarray(pool.pair_start)[of_pair])
        samples.append(first + of_pair)
        first += len(pool)
    return Texts.of(keys), np.concatenate(numbers), np.concatenate(samples)


def check_bad(bad: Bad, total: int, max_bad: float, rows: Rows) -> None:
    """Stops where too much could not be used.

    Raises:
        UnreadableSamplesError: for more samples than `max_bad` allows, or if no pair is left.
    """
    if bad.samples > max_bad * total or not rows.names:
        more = ", or raise max_bad to go on without them" if rows.names else "; there is none left"
        allowed = f", more than max_bad={max_bad:g} allows" if bad.samples > max_bad * total else ""
        raise UnreadableSamplesError(
            f"{bad.samples} of {total} samples could not be used{allowed}: {bad.told()}. Mend them{more}."
        )


def readable(
    pool: PairPool, read: Callable[[np.ndarray], Iterator[tuple[int, Any]]], first: int, bad: Bad, show: bool
) -> Iterator[tuple[int, PreferenceSample]]:
    """The pool's samples with their numbers from `first` on, under a bar; those that cannot be read are noted.

    Args:
        pool: whose samples they are.
        read: its way of reading them, `samples` or `texts`.
        first: number of its first sample. bad: gets the others.
        show: the bar.

    Raises:
        ConfigError: where the pool gives fewer samples than it has.
    """
    wanted = np.ones(len(pool), bool)
    for number, key in enumerate(pool.keys.tolist()) if pool.problems else ():  # some of them no pool gives
        if key in pool.problems:
            wanted[number] = False
            bad.note(first + number, key, NO_PAIR, pool.problems[key])
    seen = len(pool) - int(wanted.sum())
    for number, item in shown(read(wanted), pool.name, total=len(pool), show=show, done=seen):
        seen += 1
        if isinstance(item, MrmError):
            bad.note(first + number, pool.keys[number], getattr(item, "reason", "unreadable shard"), str(item))
        else:
            yield first + number, item
    if seen != len(pool):
        raise ConfigError(f"pairs: {pool.name} has {len(pool)} samples, but gave {seen}: it was changed; start again.")
