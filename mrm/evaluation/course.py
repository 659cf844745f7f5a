"""The evaluations in the course of a training: what a set's figures are, which evaluation is the best, and when to stop. Pure functions.

Metrics are named as they are logged: `val/SET/accuracy` and `val/SET/loss` of a set, `val/accuracy` and `val/loss` the means over the sets
of role `val`. By a set of role `test` nothing is chosen: it is measured in the end, and would be no test any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

PREFIX = "val"
BETTER = {"accuracy": 1.0, "loss": -1.0}  # a set's figures, and which way each is better


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of all sets.

    Args:
        step: optimizer steps before it.
        epoch: in which it took place, or at whose end; counted from 0.
        figures: metric -> value.
    """

    step: int
    epoch: int
    figures: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class EarlyStopping:
    """When a training is stopped.

    Args:
        metric: what is looked at.
        patience: evaluations without improvement that stop it.
        min_delta: what an improvement is more than.
        first_epoch: evaluations of the epochs before it do not count: a round of curation still follows them.
    """

    metric: str
    patience: int = 3
    min_delta: float = 0.0
    first_epoch: int = 0


def metric_names(sets: Sequence[str]) -> list[str]:
    """The metrics by which something may be chosen, of sets of role `val`."""
    kinds = [f"{PREFIX}/{kind}" for kind in BETTER] if sets else []
    return kinds + [f"{PREFIX}/{name}/{kind}" for name in sets for kind in BETTER]


def pair_figures(chosen: np.ndarray, rejected: np.ndarray) -> dict[str, float]:
    """A set's figures.

    Args:
        chosen, rejected: [N] finite rewards of the pairs, N > 0.

    Returns:
        `accuracy`, the share of pairs that are ranked right, a tie being wrong; `loss`, the mean of -log sigmoid(chosen - rejected),
        without margins and weights, so that it can be compared between experiments.
    """
    delta = chosen.astype(np.float64) - rejected.astype(np.float64)
    return {"accuracy": float((delta > 0).mean()), "loss": float(np.logaddexp(0.0, -delta).mean())}


def all_figures(sets: Mapping[str, Mapping[str, float]], averaged: Sequence[str]) -> dict[str, float]:
    """The figures of every set under their metrics' names, and the means.

    Args:
        sets: set -> of `pair_figures`.
        averaged: the sets that the means are over; none where it is empty.
    """
    means = {f"{PREFIX}/{kind}": fmean(sets[name][kind] for name in averaged) for kind in BETTER if averaged}
    return means | {f"{PREFIX}/{name}/{kind}": own[kind] for name, own in sets.items() for kind in BETTER}


def direction(metric: str) -> float:
    """1 where more is better, -1 where less is."""
    return BETTER[metric.rpartition("/")[2]]


def best(evaluations: Sequence[Evaluation], metric: str, keep: int = 1) -> list[Evaluation]:
    """The best ones, the very best first; of equal ones the earlier is better."""
    sign = direction(metric)
    return sorted(evaluations, key=lambda one: (-sign * one.figures[metric], one.step))[:keep]


def stops(evaluations: Sequence[Evaluation], stopping: EarlyStopping) -> bool:
    """Whether a training with these evaluations, in their order, is to stop."""
    sign, record, waited = direction(stopping.metric), -float("inf"), 0
    for one in evaluations:
        if one.epoch < stopping.first_epoch:
            continue
        value = sign * one.figures[stopping.metric]
        if value > record + stopping.min_delta:
            record, waited = value, 0
        else:
            waited += 1
            if waited >= stopping.patience:
                return True
    return False
