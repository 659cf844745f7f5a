"""What happened in the course of the runs: rounds of curation and curves, of each group over its seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrm.comparing.grouping import Group
from mrm.comparing.tables import Table
from mrm.evaluation.intervals import LEVEL, Interval, mean_interval

ROUND = "curation/round"
UNREADABLE = "unreadable"  # shown where there are any
COUNTS = {
    "scored": "scored",
    "kept": "kept",
    "flipped": "flipped",
    "dropped": "dropped",
    "queued": "queued",
    "reannotated": "re-annotated",
    "restored": "restored",
    UNREADABLE: "unreadable",
    "active_pairs": "in use after it",
}
SHARES = {"noise_before": "noise before", "noise_after": "noise after"}
ROUND_NAMES = (ROUND, *(f"curation/{name}" for name in (*COUNTS, *SHARES)))
CURVES = {"train/loss": "Training loss", "train/accuracy": "Training accuracy"}
BINS = 40  # of a curve's steps: a batch's loss alone is noise

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Course:
    """A metric of a group over the steps: [B] steps, and mean, lowest and highest of the seeds there."""

    label: str
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def rounds_of(history: History) -> dict[int, dict[str, float]]:
    """Round -> its figures, from a run's metrics: a round logs all of them at one step. What is not finite is no figure."""
    at_step: dict[int, dict[str, float]] = defaultdict(dict)
    for entry in history:
        if str(entry["name"]).startswith("curation/") and math.isfinite(entry["value"]):
            at_step[int(entry["step"])][str(entry["name"]).removeprefix("curation/")] = float(entry["value"])
    return {int(figures["round"]): figures for _, figures in sorted(at_step.items()) if "round" in figures}


def flow_table(groups: Sequence[Group], rounds: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Table | None:
    """A row a group and round: pairs by what was decided, means over the seeds; None where nothing was curated.

    Args:
        groups: in the order to show.
        rounds: run id -> of `rounds_of`.
    """
    known = [one for own in rounds.values() for one in own.values()]
    present = [
        name
        for name in (*COUNTS, *SHARES)
        if any(name in one for one in known) and (name != UNREADABLE or any(one.get(name) for one in known))
    ]
    rows = []
    for group in groups:
        own = [rounds.get(run.run_id, {}) for run in group.runs.values()]
        for number in sorted({number for one in own for number in one}):
            found = [one[number] for one in own if number in one]
            cells = [_mean_cell([one[name] for one in found if name in one], name) for name in present]
            rows.append((group.label, str(number), str(len(found)), *cells))
    if not rows:
        return None
    columns = ("", "round", "seeds", *({**COUNTS, **SHARES}[name] for name in present))
    notes = ("Pairs of the open pool, means over the seeds; queued: all that wait for judges after the round.",)
    return Table("Curation, round by round", columns, tuple(rows), notes, turns=True)


def _mean_cell(values: Sequence[float], name: str) -> str:
    if not values:
        return "–"
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if name in SHARES else f"{mean:,.0f}" if mean >= 100 or mean.is_integer() else f"{mean:,.1f}"


def noise_course(
    group: Group, rounds: Mapping[str, Mapping[int, Mapping[str, float]]], level: float = LEVEL
) -> list[tuple[int, Interval]]:
    """(round, noise after it over the seeds), round 0 being before the first; empty where it is not known."""
    found: dict[int, list[float]] = defaultdict(list)
    for run in group.runs.values():
        own = rounds.get(run.run_id, {})
        if own and "noise_before" in (first := own[min(own)]):
            found[min(own) - 1].append(first["noise_before"])
        for number, figures in own.items():
            if "noise_after" in figures:
                found[number].append(figures["noise_after"])
    return [(number, mean_interval(values, level)) for number, values in sorted(found.items())]


def course(label: str, histories: Sequence[History], name: str, bins: int = BINS) -> Course | None:
    """A group's curve, its steps in bins; None where no run has the metric.

    Args:
        label: the group's.
        histories: of its runs.
        name: of the metric.
        bins: at most; as many as there are steps where these are fewer.
    """
    series = []
    for history in histories:
        points = [(float(e["step"]), float(e["value"])) for e in history if e["name"] == name]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            series.append(np.array(points).T)
    if not series:
        return None
    steps = np.unique(np.concatenate([one[0] for one in series]))
    edges = np.linspace(steps[0], steps[-1], min(bins, len(steps)) + 1)
    edges[-1] += 1
    means = np.full((len(series), len(edges) - 1), np.nan)
    for row, (own, values) in zip(means, series, strict=True):
        places = np.searchsorted(edges, own, side="right") - 1
        counts = np.bincount(places, minlength=len(row))
        row[counts > 0] = (np.bincount(places, values, len(row)) / np.maximum(counts, 1))[counts > 0]
    filled = np.isfinite(means).any(axis=0)
    centres = ((edges[:-1] + edges[1:]) / 2)[filled]
    means = means[:, filled]
    return Course(label, centres, np.nanmean(means, axis=0), np.nanmin(means, axis=0), np.nanmax(means, axis=0))
