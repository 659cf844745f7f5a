"""From scores of pairs to a benchmark's figures: accuracies with ties, intervals and the length-only baseline beside them.

A pair is right where the chosen response scores strictly higher; a tie is wrong. A pair that is judged in two orders counts
half for each. Pairs without scores are in no figure, and groups that miss one are not in Acc+: who computes them names both. Pure.

Dimension letters: N pairs, J judgements (a pair has one or two).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mrm.evaluation.benchmarks import BenchmarkPair, Definition
from mrm.evaluation.bootstrap import (
    SEED,
    common_share,
    per_group,
    resampled_mean_of_ratios,
    resampled_ratios,
)
from mrm.evaluation.intervals import DRAWS, alike_ends, percentile_interval
from mrm.evaluation.length_only import length_only

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """What the scores say of each pair.

    Attributes:
        right: float64 [N], share of its orders in which the chosen response scores strictly higher.
        ties: int64 [N], orders in which both score the same.
        orders: int64 [N], in how many orders it was judged.
        scored: bool [N], whether all of them have scores.
    """

    right: Array
    ties: Array
    orders: Array
    scored: Array


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        value: in [0, 1].
        n: pairs, or groups, that it is drawn from.
        ties: judgements among them that tie; of what is right as a whole (pairs in both orders, groups), those that
            hold a tie.
        tie_rate: their share.
        low, high: the 95 % interval: by bootstrap, or `alike_ends` where all units have the same accuracy. In a macro
            accuracy's draws, categories of which all units are alike have theirs.
        length_only: the same figure of the longer response; None where a response is no text.
    """

    value: float
    n: int
    ties: int
    tie_rate: float
    low: float
    high: float
    length_only: float | None


@dataclass(frozen=True)
class Figures:
    """All figures of a benchmark.

    Attributes:
        overall: over all pairs.
        macro: the mean of the categories.
        categories: those that have pairs, in the definition's order.
        subsets: by the definition's names.
        consistent: share of pairs that are right in both orders; None where no pair is judged twice.
        acc_plus: share of groups that are right in every pair; None where the benchmark has no groups.
        acc_plus_categories: the same by category.
        incomplete_groups: groups that are left out because a pair of theirs has no scores.
    """

    overall: Figure
    macro: Figure
    categories: dict[str, Figure]
    subsets: dict[str, Figure] = field(default_factory=dict)
    consistent: Figure | None = None
    acc_plus: Figure | None = None
    acc_plus_categories: dict[str, Figure] = field(default_factory=dict)
    incomplete_groups: tuple[str, ...] = ()


def judge(chosen: Array, rejected: Array, pair: Array, n: int) -> Judged:
    """What scores say of the pairs.

    Args:
        chosen, rejected: float64 [J], NaN where there is no score.
        pair: int [J], the number of the pair that a judgement is of.
        n: pairs.
    """
    known = np.isfinite(chosen) & np.isfinite(rejected)
    orders = np.bincount(pair, minlength=n)
    right = np.bincount(pair, weights=known & (chosen > rejected), minlength=n)
    ties = np.bincount(pair, weights=known & (chosen == rejected), minlength=n).astype(np.int64)
    scored = (np.bincount(pair, weights=known, minlength=n) == orders) & (orders > 0)
    return Judged(right / np.maximum(orders, 1), ties, orders, scored)


def compute_figures(
    definition: Definition, pairs: Sequence[BenchmarkPair], judged: Judged, *, draws: int = DRAWS, seed: int = SEED
) -> Figures:
    """The figures of a benchmark.

    Args:
        definition: the benchmark's.
        pairs: [N], of which at least one has scores.
        judged: what the scores say of them.
        draws, seed: of the bootstrap.

    Raises:
        ValueError: where no pair has scores.
    """
    if not judged.scored.any():
        raise ValueError("no pair has scores.")
    data = _Data(definition, pairs, judged, draws, np.random.default_rng(seed))
    all_pairs = data.of(definition.categories)
    present = [name for name in definition.categories if data.of([name]).any()]
    categories = {name: data.accuracy(data.of([name])) for name in present}
    figures: dict[str, Any] = {
        "overall": data.accuracy(all_pairs),
        "macro": data.macro(categories),
        "categories": categories,
        "subsets": {
            name: data.accuracy(data.of(parts)) for name, parts in definition.subsets.items() if data.of(parts).any()
        },
    }
    if (judged.orders[all_pairs] > 1).any():
        figures["consistent"] = data.consistent(all_pairs)
    if definition.acc_plus:
        whole, incomplete = data.whole_groups()
        figures["incomplete_groups"] = incomplete
        if whole.any():
            figures["acc_plus"] = data.groups_right(whole)
            figures["acc_plus_categories"] = {
                name: data.groups_right(part) for name in present if (part := whole & data.first_in_group(name)).any()
            }
    return Figures(**figures)


