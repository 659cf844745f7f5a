"""Upper bounds of a training's steps: never below what is planned, and exact where the plan's size is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from callbacks.training_length import steps_of_entries
from datamodules.plan import epoch_plan

SIZES = st.integers(1, 4)


def test_steps_of_entries_without_a_token_budget_are_those_of_full_steps_and_a_rest() -> None:
    shape = {"batch_size": 4, "accumulate": 2, "world_size": 2}
    assert [steps_of_entries(n, **shape) for n in (0, 1, 16, 17, 33)] == [0, 1, 1, 2, 3]


def test_steps_of_entries_with_a_token_budget_go_by_the_longest_sample() -> None:
    shape = {"batch_size": 8, "accumulate": 1, "world_size": 1, "length_window": 4, "batch_tokens": 100}
    assert steps_of_entries(64, longest=25, **shape) == 64 // 4 + 2  # two windows of 32 samples, each with a rest
    assert steps_of_entries(64, longest=500, **shape) == 64


@given(
    lengths=st.lists(st.integers(1, 50), max_size=60), batch_size=SIZES, accumulate=SIZES, world_size=SIZES,
    length_window=SIZES, batch_tokens=st.none() | st.integers(1, 200), weight=st.sampled_from([0.5, 1.0, 1.5, 3.0]), seed=st.integers(0, 9),
)  # fmt: skip
def test_steps_of_entries_are_never_fewer_than_planned(
    lengths: list[int],
    batch_size: int,
    accumulate: int,
    world_size: int,
    length_window: int,
    batch_tokens: int | None,
    weight: float,
    seed: int,
) -> None:
    shape = {
        "batch_size": batch_size, "accumulate": accumulate, "world_size": world_size, "length_window": length_window,
        "batch_tokens": batch_tokens,
    }  # fmt: skip
    rows, weights = np.arange(len(lengths)), np.full(len(lengths), weight)
    plan = epoch_plan(rows, np.array(lengths, np.int64), weights, seed=seed, epoch=0, **shape)
    entries = int(np.ceil(weights).sum())
    most = steps_of_entries(entries, longest=max(lengths, default=1), **shape)
    assert len(plan.rows) <= most
    if batch_tokens is None and weight.is_integer():
        assert len(plan.rows) == most
