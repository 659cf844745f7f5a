"""Two groups on the same samples: which of them had each test pair right, seed by seed.

What a seed adds to the noise, differences over seeds tell; these tell what the choice of test samples adds. The trainings are those at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mrm.comparing.grouping import Group
from mrm.comparing.measures import MEAN
from mrm.comparing.records import RunRecord
from mrm.evaluation.intervals import DRAWS, LEVEL, bootstrap_draws
from mrm.evaluation.paired import McNemar, PairedTest, difference_test, differing, mcnemar
from mrm.evaluation.sample_scores import SampleScores

SEED = 20_240_529  # of the draws: the same runs give the same intervals

ScoresOf = Callable[[RunRecord], Mapping[str, SampleScores]]


def draws_for(tests: int, level: float) -> int:
    """Bootstrap draws with which the smallest p-value, 2 / (draws + 1), stays below 1 - level after a correction over all tests; well below."""
    return max(DRAWS, math.ceil(8 * tests / (1 - level)))


@dataclass(frozen=True)
class SampleTest:
    """A difference over samples.

    Args:
        test: bootstrap over samples of the difference's mean over seeds; n counts samples.
        pairs: pairs that all runs scored.
        unshared: pairs that only some of them scored, left out.
        seeds: whose runs both have scores.
        mcnemar: seed -> the test of that seed's two runs; empty for means over sets.
    """

    test: PairedTest
    pairs: int
    unshared: int
    seeds: tuple[int, ...]
    mcnemar: Mapping[int, McNemar]

    @property
    def related(self) -> bool:
        """Whether samples have several pairs: the bootstrap draws them together, McNemar's test takes them as independent."""
        return self.test.interval.n < self.pairs


def sample_tests(
    group: Group,
    reference: Group,
    sets: Sequence[str],
    scores_of: ScoresOf,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> dict[str, SampleTest]:
    """Test set, or `mean` for the mean of all, -> the test; sets without scores of both groups are not in it.

    Args:
        group, reference: whose runs of the same seeds are paired.
        sets: test sets that the mean is over.
        scores_of: a run's scores by test set; empty where it has none.
        draws: of the bootstrap.
        level: of the intervals.
    """
    pairs = {
        seed: (scores_of(run), scores_of(reference.runs[seed]))
        for seed, run in group.runs.items()
        if seed in reference.runs
    }
    pairs = {seed: both for seed, both in pairs.items() if all(both)}
    tests: dict[str, SampleTest] = {}
    made: dict[str, np.ndarray] = {}
    differ: dict[str, int] = {}
    names = dict.fromkeys(name for first, _ in pairs.values() for name in first)
    for number, name in enumerate(names):
        own = {seed: (a[name], b[name]) for seed, (a, b) in pairs.items() if name in a and name in b}
        if own and (found := _of_set(own, SEED + number, draws, level)) is not None:
            tests[name], made[name], differ[name] = found
    if len(sets) > 1 and all(name in tests for name in sets):
        parts = [tests[name] for name in sets]
        if len({part.seeds for part in parts}) == 1:
            estimate = float(np.mean([part.test.interval.estimate for part in parts]))
            together = np.mean([made[name] for name in sets], axis=0)  # each set is drawn by itself
            n, apart = sum(part.test.interval.n for part in parts), sum(differ[name] for name in sets)
            test = difference_test(n, estimate, together, level, differing=apart)
            counts = (sum(part.pairs for part in parts), sum(part.unshared for part in parts))
            tests[MEAN] = SampleTest(test, *counts, parts[0].seeds, {})
    return tests


def _of_set(
    scores: Mapping[int, tuple[SampleScores, SampleScores]], seed: int, draws: int, level: float
) -> tuple[SampleTest, np.ndarray, int] | None:
    """The test of one set, its draws, and how many samples differ; None where no pair is shared."""
    named = {number: tuple(_named(one) for one in both) for number, both in scores.items()}
    columns = [names for both in named.values() for names in both]
    shared = set(columns[0]).intersection(*columns[1:])
    if not shared:
        return None
    order = [name for name in columns[0] if name in shared]
    tests, differences = {}, []
    for number, both in scores.items():
        first, second = (
            one.right[[names[name] for name in order]] for one, names in zip(both, named[number], strict=True)
        )
        tests[number] = mcnemar(first, second)
        differences.append(first.astype(float) - second)
    difference, clusters = np.mean(differences, axis=0), [key for key, _ in order]
    made = bootstrap_draws(difference, seed=seed, draws=draws, clusters=clusters)
    apart = differing(difference, clusters)
    test = difference_test(len(set(clusters)), float(difference.mean()), made, level, differing=apart)
    if test.interval.n == 1:
        return None
    every = set().union(*columns)
    return SampleTest(test, len(order), len(every) - len(order), tuple(scores), tests), made, apart


def _named(scores: SampleScores) -> dict[tuple[str, int], int]:
    """(key, pair) -> its row."""
    return {name: row for row, name in enumerate(zip(scores.key.tolist(), scores.pair.tolist(), strict=True))}