class _Data:
    """The columns that figures are drawn from. `which` is everywhere bool [N], the pairs of a figure, all of them scored."""

    def __init__(
        self,
        definition: Definition,
        pairs: Sequence[BenchmarkPair],
        judged: Judged,
        draws: int,
        rng: np.random.Generator,
    ) -> None:
        self.judged = judged
        self.category = np.array([pair.category for pair in pairs], object)
        self.group = np.array([pair.group for pair in pairs], object)
        # Pairs of a group share their prompt and are drawn together.
        self.unit = self.group if definition.acc_plus else np.arange(len(pairs))
        self.length = length_only([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
        self.draws = draws
        self.rng = rng

    def of(self, categories: Sequence[str]) -> Array:
        """The scored pairs of some categories."""
        return np.isin(self.category, list(categories)) & self.judged.scored

    def accuracy(self, which: Array) -> Figure:
        right, total = self._units(which)
        ends = self._ends(right, total)
        return Figure(
            float(right.sum() / total.sum()), int(which.sum()), *self._ties(which), *ends, self._length(which)
        )

    def consistent(self, which: Array) -> Figure:
        """Of the pairs that are judged in both orders, or in one that stands for both."""
        return self._shares(self.judged.right[which] == 1, self.judged.ties[which] > 0, self._length(which))

    def macro(self, categories: dict[str, Figure]) -> Figure:
        which, figures = self.of(list(categories)), list(categories.values())
        parts = [self._units(self.of([name])) for name in categories]
        lower, upper = resampled_mean_of_ratios(parts, draws=self.draws, rng=self.rng)
        ends = _percentiles(lower)[0], _percentiles(upper)[1]
        known = [figure.length_only for figure in figures if figure.length_only is not None]
        length = float(np.mean(known)) if len(known) == len(figures) else None
        value = float(np.mean([figure.value for figure in figures]))
        return Figure(value, int(which.sum()), *self._ties(which), *ends, length)

    def whole_groups(self) -> tuple[Array, tuple[str, ...]]:
        """The pairs of groups that have all their scores, and the names of the others."""
        incomplete = tuple(sorted(set(self.group[~self.judged.scored])))
        return ~np.isin(self.group, list(incomplete)), incomplete

    def first_in_group(self, category: str) -> Array:
        """The pairs whose group's first pair is of a category. In the published file a group has one category."""
        _, first, codes = np.unique(self.group, return_index=True, return_inverse=True)
        return (self.category[first] == category)[codes]

    def groups_right(self, which: Array) -> Figure:
        """Acc+: of the groups, those that are right in every pair."""
        right, number = per_group(self.judged.right[which], self.group[which])
        ties, _ = per_group(self.judged.ties[which], self.group[which])
        return self._shares(right == number, ties > 0, self._length_of_groups(which))

    def _length_of_groups(self, which: Array) -> float | None:
        """The chance that the longer response wins in every pair of a group, a coin tossed for each that are equally long."""
        lengths, groups = self.length[which], self.group[which]
        return _mean(np.array([lengths[groups == name].prod() for name in sorted(set(groups))]))

    def _units(self, which: Array) -> tuple[Array, Array]:
        return per_group(self.judged.right[which], self.unit[which])

    def _length(self, which: Array) -> float | None:
        return _mean(self.length[which])

    def _ties(self, which: Array) -> tuple[int, float]:
        ties = int(self.judged.ties[which].sum())
        return ties, ties / int(self.judged.orders[which].sum())

    def _shares(self, right: Array, tied: Array, length: float | None) -> Figure:
        """Of units that are right or not as a whole: bool [U], whether each is, and whether a judgement of it ties."""
        ends = self._ends(right.astype(np.float64), np.ones(len(right)))
        return Figure(float(right.mean()), len(right), int(tied.sum()), float(tied.mean()), *ends, length)

    def _ends(self, right: Array, total: Array) -> tuple[float, float]:
        """The interval of the units' accuracy; where all have the same one, the draws would tell nothing."""
        samples = resampled_ratios(right, total, draws=self.draws, rng=self.rng)
        share = common_share(right, total)
        return _percentiles(samples) if share is None else alike_ends(share, len(right))


def _percentiles(samples: Array) -> tuple[float, float]:
    found = percentile_interval(len(samples), float(samples.mean()), samples)
    assert found.low is not None and found.high is not None
    return found.low, found.high


def _mean(values: Array) -> float | None:
    """The mean; None where a value is not known."""
    return None if np.isnan(values).any() else float(values.mean())
