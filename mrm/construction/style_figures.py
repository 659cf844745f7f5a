"""What style tells of a set of pairs, before and after some of them went or were rewritten.

Dimension letters: P pairs, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrm.construction.style import (
    FEATURES,
    Array,
    FeatureBalance,
    ProbeResult,
    StyleModel,
    feature_balance,
    fit_style,
    style_differences,
    style_probe,
)

PROBE_SEEDS = 5  # different foldings that an accuracy is taken over


@dataclass(frozen=True)
class StyleFigures:
    """What style tells of a set of pairs.

    Args:
        probe: on one folding, with its interval and weights.
        lowest, highest: accuracy of the probe over PROBE_SEEDS foldings; NaN with less than two groups. Below chance is
            chance: a probe that finds the loser's style in the other folds names the other response.
        former: accuracy of the probe that was fitted on all pairs before; below 0.5, its style now goes with losing.
        features: how each goes with winning.
        groups: prompts.
        distance: mean distance in style of chosen and rejected, in root mean squares of all pairs' differences.
    """

    probe: ProbeResult
    lowest: float
    highest: float
    former: float
    features: tuple[FeatureBalance, ...]
    groups: int
    distance: float


@dataclass(frozen=True, eq=False)
class StyleRuler:
    """What sets of pairs are measured with: the probe and the units of those that were there at first."""

    model: StyleModel
    scale: Array
    folds: int
    seed: int
    names: tuple[str, ...]

    @classmethod
    def of(cls, x: Array, *, folds: int, seed: int, names: Sequence[str]) -> StyleRuler:
        """The ruler of [P, F] differences: those that were there at first."""
        return cls(fit_style(x), _scale(x), folds, seed, tuple(names))

    def distances(self, x: Array) -> Array:
        """[P] root of the mean squared difference over features, each in its unit."""
        return np.sqrt(np.mean(np.square(x / self.scale), axis=1))

    def measure(self, chosen: Array, rejected: Array, groups: Array) -> StyleFigures:
        """The figures of pairs: [P, F] counts of chosen and rejected, [P] prompts."""
        x = style_differences(chosen, rejected)
        probes = [
            style_probe(x, groups, folds=self.folds, seed=self.seed + i, names=self.names) for i in range(PROBE_SEEDS)
        ]
        accuracies = [probe.accuracy for probe in probes]
        return StyleFigures(
            probes[0],
            min(accuracies),
            max(accuracies),
            float((0.5 + 0.5 * np.sign(self.model.margin(x))).mean()) if len(x) else math.nan,
            tuple(feature_balance(chosen, rejected, self.names)),
            probes[0].groups,
            float(self.distances(x).mean()) if len(x) else math.nan,
        )


def measure_style(
    chosen: Array,
    rejected: Array,
    groups: Array,
    *,
    first: tuple[Array, Array] | None = None,
    seed: int = 0,
    folds: int = 5,
    names: Sequence[str] = FEATURES,
) -> StyleFigures:
    """What style tells of a set of pairs, for the table of before and after.

    Args:
        chosen, rejected: [P, F] of `style_features`.
        groups: [P] number of each pair's prompt.
        first: chosen and rejected of the pairs as they were at first, for `former` and `distance`; these where it is None.
        seed, folds, names: as in `balance_style`.
    """
    chosen, rejected = (np.asarray(counts).reshape(-1, len(names)) for counts in (chosen, rejected))
    x = style_differences(*(chosen, rejected) if first is None else first)
    ruler = StyleRuler.of(x, folds=folds, seed=seed, names=names)
    return ruler.measure(chosen, rejected, np.asarray(groups))


def _scale(x: Array) -> Array:
    """[F] root mean square of each difference; 1 where it is always 0."""
    scale = np.sqrt(np.mean(np.square(x), axis=0)) if len(x) else np.ones(x.shape[1])
    return np.where(scale > 0, scale, 1.0)
