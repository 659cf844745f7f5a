"""The policy against numbers worked out by hand, and against its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mrm.curation.policy import consistent, distrusted, mean_strength, vote
from mrm.errors import CurationError

NAN = np.nan
sizes = st.integers(0, 30)
# Few distinct values, so that ties happen; NaN and infinities among them.
scores = st.sampled_from([-3.0, -1.5, -1.0, -0.0, 0.0, 0.5, 2.0, np.nan, np.inf, -np.inf])
shares = st.sampled_from([0.0, 0.5, 1.0, np.nan])


def score_arrays(n: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, n, elements=scores)


score_pairs = sizes.flatmap(lambda n: st.tuples(score_arrays(n), score_arrays(n)))
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
    np.testing.assert_array_equal(distrusted(strength[order], 0.5, names[order]), distrusted(strength, 0.5, names)[order])


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
