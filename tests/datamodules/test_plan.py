from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.plan import EpochPlan, epoch_plan, padding_share


def plan_of(samples: int, *, weights: Any = None, lengths: Any = None, **settings: Any) -> EpochPlan:
    """A plan over rows 100, 101, ..., with batch 4 unless told otherwise."""
    options = {"batch_size": 4, "accumulate": 1, "world_size": 1, "seed": 0, "epoch": 0, **settings}
    return epoch_plan(
        100 + np.arange(samples),
        np.zeros(samples, np.int64) if lengths is None else np.asarray(lengths),
        np.ones(samples) if weights is None else np.asarray(weights, np.float64),
        **options,
    )


def real_rows(plan: EpochPlan) -> np.ndarray:
    return plan.rows[(plan.rows >= 0) & ~plan.filler]


@given(
    samples=st.integers(1, 60),
    batch_size=st.integers(1, 5),
    accumulate=st.integers(1, 3),
    world_size=st.integers(1, 3),
    length_window=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_epoch_plan_any_shape_has_each_sample_once_and_equal_ranks(samples: int, **shape: int) -> None:
    plan = plan_of(samples, lengths=np.arange(samples) % 7, **shape)
    assert sorted(real_rows(plan)) == list(range(100, 100 + samples))
    ranks = [[plan.batch(rank, number) for number in range(len(plan))] for rank in range(shape["world_size"])]
    assert {len(batches) for batches in ranks} == {len(plan)}
    assert len(plan) % shape["accumulate"] == 0
    assert all(1 <= len(batch.rows) <= shape["batch_size"] for batches in ranks for batch in batches)


@pytest.mark.parametrize("samples", [1, 7, 16, 29])
@pytest.mark.parametrize("window", [0, 2])
def test_epoch_plan_steps_do_not_depend_on_how_a_step_is_cut(samples: int, window: int) -> None:
    """Step size 8 as 8 x 1, 4 x accumulate 2, 2 x accumulate 2 x 2 ranks, 1 x 8 ranks."""
    shapes = [(8, 1, 1), (4, 2, 1), (2, 2, 2), (1, 1, 8)]
    lengths = np.arange(samples) * 5 % 11
    steps = []
    for batch_size, accumulate, world_size in shapes:
        options = {"batch_size": batch_size, "accumulate": accumulate, "world_size": world_size}
        plan = plan_of(samples, lengths=lengths, length_window=window, **options)
        steps.append([sorted(real_rows(EpochPlan(r, f))) for r, f in zip(plan.rows, plan.filler, strict=True)])
        weight_of = np.concatenate([np.zeros(100), np.arange(samples) + 1.0])
        assert plan.step_sums(weight_of).tolist() == [sum(row - 99 for row in step) for step in steps[0]]
    assert all(other == steps[0] for other in steps)


def test_epoch_plan_seed_and_epoch_change_the_order_and_nothing_else() -> None:
    plans = {(s, e): plan_of(40, seed=s, epoch=e).rows.ravel().tolist() for s in (0, 1) for e in (0, 1)}
    assert plans[0, 0] == plan_of(40).rows.ravel().tolist()
    assert len({tuple(rows) for rows in plans.values()}) == 4
    assert len({tuple(sorted(rows)) for rows in plans.values()}) == 1


def test_epoch_plan_last_step_too_small_for_the_ranks_is_filled_with_weight_zero() -> None:
    """One sample over, four micro-batches needed: three fillers that repeat it."""
    plan = plan_of(9, batch_size=2, accumulate=2, world_size=2)
    assert plan.rows.shape == (2, 2, 2, 2)
    last, filler = plan.rows[1], plan.filler[1]
    present = last >= 0
    assert present.sum(axis=-1).tolist() == [[1, 1], [1, 1]]
    assert len(set(last[present])) == 1 and filler[present].sum() == 3
    assert plan.step_sums(np.ones(200)).tolist() == [8, 1]


def test_epoch_plan_last_step_is_spread_evenly() -> None:
    """Seven samples over in four micro-batches of at most 4: 2, 2, 2, 1."""
    plan = plan_of(23, batch_size=4, accumulate=4)
    assert (plan.rows[1, 0] >= 0).sum(axis=-1).tolist() == [2, 2, 2, 1]
    assert not plan.filler.any()


def test_epoch_plan_mixture_weight_repeats_and_thins() -> None:
    weights = np.repeat([0.0, 2.0, 0.25, 1.5], 400)
    counts = np.bincount(real_rows(plan_of(1600, weights=weights)) - 100, minlength=1600).reshape(4, 400)
    assert set(counts[0]) == {0} and set(counts[1]) == {2} and set(counts[2]) == {0, 1} and set(counts[3]) == {1, 2}
    assert counts.sum(axis=1)[2:] == pytest.approx([100, 600], abs=40)  # standard deviations 9 and 10
    again = plan_of(1600, weights=weights, epoch=1)
    assert set(real_rows(again)) != set(real_rows(plan_of(1600, weights=weights)))


def test_epoch_plan_length_window_makes_batches_alike_but_not_ordered() -> None:
    lengths = np.random.default_rng(0).permutation(400)
    spread = {
        window: np.ptp(lengths[plan_of(400, lengths=lengths, length_window=window).rows - 100], axis=-1).mean()
        for window in (0, 10, 100)
    }
    assert spread[100] == 3  # four neighbours
    assert spread[100] < spread[10] < spread[0] / 3
    order = lengths[plan_of(400, lengths=lengths, length_window=100).rows - 100].reshape(100, 4).mean(axis=1)
    assert abs(np.corrcoef(order, np.arange(100))[0, 1]) < 0.3


def test_epoch_plan_order_of_earlier_versions_stays() -> None:
    """Checkpoints hold a digest of the plan: a run that was left must find its own again."""
    plan = plan_of(13, weights=np.full(13, 1.5), lengths=np.arange(13) * 7 % 11, world_size=2, length_window=1, seed=5)
    assert plan.rows.tolist() == [
        [[[111, 111, 100, 105]], [[102, 107, 104, 104]]],
        [[[108, 105, 107, 112]], [[109, 106, 106, 103]]],
        [[[108, 110, 112, -1]], [[101, 103, -1, -1]]],
    ]


@given(
    samples=st.integers(0, 60),
    batch_size=st.integers(1, 6),
    accumulate=st.integers(1, 3),
    world_size=st.integers(1, 4),
    length_window=st.integers(1, 3),
    batch_tokens=st.integers(1, 60),
    order=st.sampled_from(["shuffled", "easy_first"]),
)
@settings(max_examples=100, deadline=None)
def test_epoch_plan_token_budget_keeps_each_sample_once_equal_ranks_and_the_budget(samples: int, **shape: Any) -> None:
    lengths = np.arange(samples) * 5 % 23 + 1
    plan = plan_of(samples, lengths=lengths, strength=np.linspace(0, 1, samples), **shape)
    assert sorted(real_rows(plan)) == list(range(100, 100 + samples))
    assert len(plan) % shape["accumulate"] == 0
    for rank in range(shape["world_size"]):
        for batch in (plan.batch(rank, number) for number in range(len(plan))):
            assert 1 <= len(batch.rows) <= shape["batch_size"]
            assert len(batch.rows) == 1 or len(batch.rows) * lengths[batch.rows - 100].max() <= shape["batch_tokens"]


def test_epoch_plan_token_budget_by_hand() -> None:
    """Lengths 10, 6, 5, 4, 3, 1 within 12 places: 10 | 6, 5 | 4, 3, 1; for two ranks the last is halved: 4, 3 | 1."""
    lengths = [1, 10, 4, 3, 6, 5]
    plan = plan_of(6, lengths=lengths, batch_tokens=12, length_window=9, world_size=2)
    found = [[sorted(lengths[row - 100] for row in rank[0] if row >= 0) for rank in step] for step in plan.rows]
    assert found == [[[10], [5, 6]], [[3, 4], [1]]]
    assert not plan.filler.any()


def test_epoch_plan_token_budget_too_few_samples_are_filled_with_weight_zero() -> None:
    plan = plan_of(3, lengths=[3, 2, 1], batch_tokens=6, length_window=1, world_size=4)
    assert plan.rows[..., 0].ravel().tolist() == [100, 101, 102, 102]
    assert plan.filler[..., 0].ravel().tolist() == [False, False, False, True]


def test_epoch_plan_token_budget_seed_and_epoch_change_the_order_and_nothing_else() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 400)
    options = {"lengths": lengths, "batch_tokens": 100, "length_window": 5, "world_size": 2}
    plans = {(s, e): plan_of(400, seed=s, epoch=e, **options).rows for s in (0, 1) for e in (0, 1)}
    np.testing.assert_array_equal(plans[0, 0], plan_of(400, **options).rows)
    assert len({rows.tobytes() for rows in plans.values()}) == 4


