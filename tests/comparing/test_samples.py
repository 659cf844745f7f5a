"""Two groups on the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from mrm.comparing.grouping import Group
from mrm.comparing.samples import draws_for, sample_tests
from mrm.evaluation.sample_scores import SampleScores
from tests.comparing.making import made_run


def scores(right: str, keys: str | None = None) -> SampleScores:
    """Of pairs that are right where there is a 1; a key a pair, or letters."""
    chosen = np.array([float(one) for one in right], np.float32)
    names = list(keys) if keys else [f"k{i}" for i in range(len(right))]
    pair = [names[:i].count(name) for i, name in enumerate(names)]
    return SampleScores(np.array(names, object), np.array(pair), chosen, np.full(len(right), 0.5, np.float32))


def group(name: str, *seeds: int) -> Group:
    return Group(name, {seed: made_run(name, seed) for seed in seeds}, {})


def found_of(kept: dict[str, dict[int, dict[str, SampleScores]]], sets: tuple[str, ...] = ("a",)):
    full, base = (group(name, *kept[name]) for name in ("full", "base"))
    return sample_tests(full, base, sets, lambda run: kept[run.experiment][run.seed], draws=2000)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("tests", [1, 78, 500])
def test_draws_for_many_tests_let_one_of_them_stand(level: float, tests: int) -> None:
    assert tests * 2 / (draws_for(tests, level) + 1) < (1 - level) / 2


def test_sample_tests_count_discordant_pairs_by_seed_and_average_over_seeds() -> None:
    kept = {
        "full": {1: {"a": scores("11110")}, 2: {"a": scores("11111")}},
        "base": {1: {"a": scores("11001")}, 2: {"a": scores("11001")}},
    }
    found = found_of(kept)["a"]
    assert {seed: (one.only_first, one.only_second) for seed, one in found.mcnemar.items()} == {1: (2, 1), 2: (2, 0)}
    # By pair, the mean over seeds: 0, 0, 1, 1, -1/2
    assert found.test.interval.estimate == pytest.approx(1.5 / 5)
    assert (found.pairs, found.unshared, found.seeds, found.related) == (5, 0, (1, 2), False)


def test_sample_tests_pair_rows_by_key_whatever_their_order() -> None:
    turned = scores("011", "cab")
    kept = {"full": {1: {"a": scores("110", "abc")}}, "base": {1: {"a": turned}}}
    found = found_of(kept)["a"]
    assert found.test.interval.estimate == 0 and found.test.p == 1.0 and found.mcnemar[1].exact == 1.0


def test_sample_tests_pairs_that_not_all_have_are_left_out_and_counted() -> None:
    kept = {"full": {1: {"a": scores("110", "abc")}}, "base": {1: {"a": scores("01", "ac")}}}
    found = found_of(kept)["a"]
    assert (found.pairs, found.unshared) == (2, 1) and found.test.interval.estimate == 0.0


def test_sample_tests_pairs_of_one_sample_are_drawn_together() -> None:
    kept = {"full": {1: {"a": scores("1111", "aabb")}}, "base": {1: {"a": scores("1100", "aabb")}}}
    found = found_of(kept)["a"]
    assert found.related and found.test.interval.n == 2 and found.pairs == 4
    assert (found.test.interval.low, found.test.interval.high) == (0.0, 1.0)


def test_sample_tests_mean_is_over_sets_and_not_over_pairs() -> None:
    small, large = scores("1111"), scores("1" * 40)
    kept = {
        "full": {1: {"a": small, "b": large}},
        "base": {1: {"a": scores("0000"), "b": large}},
    }
    found = found_of(kept, ("a", "b"))
    assert found["mean"].test.interval.estimate == pytest.approx(0.5) and found["mean"].pairs == 44
    assert found["mean"].mcnemar == {} and "mean" not in found_of(kept, ("a",))


def test_sample_tests_without_scores_or_seeds_of_both_are_none() -> None:
    assert found_of({"full": {1: {"a": scores("11")}}, "base": {1: {}}}) == {}
    assert found_of({"full": {1: {"a": scores("11")}}, "base": {2: {"a": scores("11")}}}) == {}
    assert found_of({"full": {1: {"a": scores("11", "ab")}}, "base": {1: {"a": scores("11", "cd")}}}) == {}
