"""Curves of groups, and noise over the rounds."""

from __future__ import annotations

import numpy as np
import pytest

from mrm.comparing.courses import course, noise_course, rounds_of
from mrm.comparing.grouping import align
from tests.comparing.making import made_run


def history(values: list[float], name: str = "train/loss", first: int = 0) -> list[dict]:
    return [{"step": first + 10 * i, "name": name, "value": value} for i, value in enumerate(values)]


def test_course_is_the_mean_of_the_seeds_with_their_range() -> None:
    found = course("full", [history([4.0, 2.0, 0.0]), history([2.0, 2.0, 1.0]), []], "train/loss")
    assert found.mean.tolist() == [3.0, 2.0, 0.5]
    assert found.low.tolist() == [2.0, 2.0, 0.0] and found.high.tolist() == [4.0, 2.0, 1.0]
    assert (np.diff(found.steps) > 0).all()
    assert course("full", [history([1.0])], "train/other") is None


def test_course_bins_steps_and_leaves_out_what_is_not_a_number() -> None:
    found = course("full", [history([1.0, 3.0, 5.0, 7.0, float("nan")])], "train/loss", bins=2)
    assert found.mean.tolist() == [2.0, 6.0]


def test_course_of_a_single_step_is_a_point() -> None:
    assert course("full", [history([2.0], first=5)], "train/loss").mean.tolist() == [2.0]


def test_rounds_of_a_run_have_its_figures_by_round_and_nothing_that_is_no_number() -> None:
    figures = {"round": [1.0, 2.0], "noise_after": [0.1, float("nan")], "noise_estimate_error": [float("inf"), 0.5]}
    told = [entry for name, values in figures.items() for entry in history(values, f"curation/{name}")]
    assert rounds_of(told) == {1: {"round": 1.0, "noise_after": 0.1}, 2: {"round": 2.0, "noise_estimate_error": 0.5}}


def test_noise_course_begins_before_the_first_round() -> None:
    runs = [made_run("full", 1), made_run("full", 2)]
    (group,) = align(runs).groups
    rounds = {
        runs[0].run_id: {1: {"noise_before": 0.4, "noise_after": 0.1}, 2: {"noise_after": 0.02}},
        runs[1].run_id: {1: {"noise_before": 0.4, "noise_after": 0.2}},
    }
    found = noise_course(group, rounds)
    assert [(number, one.n) for number, one in found] == [(0, 2), (1, 2), (2, 1)]
    assert [one.estimate for _, one in found] == pytest.approx([0.4, 0.15, 0.02])
    assert noise_course(group, {}) == []
