import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.curation.judge_accounts import judge_accounts

NONE = np.nan
# Judge a, then judge b; of each: published choice shown first, then second.
VOTES = np.array(
    [
        [1, 1, 1, 1],  # both for it
        [1, 0, 0, 0],  # a follows the first place; b against it
        [0.5, 1, NONE, NONE],  # a is for it, once tied; b is silent
        [0, 0, 1, 1],  # they differ
    ]
)
MARGIN = np.array([2.0, -1.0, -0.5, NONE])
TRUTH = np.array([0, 1, 0, -1], np.int8)


def test_judge_accounts_of_four_pairs_by_hand():
    a, b = (judge_accounts(["a", "b"], VOTES, MARGIN, TRUTH)[name] for name in "ab")
    assert (a["votes"], a["missing"], a["ties"]) == (8, 0, 1)
    assert (b["votes"], b["missing"], b["ties"]) == (6, 2, 0)
    assert a["same_in_both_orders"] == 0.5 and b["same_in_both_orders"] == 1.0
    # a's seven votes for a response: pair 0 first, second; pair 1 first, first; pair 2 second; pair 3 second, first.
    assert a["first_place"] == pytest.approx(4 / 7) and b["first_place"] == 0.5
    # a's sides: for, none, for, against. The model's: for, against, against, none.
    assert a["with_model"] == 0.5 and b["with_model"] == 1.0
    assert a["with_other_judges"] == b["with_other_judges"] == 0.5  # pairs 0 and 3
    assert a["right"] == 1.0 and b["right"] == 1.0  # a: pairs 0 and 2; b: pairs 0 and 1


def test_judge_accounts_without_votes_or_truth_have_no_shares():
    silent = judge_accounts(["a"], np.full((3, 2), NONE), np.ones(3), np.full(3, -1, np.int8))["a"]
    shares = ("same_in_both_orders", "first_place", "with_model", "with_other_judges")
    assert silent == {"votes": 0, "missing": 6, "ties": 0, **dict.fromkeys(shares)}
    assert judge_accounts(["a"], np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int8))["a"]["votes"] == 0


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, NONE]), min_size=4, max_size=4), max_size=8), st.integers(0, 99)
)
def test_judge_accounts_published_choice_swapped_changes_nothing(rows, seed):
    rng = np.random.default_rng(seed)
    votes = np.array(rows).reshape(-1, 4)
    margin, truth = rng.normal(size=len(votes)), rng.integers(-1, 2, len(votes)).astype(np.int8)
    swapped = 1 - votes[:, [1, 0, 3, 2]]  # what was shown first as the published choice is now shown first as the other
    mirrored = np.where(truth < 0, truth, 1 - truth)
    assert judge_accounts(["a", "b"], votes, margin, truth) == judge_accounts(["a", "b"], swapped, -margin, mirrored)
