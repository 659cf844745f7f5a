"""Tests of paired differences, on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.paired import holm, mcnemar, paired_bootstrap, paired_t

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def test_paired_t_is_worked_out_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 2 sqrt(3), two degrees of freedom: p = 1 - t / sqrt(2 + t^2)
    found = paired_t([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    t = 2 * math.sqrt(3)
    assert found.interval.estimate == 2.0
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert found.p == pytest.approx(0.0741799, abs=1e-6)
    assert found.interval.excludes_zero is False  # as p is above 0.05


def test_paired_t_of_one_seed_tells_nothing_of_noise() -> None:
    found = paired_t([0.9], [0.8])
    assert found.interval.estimate == pytest.approx(0.1)
    assert (found.p, found.interval.low, found.unknown) == (None, None, "one shared seed")


def test_paired_t_of_equal_differences_is_not_taken_for_certainty() -> None:
    found = paired_t([0.9, 0.8], [0.8, 0.7])
    assert (found.p, found.interval.low, found.unknown) == (None, None, "all seeds differ by the same")
    same = paired_t([0.9, 0.1 + 0.2], [0.9, 0.3])  # but for rounding
    assert same.p == 1.0 and same.interval.excludes_zero is False


@given(st.lists(st.integers(0, 399), min_size=2, max_size=8), st.integers(1, 10))
def test_paired_t_of_equal_differences_in_32_bits_is_not_taken_for_certainty(right: list[int], more: int) -> None:
    """So many samples more of 400 by each seed; runs log accuracies in 32 bits, and their differences differ in the last."""
    one, other = (np.float32([(n + extra) / 400 for n in right]).astype(float) for extra in (more, 0))
    assert paired_t(one, other).unknown == "all seeds differ by the same" and paired_t(one, other).p is None
    assert paired_t(other, other).p == 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_paired_t_interval_and_p_agree(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    found, turned = paired_t(first, second), paired_t(second, first)
    assert found.p == pytest.approx(turned.p) if found.p is not None else turned.p is None
    if found.p is not None and abs(found.p - 0.05) > 1e-6:
        assert found.interval.excludes_zero is (found.p < 0.05)


def test_mcnemar_is_worked_out_by_hand() -> None:
    # One sample only the first has right, five only the second: P(X <= 1) = (1 + 6) / 64, P(X = 1) = 6 / 64
    first = [1, 0, 0, 0, 0, 0, 1, 1, 0]
    second = [0, 1, 1, 1, 1, 1, 1, 1, 0]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 5)
    assert found.exact == pytest.approx(14 / 64)
    assert found.mid == pytest.approx(8 / 64)  # 2 x 1/64 + 6/64


def test_mcnemar_without_discordant_samples_finds_nothing() -> None:
    assert mcnemar([1, 0], [1, 0]).exact == mcnemar([1, 0], [1, 0]).mid == 1.0


def test_mcnemar_of_many_samples_is_finite() -> None:
    first = np.arange(40_000) < 19_000
    found = mcnemar(first, ~first)  # 19,000 against 21,000: ten standard deviations
    assert 0 < found.mid < found.exact < 1e-20


@given(OUTCOMES)
def test_mcnemar_is_symmetric_and_the_mid_p_is_less_timid(outcomes: list[tuple[bool, bool]]) -> None:
    first, second = zip(*outcomes, strict=True)
    found, turned = mcnemar(first, second), mcnemar(second, first)
    assert (found.only_first, found.only_second) == (turned.only_second, turned.only_first)
    assert found.exact == turned.exact and found.mid == turned.mid
    assert 0 < found.mid <= found.exact <= 1


def test_paired_bootstrap_tells_a_clear_difference_from_none() -> None:
    random = np.random.default_rng(0)
    right = random.random(400) < 0.8
    better = right | (random.random(400) < 0.5)
    found = paired_bootstrap(better, right, seed=1, draws=2000)
    assert found.interval.excludes_zero and found.p == pytest.approx(2 / 2001)  # the smallest that there is
    same = paired_bootstrap(right, right, seed=1, draws=2000)
    assert same.p == 1.0 and same.interval.excludes_zero is False


@pytest.mark.parametrize(("apart", "least"), [(1, 1.0), (2, 0.5), (5, 1 / 16), (20, 2 / 2001)])
def test_paired_bootstrap_of_few_that_differ_all_one_way_is_no_certainty(apart: int, least: float) -> None:
    """The chance that k signs are alike is 2 ** (1 - k), as of McNemar's exact test."""
    first = np.arange(400) < apart
    found = paired_bootstrap(first, np.zeros(400), seed=0, draws=2000)
    assert found.p == pytest.approx(max(least, found.p)) and found.p >= least - 1e-12
    if apart < 6:
        assert found.p >= mcnemar(first, np.zeros(400)).exact - 1e-12
    by_prompt = paired_bootstrap(first, np.zeros(400), seed=0, draws=2000, clusters=np.arange(400) // 20)
    assert by_prompt.p == 1.0  # one prompt


def test_paired_bootstrap_pairs_of_one_prompt_are_worth_one() -> None:
    right, wrong = np.ones(40), np.zeros(40)
    mixed = np.where(np.arange(40) < 30, right, wrong)
    apart = paired_bootstrap(mixed, 1 - mixed, seed=0, draws=2000)
    together = paired_bootstrap(mixed, 1 - mixed, seed=0, draws=2000, clusters=np.arange(40) // 10)
    assert apart.interval.n == 40 and together.interval.n == 4
    assert together.interval.half_width > 2 * apart.interval.half_width
    assert paired_bootstrap([1.0], [0.0], seed=0).p is None


def test_holm_is_worked_out_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04 raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= np.array(p_values)).all() and (adjusted <= 1).all()
    order = np.argsort(p_values)
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values)) + 1e-12).all()  # never above Bonferroni's
