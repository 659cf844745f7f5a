"""The policy against numbers worked out by hand, and against its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrm.curation.policy import (
    check_cap,
    consistent,
    distrusted,
    mean_strength,
    spread,
    unanimous,
    uncertain,
    vote,
)
from mrm.errors import CurationError

NAN = np.nan
sizes = st.integers(0, 30)
# Few distinct values, so that ties happen; NaN and infinities among them.
scores = st.sampled_from([-3.0, -1.5, -1.0, -0.0, 0.0, 0.5, 2.0, np.nan, np.inf, -np.inf])
shares = st.sampled_from([0.0, 0.5, 1.0, np.nan])


def score_arrays(n: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, n, elements=scores)


score_pairs = sizes.flatmap(lambda n: st.tuples(score_arrays(n), score_arrays(n)))
proportions = st.sampled_from([0.0, 0.1, 0.29, 0.3, 0.5, 0.7, 1.0])
zones = st.sampled_from([0.0, 0.5, 1.0, 2.5])
pass_tables = st.tuples(st.integers(1, 4), st.integers(0, 12)).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=scores)
)
vote_tables = st.tuples(st.integers(0, 12), st.integers(1, 6)).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=shares)
)


def test_mean_strength_two_passes_averages_the_differences():
    chosen = np.array([[2.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
    rejected = np.array([[1.0, 3.0, 0.0], [1.0, 1.0, 0.0]])
    # differences (1, 3), (-2, 0), (0, 0)
    np.testing.assert_array_equal(mean_strength(chosen, rejected), [2.0, -1.0, 0.0])


def test_mean_strength_one_pass_missing_is_unknown():
    strength = mean_strength(np.array([[1.0, NAN, np.inf], [1.0, 5.0, 1.0]]), np.zeros((2, 3)))
    np.testing.assert_array_equal(strength, [1.0, NAN, NAN])


def test_mean_strength_shapes_differ_raises():
    with pytest.raises(CurationError, match="one shape"):
        mean_strength(np.zeros(3), np.zeros(4))


def test_spread_is_the_deviation_of_the_differences_over_the_passes():
    chosen = np.array([[2.0, 1.0, 0.0], [4.0, 1.0, NAN], [3.0, 1.0, 0.0]])
    rejected = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [5.0, 1.0, 0.0]])
    # differences 1, 3, -2: mean 2/3, squares (1/9 + 49/9 + 64/9) / 3 = 38/9
    np.testing.assert_allclose(spread(chosen, rejected), [np.sqrt(38 / 9), 0.0, NAN])


def test_spread_one_pass_is_zero_and_unknown_where_not_finite():
    np.testing.assert_array_equal(spread(np.array([3.0, NAN, np.inf]), np.zeros(3)), [0.0, NAN, NAN])


@given(score_pairs)
def test_spread_swapped_sides_is_the_same_and_unknown_where_the_mean_is(pair):
    chosen, rejected = pair
    found = spread(chosen, rejected)
    np.testing.assert_array_equal(found, spread(rejected, chosen))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(mean_strength(chosen, rejected)))


def test_distrusted_five_negatives_selects_the_two_most_negative():
    #                    -0.1 -5    +3   -2    0    -1    -0.2  NaN
    strength = np.array([-0.1, -5.0, 3.0, -2.0, 0.0, -1.0, -0.2, NAN])
    np.testing.assert_array_equal(np.flatnonzero(distrusted(strength)), [1, 3])


@pytest.mark.parametrize("strength", [[], [-1.0], [NAN, NAN], [0.0, 1.0]])
def test_distrusted_fewer_than_two_negatives_selects_none(strength):
    assert not distrusted(np.array(strength)).any()


def test_distrusted_tie_at_the_cut_follows_the_tie_break():
    strength = np.array([-1.0, -1.0, -1.0])
    assert np.flatnonzero(distrusted(strength)).tolist() == [0]
    assert np.flatnonzero(distrusted(strength, 0.5, np.array(["c", "b", "a"]))).tolist() == [2]


@pytest.mark.parametrize(
    ("share", "negatives", "expected"),
    [(0.3, 10, 3), (0.29, 100, 29), (0.7, 10, 7), (0.57, 100, 57), (1.0, 7, 7), (0.0, 7, 0), (0.999, 7, 6)],
)
def test_distrusted_share_is_the_floor_of_the_decimal_product(share, negatives, expected):
    assert int(share * negatives) in (expected, expected - 1)  # binary products fall short of some
    assert distrusted(-np.arange(1.0, negatives + 1), share).sum() == expected


@pytest.mark.parametrize("share", [-0.1, 1.1, NAN])
def test_distrusted_share_outside_zero_and_one_raises(share):
    with pytest.raises(CurationError, match=r"in \[0, 1\]"):
        distrusted(np.array([-1.0]), share)


def test_distrusted_tie_break_as_a_function_is_asked_only_for_ties_at_the_cut():
    strength, asked = np.array([-9.0, -1.0, -1.0, -1.0, 5.0]), []

    def names(rows):
        asked.append(rows.tolist())
        return -rows

    assert np.flatnonzero(distrusted(strength, 0.5, names)).tolist() == [0, 3]  # 2 of 4: the last of the tied
    distrusted(np.array([-9.0, -8.0, -1.0, -1.0]), 0.5, names)  # no tie at the cut
    distrusted(strength, 1.0, names)  # all of the tied are wanted
    assert asked == [[1, 2, 3]]


@given(hnp.arrays(np.float64, sizes, elements=scores), proportions, proportions)
def test_distrusted_larger_share_selects_all_that_a_smaller_one_does(strength, one, other):
    names = np.arange(len(strength))[::-1]
    less, more = (distrusted(strength, share, names) for share in sorted((one, other)))
    assert not (less & ~more).any()


@given(hnp.arrays(np.float64, sizes, elements=scores), proportions)
def test_distrusted_never_selects_a_pair_and_its_mirror(strength, share):
    assert not (distrusted(strength, share) & distrusted(-strength, share)).any()


@given(hnp.arrays(np.float64, sizes, elements=scores))
def test_distrusted_any_scores_selects_half_of_the_negatives_and_the_worst(strength):
    selected = distrusted(strength)
    negative = strength < 0
    assert selected.sum() == negative.sum() // 2
    assert not selected[~negative].any()
    rest = negative & ~selected
    if selected.any():
        assert strength[selected].max() <= strength[rest].min()


@given(hnp.arrays(np.float64, sizes, elements=scores), st.randoms(use_true_random=False))
def test_distrusted_permuted_pairs_permutes_the_selection(strength, random):
    names = np.array([f"pair{i}" for i in range(len(strength))], dtype=str)
    order = np.array(random.sample(range(len(strength)), len(strength)), dtype=int)
    np.testing.assert_array_equal(
        distrusted(strength[order], 0.5, names[order]), distrusted(strength, 0.5, names)[order]
    )


@given(score_pairs)
def test_mean_strength_swapped_sides_mirrors(pair):
    chosen, rejected = pair
    np.testing.assert_array_equal(mean_strength(chosen, rejected), -mean_strength(rejected, chosen))


def test_consistent_tie_and_nan_are_inconsistent():
    chosen = np.array([2.0, 1.0, 1.0, NAN, 1.0, NAN, np.inf])
    rejected = np.array([1.0, 2.0, 1.0, 1.0, NAN, NAN, 1.0])
    np.testing.assert_array_equal(consistent(chosen, rejected), [True, False, False, False, False, False, False])


@given(score_pairs)
def test_consistent_swapped_sides_never_keeps_both_ways(pair):
    chosen, rejected = pair
    one_way, other_way = consistent(chosen, rejected), consistent(rejected, chosen)
    assert not (one_way & other_way).any()
    decided = np.isfinite(chosen) & np.isfinite(rejected) & (chosen != rejected)
    np.testing.assert_array_equal(one_way | other_way, decided)


def test_consistent_dead_zone_tells_agreement_doubt_and_contradiction():
    difference = np.array([1.5, 1.0, 0.3, 0.0, -1.0, -1.5, NAN])
    zeros = np.zeros(7)
    assert consistent(difference, zeros, 1.0).tolist() == [True] + [False] * 6  # at the edge is inside
    assert uncertain(difference, zeros, 1.0).tolist() == [False, True, True, True, True, False, False]
    assert uncertain(difference, zeros).tolist() == [False] * 3 + [True] + [False] * 3  # a tie
    zones = np.array([2.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert consistent(difference, zeros, zones).tolist() == [False, True, True, False, False, False, False]


@pytest.mark.parametrize("rule", [consistent, uncertain, lambda c, r, zone: unanimous(c - r, zone)])
@pytest.mark.parametrize("zone", [-0.1, NAN, np.array([0.0, -1.0])])
def test_dead_zone_negative_or_unknown_raises(rule, zone):
    with pytest.raises(CurationError, match="at least 0"):
        rule(np.ones(2), np.zeros(2), zone)


@given(score_pairs, zones, zones)
def test_consistent_larger_dead_zone_never_keeps_more(pair, one, other):
    small, large = sorted((one, other))
    assert not (consistent(*pair, large) & ~consistent(*pair, small)).any()


@given(score_pairs, zones)
def test_consistent_uncertain_and_against_are_one_each_of_the_known(pair, zone):
    chosen, rejected = pair
    ways = np.stack(
        [consistent(chosen, rejected, zone), uncertain(chosen, rejected, zone), consistent(rejected, chosen, zone)]
    )
    np.testing.assert_array_equal(ways.sum(axis=0), np.isfinite(chosen) & np.isfinite(rejected))


def test_unanimous_two_models_agree_differ_or_have_no_opinion():
    strengths = np.array([[2.0, -1.0, 1.0, 0.0, 0.5, NAN, -2.0], [0.1, -3.0, -1.0, 1.0, 2.0, 1.0, -np.inf]])
    assert unanimous(strengths).tolist() == [1, -1, 0, 0, 1, 0, 0]
    assert unanimous(strengths, 0.5).tolist() == [0, -1, 0, 0, 0, 0, 0]


def test_unanimous_no_model_raises():
    with pytest.raises(CurationError, match="at least one model"):
        unanimous(np.zeros((0, 3)))


@given(pass_tables, zones, st.randoms(use_true_random=False))
def test_unanimous_mirrors_and_does_not_depend_on_the_order_of_models_or_pairs(strengths, zone, random):
    verdict = unanimous(strengths, zone)
    np.testing.assert_array_equal(unanimous(-strengths, zone), -verdict)
    models = random.sample(range(strengths.shape[0]), strengths.shape[0])
    pairs = np.array(random.sample(range(strengths.shape[1]), strengths.shape[1]), int)
    np.testing.assert_array_equal(unanimous(strengths[models], zone), verdict)
    np.testing.assert_array_equal(unanimous(strengths[:, pairs], zone), verdict[pairs])


@given(pass_tables, zones)
def test_unanimous_never_keeps_or_distrusts_what_the_mean_does_not(strengths, zone):
    zeros, verdict = np.zeros_like(strengths), unanimous(strengths, zone)
    mean = mean_strength(strengths, zeros)
    assert (mean[verdict > 0] > zone).all() and (mean[verdict < 0] < -zone).all()


@given(score_pairs, zones)
def test_unanimous_of_one_model_is_its_opinion(pair, zone):
    verdict = unanimous(mean_strength(*pair), zone)
    np.testing.assert_array_equal(verdict > 0, consistent(*pair, zone))
    np.testing.assert_array_equal(verdict < 0, consistent(*pair[::-1], zone))


@given(score_pairs)
def test_consistent_applied_to_what_it_kept_keeps_all(pair):
    chosen, rejected = pair
    kept = consistent(chosen, rejected)
    assert consistent(chosen[kept], rejected[kept]).all()


@given(score_pairs)
def test_unknown_scores_are_never_kept_or_selected(pair):
    chosen, rejected = pair
    unknown = ~(np.isfinite(chosen) & np.isfinite(rejected))
    strength = mean_strength(chosen, rejected)
    assert np.isnan(strength[unknown]).all()
    assert not distrusted(strength)[unknown].any()
    assert not consistent(chosen, rejected)[unknown].any()


def test_vote_four_expected_settles_majorities_only():
    votes = np.array(
        [
            [1, 1, 1, 1],  # all for chosen
            [1, 1, 1, 0],  # 3 of 4
            [1, 1, 0, 0],  # tied
            [0.5, 0.5, 0.5, 0.5],  # tied in halves
            [0.5, 1, 0, 1],  # 2.5 of 4
            [0, 0, 0.5, 1],  # 1.5 of 4
            [1, 1, 1, NAN],  # a vote is missing, whatever the others say
        ]
    )
    assert vote(votes).tolist() == [1, 1, 0, 0, 1, -1, 0]


@pytest.mark.parametrize("bad", [0.25, 2.0, -1.0, np.inf])
def test_vote_value_not_allowed_raises(bad):
    with pytest.raises(CurationError, match="0, 0.5 or 1"):
        vote(np.array([[1.0, bad]]))


def test_vote_no_expected_vote_raises():
    with pytest.raises(CurationError, match="at least one"):
        vote(np.zeros((3, 0)))


@given(vote_tables)
def test_vote_mirrored_votes_mirror_the_winner(votes):
    np.testing.assert_array_equal(vote(1 - votes), -vote(votes))


@given(vote_tables, st.randoms(use_true_random=False))
def test_vote_order_of_judges_and_pairs_does_not_matter(votes, random):
    columns = random.sample(range(votes.shape[1]), votes.shape[1])
    rows = np.array(random.sample(range(votes.shape[0]), votes.shape[0]), dtype=int)
    np.testing.assert_array_equal(vote(votes[:, columns]), vote(votes))
    np.testing.assert_array_equal(vote(votes[rows]), vote(votes)[rows])


def test_check_cap_at_the_cap_passes_and_above_it_names_what_to_do():
    options = {"round_number": 3, "verb": "drop", "setting": "max_dropped"}
    check_cap(29, 100, 0.29, **options)
    check_cap(0, 0, 0.5, **options)
    with pytest.raises(
        CurationError, match=r"round 3 would drop 30 of 100 open pairs \(30.0%\).*max_dropped=0.29.*raise max_dropped"
    ):
        check_cap(30, 100, 0.29, **options)


@pytest.mark.parametrize("rule", [consistent, uncertain])
def test_rules_of_one_pass_refuse_several(rule):
    with pytest.raises(CurationError, match=r"scores of one pass.*\(2, 3\).*give their mean"):
        rule(np.ones((2, 3)), np.zeros((2, 3)))
