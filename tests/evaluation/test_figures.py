"""Figures worked out by hand: ties, macro, groups, two orders, pairs without scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.evaluation.benchmarks import DEFINITIONS, BenchmarkPair, Definition
from mrm.evaluation.figures import Figure, Figures, compute_figures, judge

VL, MM, MMRB = (DEFINITIONS[name] for name in ("vl_rewardbench", "mm_rlhf_rewardbench", "multimodal_rewardbench"))
NAN = float("nan")


def pair(category: str, id: str = "x", group: str = "", chosen: str | None = "ab", orders: int = 1) -> BenchmarkPair:
    return BenchmarkPair(id, category, chosen, "b", group=group, orders=orders)


def figures(
    definition: Definition, pairs: list[BenchmarkPair], scores: list[tuple[float, float]], draws: int = 200
) -> Figures:
    """With one judgement a pair."""
    chosen, rejected = np.array(scores, float).T
    judged = judge(chosen, rejected, np.arange(len(scores)), len(pairs))
    return compute_figures(definition, pairs, judged, draws=draws)


def test_judge_tie_is_wrong_and_counted() -> None:
    judged = judge(np.array([1.0, 0.5, 0.5]), np.array([0.5, 0.5, 1.0]), np.arange(3), 3)
    assert judged.right.tolist() == [1, 0, 0] and judged.ties.tolist() == [0, 1, 0] and judged.scored.all()


def test_judge_two_orders_count_half_each() -> None:
    judged = judge(
        np.array([1.0, 0.0, 2.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0, 0.0, 0.0]), np.array([0, 0, 1, 1, 2]), 3
    )
    assert judged.right.tolist() == [0.5, 0.5, 1.0]
    assert judged.ties.tolist() == [0, 1, 0] and judged.orders.tolist() == [2, 2, 1]


def test_judge_pair_without_one_of_its_scores_is_not_scored() -> None:
    judged = judge(np.array([1.0, NAN, 1.0]), np.array([0.0, 0.0, np.inf]), np.array([0, 0, 1]), 3)
    assert judged.scored.tolist() == [False, False, False]


def test_compute_figures_vl_rewardbench_overall_and_macro() -> None:
    pairs = [pair(category) for category in ["general"] * 2 + ["hallucination"] * 4 + ["reasoning"] * 2]
    scores = [(1, 0), (0, 1), (1, 0), (1, 0), (1, 0), (0, 0), (0, 1), (2, 2)]
    found = figures(VL, pairs, scores)
    assert found.overall.value == 4 / 8 and found.overall.n == 8
    assert found.overall.ties == 2 and found.overall.tie_rate == 0.25
    assert {name: figure.value for name, figure in found.categories.items()} == {
        "general": 1 / 2, "hallucination": 3 / 4, "reasoning": 0.0,
    }  # fmt: skip
    assert found.macro.value == pytest.approx((1 / 2 + 3 / 4 + 0) / 3)
    assert found.acc_plus is None and found.consistent is None


def test_compute_figures_repeated_ids_are_pairs_of_their_own() -> None:
    found = figures(VL, [pair("reasoning", "mathverse_1"), pair("reasoning", "mathverse_1")], [(1, 0), (0, 1)])
    assert found.overall.n == 2 and found.overall.value == 0.5


def test_compute_figures_macro_is_the_mean_of_the_categories_that_are_there() -> None:
    found = figures(VL, [pair("general"), pair("reasoning"), pair("reasoning")], [(1, 0), (0, 1), (0, 1)])
    assert list(found.categories) == ["general", "reasoning"] and found.macro.value == 0.5


def test_compute_figures_acc_plus_needs_every_pair_of_a_group() -> None:
    pairs = [
        *[pair("mcq", "a", "a")] * 2,
        *[pair("mcq", "b", "b")] * 3,
        *[pair("video", "c", "c")],
        *[pair("video", "d", "d")] * 2,
    ]
    scores = [(1, 0), (1, 0), (1, 0), (1, 1), (1, 0), (1, 0), (1, 0), (0, 1)]
    found = figures(MM, pairs, scores)
    assert found.overall.value == 6 / 8
    assert found.acc_plus is not None and (found.acc_plus.value, found.acc_plus.n) == (2 / 4, 4)
    assert {name: (f.value, f.n) for name, f in found.acc_plus_categories.items()} == {
        "mcq": (1 / 2, 2), "video": (1 / 2, 2),
    }  # fmt: skip
    assert found.categories["mcq"].value == 4 / 5 and found.categories["video"].value == 2 / 3


def test_compute_figures_groups_need_not_stand_together() -> None:
    pairs = [pair("mcq", "a", "a"), pair("mcq", "b", "b"), pair("mcq", "a", "a")]
    found = figures(MM, pairs, [(1, 0), (1, 0), (0, 1)])
    assert found.acc_plus is not None and found.acc_plus.value == 1 / 2


def test_compute_figures_group_without_a_score_is_in_no_acc_plus() -> None:
    pairs = [pair("mcq", "a", "a"), pair("mcq", "a", "a"), pair("mcq", "b", "b")]
    found = figures(MM, pairs, [(1, 0), (NAN, NAN), (1, 0)])
    assert found.overall.n == 2 and found.incomplete_groups == ("a",)
    assert found.acc_plus is not None and (found.acc_plus.value, found.acc_plus.n) == (1.0, 1)
    none = figures(MM, pairs[:2], [(1, 0), (NAN, NAN)])
    assert none.acc_plus is None and none.overall.value == 1


def test_compute_figures_without_safety_leaves_out_that_category_alone() -> None:
    pairs = [pair(name) for name in ("safety", "safety", "math", "coding", "vqa")]
    found = figures(MMRB, pairs, [(0, 1), (0, 1), (1, 0), (0, 1), (1, 0)])
    assert found.overall.value == 2 / 5
    assert found.subsets["overall_without_safety"].value == 2 / 3 and found.subsets["overall_without_safety"].n == 3
    assert found.subsets["math_and_coding"].value == 1 / 2


def test_compute_figures_two_orders_give_their_mean_and_the_consistent_share() -> None:
    pairs = [pair("t2i", orders=2)] * 2 + [pair("edit", orders=2)]
    chosen, rejected = np.array([1.0, 1, 1, 0, 0, 1]), np.array([0.0, 0, 0, 1, 1, 1])
    judged = judge(chosen, rejected, np.array([0, 0, 1, 1, 2, 2]), 3)
    found = compute_figures(DEFINITIONS["mmrb2"], pairs, judged, draws=200)
    assert found.overall.value == 3 / 6 and found.overall.n == 3
    assert found.overall.ties == 1 and found.overall.tie_rate == 1 / 6
    assert found.consistent is not None and found.consistent.value == 1 / 3
    assert {name: figure.value for name, figure in found.categories.items()} == {"t2i": 3 / 4, "edit": 0.0}


def test_compute_figures_length_only_stands_beside_each_figure() -> None:
    pairs = [pair("general", chosen="long"), pair("general", chosen="b"), pair("reasoning", chosen=None)]
    found = figures(VL, pairs, [(1, 0)] * 3)
    assert found.categories["general"].length_only == 0.75
    assert found.overall.length_only is None and found.macro.length_only is None
    grouped = [BenchmarkPair("a", "mcq", chosen, "b", group="a") for chosen in ("long", "c", "d")]
    acc_plus = figures(MM, grouped, [(1, 0)] * 3).acc_plus
    assert acc_plus is not None and acc_plus.length_only == 0.25


def test_compute_figures_no_scores_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair has scores"):
        figures(VL, [pair("general")], [(NAN, NAN)])


def test_compute_figures_same_seed_same_interval() -> None:
    pairs, scores = [pair("general")] * 20, [(1, 0)] * 12 + [(0, 1)] * 8
    assert figures(VL, pairs, scores) == figures(VL, pairs, scores)
    overall = figures(VL, pairs, scores).overall
    assert overall.low < 0.6 < overall.high


def test_compute_figures_acc_plus_ties_are_groups_that_hold_one() -> None:
    """Group a: three ties; b: right and a tie; c: wrong, no tie. Of the pairs 4 in 6 tie, of the groups 2 in 3."""
    pairs = [pair("mcq", "a", "a")] * 3 + [pair("video", "b", "b")] * 2 + [pair("video", "c", "c")]
    found = figures(MM, pairs, [(1, 1), (1, 1), (1, 1), (1, 0), (0, 0), (0, 1)])
    assert (found.overall.ties, found.overall.tie_rate) == (4, pytest.approx(4 / 6))
    assert found.acc_plus is not None
    assert (found.acc_plus.n, found.acc_plus.ties, found.acc_plus.tie_rate) == (3, 2, pytest.approx(2 / 3))
    assert {name: (f.ties, f.n) for name, f in found.acc_plus_categories.items()} == {"mcq": (1, 1), "video": (1, 2)}


def test_compute_figures_consistent_ties_are_pairs_that_hold_one() -> None:
    """Pair 0 ties in both orders, pair 1 in one, pair 2 in none: of six judgements three, of three pairs two."""
    chosen, rejected = np.array([1.0, 1, 1, 1, 1, 1]), np.array([1.0, 1, 0, 1, 0, 0])
    judged = judge(chosen, rejected, np.array([0, 0, 1, 1, 2, 2]), 3)
    found = compute_figures(DEFINITIONS["mmrb2"], [pair("t2i", orders=2)] * 3, judged, draws=200)
    assert (found.overall.ties, found.overall.tie_rate) == (3, 0.5)
    assert found.consistent is not None and found.consistent.value == pytest.approx(1 / 3)
    assert (found.consistent.n, found.consistent.ties, found.consistent.tie_rate) == (3, 2, pytest.approx(2 / 3))


def test_compute_figures_all_right_or_all_wrong_have_the_exact_interval_of_their_units() -> None:
    """Four groups of two pairs, all right: 0.025 ** (1 / 4); the pairs of a group are drawn together."""
    pairs = [pair("mcq", name, name) for name in "aabbccdd"]
    right, wrong = (figures(MM, pairs, [score] * 8) for score in ((1, 0), (0, 1)))
    low = 0.025**0.25
    for found in (right.overall, right.categories["mcq"], right.acc_plus):
        assert found is not None and (found.low, found.high) == (pytest.approx(low), 1.0)
    for found in (wrong.overall, wrong.acc_plus, wrong.acc_plus_categories["mcq"]):
        assert found is not None and (found.low, found.high) == (0.0, pytest.approx(1 - low))
    # The macro accuracy of one category is the category's; its draws are spread evenly, but they are 200.
    assert (right.macro.low, right.macro.high) == (pytest.approx(low, abs=1e-3), 1.0)
    assert (wrong.macro.low, wrong.macro.high) == (0.0, pytest.approx(1 - low, abs=1e-3))


def macro_of(*categories: tuple[int, int]) -> Figure:
    """Of categories with so many pairs right of so many, with enough draws for the third decimal."""
    names, right = [], []
    for name, (some, n) in zip(VL.categories, categories, strict=False):
        names += [name] * n
        right += [(1, 0)] * some + [(0, 1)] * (n - some)
    return figures(VL, [pair(name) for name in names], right, draws=40_000).macro


def test_compute_figures_macro_of_unanimous_categories_by_hand() -> None:
    """Of right categories, the lower ends u ** (1 / n) are drawn; of wrong ones, the upper ends 1 - u ** (1 / n)."""
    # 2 of 2, 0 of 1: (sqrt(u) + 0) / 2 and (1 + 1 - u) / 2.
    macro = macro_of((2, 2), (0, 1))
    assert macro.value == 0.5
    assert (macro.low, macro.high) == (pytest.approx(0.025**0.5 / 2, abs=1e-4), pytest.approx(1 - 0.0125, abs=1e-4))
    # 1 of 1 twice: u + v is below s with the chance s ** 2 / 2, 0.025 at the root of 0.05; their mean is half of it.
    macro = macro_of((1, 1), (1, 1))
    assert (macro.low, macro.high) == (pytest.approx(0.05**0.5 / 2, abs=0.005), 1.0)
    # 3 of 3 twice: s ** 6 / 20 is 0.025 at 0.5 ** (1 / 6), with the density 3 x ** 2 of both.
    macro = macro_of((3, 3), (3, 3))
    assert (macro.low, macro.high) == (pytest.approx(0.5 ** (1 / 6) / 2, abs=0.005), 1.0)
    # 0 of 3 twice is the mirror image.
    macro = macro_of((0, 3), (0, 3))
    assert (macro.low, macro.high) == (0.0, pytest.approx(1 - 0.5 ** (1 / 6) / 2, abs=0.005))


def test_compute_figures_macro_of_a_unanimous_category_beside_another_is_not_surer_than_it() -> None:
    # 1 of 2 is drawn 0, 1 / 2, 1, a quarter, a half, a quarter: below x < 1 / 4 lies sqrt(u) < 2 x with 0, x ** 2 in all.
    macro = macro_of((2, 2), (1, 2))
    assert (macro.low, macro.high) == (pytest.approx(0.025**0.5, abs=0.005), 1.0)
    # 3 of 3 may be 0.292; 400 of 500 spreads by 0.018 and adds little: (0.292 + 0.8) / 2, and (1 + 0.8 + 0.035) / 2.
    macro = macro_of((3, 3), (400, 500))
    assert macro.value == 0.9
    assert (macro.low, macro.high) == (pytest.approx(0.546, abs=0.006), pytest.approx(0.9175, abs=0.002))


def test_compute_figures_macro_does_not_jump_where_a_category_becomes_unanimous() -> None:
    nearly, all_right = macro_of((3, 3), (499, 500)), macro_of((3, 3), (500, 500))
    assert nearly.low == pytest.approx(all_right.low, abs=0.01) and all_right.high == 1.0
    assert nearly.high == pytest.approx(all_right.high, abs=0.001)


CATEGORIES = st.sampled_from(VL.categories)
SCORES = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(st.lists(st.tuples(CATEGORIES, SCORES), min_size=1, max_size=12), st.randoms())
def test_compute_figures_order_and_monotone_maps_change_nothing(rows, random) -> None:  # type: ignore[no-untyped-def]
    def found(rows, change=lambda score: score):  # type: ignore[no-untyped-def]
        scores = [(change(one), change(other)) for _, (one, other) in rows]
        return figures(VL, [pair(name) for name, _ in rows], scores)

    shuffled = list(rows)
    random.shuffle(shuffled)
    first = found(rows)
    assert first == found(shuffled) == found(rows, lambda score: 3 * score - 7)
    right = sum(one > other for _, (one, other) in rows)
    assert first.overall.value == right / len(rows)
    assert first.overall.n == sum(figure.n for figure in first.categories.values())
