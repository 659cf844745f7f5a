"""Figures of a set, the best evaluations, and when a training stops; numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.course import (
    EarlyStopping,
    Evaluation,
    all_figures,
    best,
    metric_names,
    pair_figures,
    stops,
)


def course(*values: float, epochs: tuple[int, ...] = ()) -> list[Evaluation]:
    """Evaluations at steps 10, 20, ..."""
    epochs = epochs or (0,) * len(values)
    return [
        Evaluation(10 * number, epoch, {"val/accuracy": value, "val/loss": -value})
        for number, (value, epoch) in enumerate(zip(values, epochs, strict=True), start=1)
    ]


def test_pair_figures_count_a_tie_as_wrong_and_average_the_loss() -> None:
    figures = pair_figures(np.array([1.0, 0.0, 2.0, 0.5], np.float32), np.array([0.0, 1.0, 2.0, 0.0], np.float32))
    losses = [math.log1p(math.exp(-delta)) for delta in (1.0, -1.0, 0.0, 0.5)]
    assert figures == {"accuracy": 0.5, "loss": pytest.approx(sum(losses) / 4)}


def test_pair_figures_of_far_apart_rewards_do_not_overflow() -> None:
    assert pair_figures(np.array([-1e4], np.float32), np.array([1e4], np.float32)) == {"accuracy": 0.0, "loss": 2e4}


def test_all_figures_average_only_the_sets_that_may_choose() -> None:
    sets = {
        "a": {"accuracy": 0.5, "loss": 1.0},
        "b": {"accuracy": 1.0, "loss": 0.0},
        "t": {"accuracy": 0.0, "loss": 9.0},
    }
    figures = all_figures(sets, ["a", "b"])
    assert figures["val/accuracy"] == 0.75 and figures["val/loss"] == 0.5 and figures["val/t/loss"] == 9.0
    assert "val/accuracy" not in all_figures({"t": sets["t"]}, [])


def test_metric_names_without_sets_are_none() -> None:
    assert metric_names([]) == []
    assert metric_names(["a"]) == ["val/accuracy", "val/loss", "val/a/accuracy", "val/a/loss"]


def test_best_of_equal_figures_is_the_earlier() -> None:
    assert [one.step for one in best(course(0.5, 0.9, 0.9, 0.7), "val/accuracy", 3)] == [20, 30, 40]
    assert [one.step for one in best(course(0.5, 0.9, 0.9, 0.7), "val/loss", 1)] == [20]


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "expected"),
    [
        ((0.5, 0.5, 0.5), 2, 0.0, True),  # the first improves on nothing; two more do not improve
        ((0.5, 0.5, 0.6), 2, 0.0, False),
        ((0.5, 0.51, 0.52), 2, 0.1, True),  # too little each time; from the record, not from the one before
        ((0.5, 0.56, 0.62), 2, 0.1, False),  # 0.62 is more than 0.1 above the record, 0.5
        ((0.5, 0.4, 0.3, 0.9), 2, 0.0, True),  # it was to stop before
        ((), 1, 0.0, False),
    ],
)
def test_stops_after_as_many_evaluations_without_improvement(
    values: tuple[float, ...], patience: int, min_delta: float, expected: bool
) -> None:
    for metric in ("val/accuracy", "val/loss"):  # the loss here is the negative: better where it is less
        assert stops(course(*values), EarlyStopping(metric, patience, min_delta)) is expected


def test_stops_does_not_count_evaluations_before_the_last_round() -> None:
    evaluations = course(0.9, 0.5, 0.6, 0.55, epochs=(0, 1, 2, 2))
    assert stops(evaluations, EarlyStopping("val/accuracy", 1, 0.0))
    assert not stops(evaluations[:3], EarlyStopping("val/accuracy", 1, first_epoch=2))  # 0.9 is of a stage that is over
    assert stops(evaluations, EarlyStopping("val/accuracy", 1, first_epoch=2))


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(1, 4), st.floats(0, 0.5))
def test_stops_once_stays_so_whatever_follows(values: list[float], patience: int, min_delta: float) -> None:
    stopping = EarlyStopping("val/accuracy", patience, min_delta)
    told = [stops(course(*values[:number]), stopping) for number in range(len(values) + 1)]
    assert told == sorted(told) and not any(told[: patience + 1])