def test_epoch_plan_easy_first_comes_before_but_windows_are_mixed() -> None:
    """Windows of 10 steps of 4: the strongest 40 samples come first, in no order among themselves."""
    strength = np.random.default_rng(1).permutation(400) / 400
    for budget in ({}, {"batch_tokens": 4}):
        plan = plan_of(400, length_window=10, order="easy_first", strength=strength, **budget)
        means = strength[plan.rows - 100].reshape(10, 40).mean(axis=1)
        assert (np.diff(means) < 0).all()
        assert sorted(strength[plan.rows[:10].ravel() - 100] * 400) == list(range(360, 400))
        inside = strength[plan.rows[:10].ravel() - 100]
        assert (np.diff(inside) > 0).any() and (np.diff(inside) < 0).any()


def test_padding_share_by_hand() -> None:
    """Lengths 4 and 2 and, on the other rank, 3 and the filler 4: 9 tokens of 2 x 4 + 2 x 4 places."""
    rows = np.array([[[[0, 1]], [[2, 0]]]])
    filler = np.array([[[[False, False]], [[False, True]]]])
    assert padding_share(EpochPlan(rows, filler), np.array([4, 2, 3])) == 1 - 9 / 16


def test_padding_share_of_places_that_are_none_is_nothing() -> None:
    rows = np.array([[[[0, -1]]], [[[1, 1]]]])
    assert padding_share(EpochPlan(rows, np.zeros(rows.shape, bool)), np.array([4, 2])) == 0
    assert padding_share(plan_of(0), np.zeros(0)) == 0


def test_padding_share_falls_with_grouping_by_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 2000)
    shares = [
        padding_share(plan_of(2000, lengths=lengths, **options), np.concatenate([np.zeros(100, np.int64), lengths]))
        for options in ({}, {"length_window": 50}, {"length_window": 50, "batch_tokens": 3000})
    ]
    assert shares[0] > 0.3 and shares[1] < 0.05 and shares[2] < 0.05


def test_epoch_plan_nothing_active_is_empty() -> None:
    assert len(plan_of(0)) == 0
