"""The figures of a run, and of a group their mean and interval over seeds. What a run does not have is not measured, never zero."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrm.comparing.grouping import Group
from mrm.comparing.records import RunRecord
from mrm.evaluation.intervals import LEVEL, Interval, mean_interval

ACCURACY, CURATION, COST = "accuracy", "curation", "cost"
MEAN = "mean"
TEST = re.compile(r"test/(.+)/accuracy")
SPEED = "throughput/pairs_per_second"
# Of each round, added up: figure -> metric. A round that asks no judges logs none of the last two.
ADDED = {
    "curation_seconds": "curation/seconds",
    "judge_calls": "curation/annotation_calls",
    "judge_cost": "curation/annotation_cost",
}
SPENT = tuple(ADDED.values())


@dataclass(frozen=True)
class Measure:
    """Something that is compared.

    Args:
        key: its name in `metric=` and in the JSON output.
        title: what a person reads.
        kind: accuracy | curation | cost: the table that it stands in.
        digits: behind the point.
    """

    key: str
    title: str
    kind: str
    digits: int = 3


CURATION_MEASURES = (
    Measure("noise_after", "noise after the last round", CURATION),
    Measure("wrong_mended", "wrong labels mended or gone", CURATION),
    Measure("right_lost", "right labels lost", CURATION),
    Measure("active_share", "open pairs in use", CURATION),
)
COST_MEASURES = (
    Measure("seconds", "seconds", COST, 0),
    Measure("curation_seconds", "seconds of curation", COST, 0),
    Measure("pairs_per_second", "pairs per second", COST, 1),
    Measure("peak_memory_mib", "peak memory (MiB)", COST, 0),
    Measure("peak_gpu_memory_mib", "peak GPU memory (MiB)", COST, 0),
    Measure("judge_calls", "judges' calls", COST, 0),
    Measure("judge_cost", "judges' cost", COST, 2),
)


@dataclass(frozen=True)
class Figure:
    """A measure of a group.

    Args:
        measure: what it is.
        values: seed -> value; seeds that lack it are not in it.
        interval: over the seeds; None where no seed has it.
    """

    measure: Measure
    values: Mapping[int, float]
    interval: Interval | None

    def text(self) -> str:
        """`0.967 ± 0.003`; without an interval the mean alone."""
        return figure_text(self.interval, self.measure.digits)


def figure_text(interval: Interval | None, digits: int) -> str:
    """An estimate with half its interval's width."""
    if interval is None:
        return "–"
    half = interval.half_width
    return f"{interval.estimate:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def measures_of(runs: Sequence[RunRecord]) -> list[Measure]:
    """All that is looked for in these runs: their test sets, what curation and cost are told by."""
    sets = test_sets(runs)
    several = [Measure(MEAN, f"mean of {len(shared_sets(runs))} sets", ACCURACY)] if len(shared_sets(runs)) > 1 else []
    return [*(Measure(name, set_title(name), ACCURACY) for name in sets), *several, *CURATION_MEASURES, *COST_MEASURES]


def set_title(name: str) -> str:
    """A test set's name as people read it: `test_style_opposed` is "style opposed"."""
    return name.removeprefix("test_").replace("_", " ")


def test_sets(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the test sets that any run has, in the order of the configuration where that is known."""
    found = {match[1] for run in runs for name in run.metrics if (match := TEST.fullmatch(name))}
    known = dict.fromkeys(
        key.split(".")[2]
        for run in runs
        for key in run.config
        if key.startswith("data.datasets.") and key.count(".") > 2
    )
    places = {name: place for place, name in enumerate(known)}
    return sorted(found, key=lambda name: (places.get(name, len(places)), name))


def shared_sets(runs: Sequence[RunRecord]) -> list[str]:
    """The test sets that every run has which has any: over these the mean is taken."""
    tested = [run for run in runs if any(TEST.fullmatch(name) for name in run.metrics)]
    return [name for name in test_sets(runs) if all(f"test/{name}/accuracy" in run.metrics for run in tested)]


def run_values(run: RunRecord, shared: Sequence[str], history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """measure -> value of one run.

    Args:
        run: with its newest metrics.
        shared: test sets that the mean is taken over.
        history: its metrics by step: `SPEED`, of which the median is taken, and `SPENT`, which are added up.
    """
    metrics = run.metrics
    values = {match[1]: value for name, value in metrics.items() if (match := TEST.fullmatch(name))}
    if len(shared) > 1 and all(name in values for name in shared):
        values[MEAN] = statistics.fmean(values[name] for name in shared)
    for name in ("noise_after", "wrong_mended", "right_lost"):
        if f"curation/{name}" in metrics:
            values[name] = metrics[f"curation/{name}"]
    if metrics.get("open_pairs"):
        values["active_share"] = metrics.get("active_pairs", 0.0) / metrics["open_pairs"]
    for name in ("seconds", "peak_memory_mib", "peak_gpu_memory_mib"):
        if name in metrics:
            values[name] = metrics[name]
    if speeds := [entry["value"] for entry in history if entry["name"] == SPEED]:
        values["pairs_per_second"] = statistics.median(speeds)
    for name, metric in ADDED.items():
        if spent := [entry["value"] for entry in history if entry["name"] == metric]:
            values[name] = math.fsum(spent)
    return {name: value for name, value in values.items() if value == value}  # NaN is no measurement


def group_figures(
    group: Group, measures: Sequence[Measure], values: Mapping[str, Mapping[str, float]], level: float = LEVEL
) -> dict[str, Figure]:
    """measure -> the group's figure.

    Args:
        group: whose runs are looked at.
        measures: what is looked for.
        values: run id -> of `run_values`.
        level: of the intervals.
    """
    figures = {}
    for measure in measures:
        found = {
            seed: values[run.run_id][measure.key]
            for seed, run in group.runs.items()
            if measure.key in values[run.run_id]
        }
        figures[measure.key] = Figure(measure, found, mean_interval(list(found.values()), level) if found else None)
    return figures


def not_measured(
    groups: Sequence[Group], measures: Sequence[Measure], figures: Mapping[str, Mapping[str, Figure]]
) -> list[str]:
    """What is lacking, in sentences: a measure that no group has, that some lack, or that some seeds lack."""
    lacking: dict[str, list[str]] = defaultdict(list)  # who -> what
    for measure in measures:
        none = [group.label for group in groups if not figures[group.label][measure.key].values]
        if none:
            lacking["no run" if len(none) == len(groups) else "; ".join(none)].append(measure.title)
        for group in groups:
            some = [seed for seed in group.seeds if seed not in figures[group.label][measure.key].values]
            if some and group.label not in none:
                lacking[f"{group.label}, seed {', '.join(map(str, some))}"].append(measure.title)
    return [f"{', '.join(titles)}: of {who}" for who, titles in lacking.items()]
