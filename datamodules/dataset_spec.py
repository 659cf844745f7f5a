"""What a data set is for."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TRAINED = ("trusted", "open")  # the roles that are trained on
ROLES = (*TRAINED, "val", "test")


@dataclass(frozen=True)
class DatasetSpec:
    """One data set: a directory of shards and what it is for.

    Args:
        name: shown in tables, metrics and errors.
        path: the directory.
        role: "trusted" (trained on, never curated), "open" (curated), "val" (watched while training, which may be stopped or its best
            weights chosen by it) or "test" (measured in the end).
        weight: how often a sample is seen an epoch, on average; no meaning for sets that are not trained on.
        source_weights: source -> a factor on the weight of its samples; sources that are not named have 1.
    """

    name: str
    path: str | os.PathLike[str]
    role: str
    weight: float = 1.0
    source_weights: Mapping[str, float] = field(default_factory=dict)


def spec_problems(datasets: Sequence[DatasetSpec]) -> list[str]:
    """What is wrong with a list of data sets."""
    names = [spec.name for spec in datasets]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [f"data set {name!r} is named {names.count(name)} times" for name in twice]
    for spec in datasets:
        if spec.role not in ROLES:
            problems.append(f"data set {spec.name!r}: role {spec.role!r} is none of {', '.join(ROLES)}")
        for what, weight in {"weight": spec.weight, **spec.source_weights}.items():
            if not (math.isfinite(weight) and weight >= 0):
                name = what if what == "weight" else f"weight of source {what!r}"
                problems.append(f"data set {spec.name!r}: {name} {weight} is not a number of at least 0")
    return problems
