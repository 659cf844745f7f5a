"""Figures of runs and groups; what is lacking is told."""

from __future__ import annotations

import math

import pytest

from mrm.comparing.grouping import align
from mrm.comparing.measures import (
    MEAN,
    SPEED,
    figure_text,
    group_figures,
    measures_of,
    not_measured,
    run_values,
    shared_sets,
)
from mrm.evaluation.intervals import Interval
from tests.comparing.making import made_run


def figures_of(runs):
    alignment, shared = align(runs), shared_sets(runs)
    values = {run.run_id: run_values(run, shared, []) for run in runs}
    measures = measures_of(runs)
    return alignment, measures, {g.label: group_figures(g, measures, values) for g in alignment.groups}


def test_figures_have_mean_and_interval_over_seeds() -> None:
    runs = [made_run("full", seed, {"test_a": a, "test_b": 0.5}) for seed, a in ((1, 0.8), (2, 0.9), (3, 1.0))]
    _, _, figures = figures_of(runs)
    found = figures["full"]["test_a"]
    assert found.values == {1: 0.8, 2: 0.9, 3: 1.0}
    assert found.interval.estimate == pytest.approx(0.9)
    assert found.interval.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert figures["full"][MEAN].interval.estimate == pytest.approx(0.7)
    assert found.text() == "0.900 ± 0.248"


def test_mean_is_over_the_sets_that_all_tested_runs_have() -> None:
    runs = [
        made_run("full", 1, {"test_a": 0.8, "test_b": 0.6, "test_c": 0.1}),
        made_run("base", 1, {"test_a": 0.5, "test_b": 0.5}),
        made_run("untested", 1),
    ]
    alignment, measures, figures = figures_of(runs)
    assert shared_sets(runs) == ["test_a", "test_b"]
    assert figures["full"][MEAN].interval.estimate == pytest.approx(0.7)
    assert figures["untested"][MEAN].interval is None
    lacking = not_measured(alignment.groups, measures, figures)
    assert "c: of base; untested" in lacking and "a, b, mean of 2 sets: of untested" in lacking
    assert any(one.startswith("noise after the last round, ") and one.endswith(": of no run") for one in lacking)


def test_not_measured_names_single_seeds() -> None:
    runs = [
        made_run("full", 1, {"test_a": 0.8}, metrics={"curation/noise_after": 0.1}),
        made_run("full", 2, {"test_a": 0.8}),
    ]
    alignment, measures, figures = figures_of(runs)
    assert "noise after the last round: of full, seed 2" in not_measured(alignment.groups, measures, figures)


def test_run_values_of_curation_and_cost() -> None:
    metrics = {"open_pairs": 40.0, "active_pairs": 30.0, "seconds": 12.0, "curation/noise_after": 0.02}
    logged = [(SPEED, 10.0), (SPEED, 50.0), ("curation/seconds", 3.0), (SPEED, 20.0), ("curation/seconds", 4.0)]
    history = [{"step": step, "name": name, "value": value} for step, (name, value) in enumerate(logged)]
    assert run_values(made_run("full", 1, metrics=metrics), [], history) == {
        **{"noise_after": 0.02, "active_share": 0.75, "seconds": 12.0, "pairs_per_second": 20.0},
        "curation_seconds": 7.0,
    }


def test_run_values_what_is_not_a_number_is_not_measured() -> None:
    assert run_values(made_run("full", 1, {"test_a": math.nan}, metrics={"open_pairs": 0.0}), [], []) == {}


def test_figure_text_without_interval_is_the_mean_alone() -> None:
    assert figure_text(Interval(1, 0.5), 3) == "0.500" and figure_text(None, 3) == "–"
