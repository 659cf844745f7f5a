"""The steps on small ledgers, by hand, and what must hold for every ledger."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.curation_record import check_active_share, check_caps, round_record
from callbacks.curation_round import warning_of
from callbacks.curation_schedule import RoundSpec
from callbacks.curation_steps import (
    TOGETHER,
    correct,
    estimate_pool_noise,
    filter_pool,
    in_play,
    leave_out_unreadable,
    record_scores,
    settle_queue,
    to_score,
)
from callbacks.round_inputs import NOT_FINITE, PairScores, Votes
from datamodules.ledger import Decision
from mrm.curation.rules import Rules, SourceRules, by_source
from mrm.errors import CurationError
from tests.callbacks.fakes import make_ledger

NAN = np.nan
KEEP, FLIP, DROP, QUEUE, RESTORE = Decision.KEEP, Decision.FLIP, Decision.DROP, Decision.QUEUE, Decision.RESTORE


def scored(differences, **columns):
    """A ledger whose pairs have these published score differences."""
    return make_ledger(chosen_score=differences, rejected_score=[0.0] * len(differences), **columns)


def pair_scores(chosen, rejected=None, reasons=None):
    """Scores of one pass, or of several, one a row; against 0 where no rejected ones are given."""
    chosen = np.atleast_2d(np.array(chosen, np.float32))
    rejected = np.zeros_like(chosen) if rejected is None else np.atleast_2d(np.array(rejected, np.float32))
    return PairScores(chosen, rejected, np.array(reasons or [""] * chosen.shape[1], object))


def corrected(ledger, mode="flip", down_weight=0.5, admit_weight=1.0):
    """(ledger, distrusted) under the released share."""
    outcome = correct(ledger, SourceRules(Rules(mode, 0.5, down_weight, admit_weight)))
    return outcome.ledger, outcome.distrusted


def test_record_scores_unknown_ones_leave_the_pool_by_name():
    ledger = make_ledger(4)
    scores = pair_scores([1.0, NAN, NAN, np.inf], [0.0, NAN, 1.0, 1.0], ["", "image does not decode", "", ""])
    after = record_scores(ledger, np.ones(4, bool), scores)
    assert after.decision.tolist() == [Decision.HELD] + [Decision.UNREADABLE] * 3
    assert after.reason.tolist() == ["", "image does not decode", NOT_FINITE, NOT_FINITE]
    np.testing.assert_array_equal(after.chosen_score, [1.0, NAN, NAN, NAN])
    assert after.decided.tolist() == [0, 1, 1, 1]
    after.check_balanced()


@pytest.mark.parametrize(("steps", "queued_score"), [(("score", "correct"), -1.0), (("score", "filter"), 9.0)])
def test_record_scores_pairs_not_scored_keep_the_scores_they_were_judged_by(steps, queued_score):
    decisions = [Decision.TRUSTED, DROP, Decision.UNREADABLE, QUEUE]
    ledger = make_ledger(
        decision=decisions,
        active=[True, False, False, False],
        chosen_score=[NAN, -2.0, NAN, -1.0],
        rejected_score=[NAN, 0.0, NAN, 0.0],
    )
    fresh = to_score(ledger, steps)
    after = record_scores(ledger, fresh, pair_scores(np.where(fresh, 9.0, NAN)))
    np.testing.assert_array_equal(after.chosen_score, [NAN, -2.0, NAN, queued_score])
    assert after.decision.tolist() == decisions


def test_record_scores_several_passes_stores_means_and_spread_and_misses_none():
    scores = pair_scores([[1.0, 4.0, 1.0], [3.0, 2.0, NAN]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    after = record_scores(make_ledger(3), np.ones(3, bool), scores)
    np.testing.assert_array_equal(after.chosen_score, [2.0, 3.0, NAN])
    np.testing.assert_array_equal(after.rejected_score, [0.5, 0.5, NAN])
    np.testing.assert_array_equal(after.spread, [0.5, 0.5, NAN])  # differences 1 and 2, 3 and 2
    assert after.decision.tolist() == [Decision.HELD, Decision.HELD, Decision.UNREADABLE]
    one = record_scores(make_ledger(3), np.array([True, False, True]), pair_scores([1.0, 2.0, NAN]))
    np.testing.assert_array_equal(one.spread, [0.0, NAN, NAN])


@pytest.mark.parametrize("rejected", [np.zeros((1, 3)), np.zeros(2), np.zeros((0, 2))])
def test_pair_scores_shapes_that_do_not_fit_are_refused(rejected):
    with pytest.raises(CurationError, match=r"must be \[passes, pairs\] twice"):
        PairScores(np.zeros((1, 2)), rejected, np.full(2, "", object))


def test_to_score_queued_pairs_only_where_a_filter_can_take_them_back():
    ledger = make_ledger(decision=[Decision.HELD, QUEUE, DROP, KEEP], active=[False, False, False, True])
    for steps in (("score",), ("score", "correct"), ("score", "annotate")):
        assert to_score(ledger, steps).tolist() == [True, False, False, True], steps
    assert to_score(ledger, ("score", "filter")).tolist() == [True, True, False, True]


def test_correct_flip_admits_the_whole_open_pool_flipped_or_as_it_was():
    after, distrusted = corrected(scored([-3.0, 2.0, -1.0, 0.0, -2.0, -4.0]), "flip", 0.5)
    assert np.flatnonzero(distrusted).tolist() == [0, 5]  # 2 of 4 negatives
    assert after.decision.tolist() == [FLIP, KEEP, KEEP, KEEP, KEEP, FLIP]
    assert after.flipped.tolist() == [True, False, False, False, False, True]
    assert after.active.all() and (after.weight == 1).all()
    np.testing.assert_array_equal(after.chosen_score, [-3.0, 2.0, -1.0, 0.0, -2.0, -4.0])  # published orientation


def test_correct_drop_removes_them_and_weight_keeps_them_lighter():
    dropped, _ = corrected(scored([-3.0, 2.0, -1.0]), "drop", 0.5)
    assert dropped.decision.tolist() == [DROP, KEEP, KEEP]
    assert dropped.active.tolist() == [False, True, True]
    weighted, _ = corrected(scored([-3.0, 2.0, -1.0]), "weight", 0.25)
    assert weighted.decision.tolist() == [KEEP] * 3
    assert weighted.weight.tolist() == [0.25, 1.0, 1.0]
    assert not dropped.flipped.any() and not weighted.flipped.any()


def test_correct_admits_lightly_until_a_filter_confirms():
    admitted, _ = corrected(scored([-3.0, 2.0, -1.0]), "flip", 0.5, 0.25)
    assert admitted.weight.tolist() == [0.25, 0.25, 0.25]
    later = replace(admitted, round=2, chosen_score=np.array([-3.0, 2.0, -1.0], np.float32))
    confirmed = filter_pool(later)  # the flipped and the positive agree, the third does not
    assert confirmed.decision.tolist() == [KEEP, KEEP, QUEUE]
    assert confirmed.weight[confirmed.active].tolist() == [1.0, 1.0]


def test_correct_flipped_pair_is_judged_in_the_orientation_in_use_and_may_flip_back():
    ledger = scored([-3.0, 3.0, -1.0], flipped=[True, True, False], active=[True] * 3, decision=[FLIP, FLIP, KEEP])
    # In use: +3, -3, -1: of two negatives the second pair goes.
    after, _ = corrected(ledger, "flip", 0.5)
    assert after.flipped.tolist() == [True, False, False]
    assert after.decision.tolist() == [KEEP, FLIP, KEEP]


def test_correct_share_is_named_in_the_reasons():
    strengths = [-9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, -0.5, 1.0]
    outcome = correct(scored(strengths), SourceRules(Rules(distrust_share=0.3)))
    assert np.flatnonzero(outcome.distrusted).tolist() == [0, 1, 2]
    assert outcome.shares == {TOGETHER: 0.3}
    assert outcome.ledger.reason[[0, 3, 10]].tolist() == [
        "in the lower 0.3 of the negatives", "negative, not in the lower 0.3 of the negatives", "not negative",
    ]  # fmt: skip


def made_strengths(noise, pairs=4000, seed=0):
    rng = np.random.default_rng(seed)
    right = 1.2 + rng.standard_normal(pairs)
    return np.where(rng.random(pairs) < noise, -right, right).astype(np.float32)


def test_correct_share_set_by_the_estimated_noise_says_so():
    ledger = scored(made_strengths(0.3).tolist())
    rules = SourceRules(Rules(distrust_share=None))
    estimate = estimate_pool_noise(ledger, rules)[TOGETHER]
    assert abs(estimate.rate - 0.3) < 3 * estimate.error
    outcome = correct(ledger, rules, noise={TOGETHER: estimate})
    negative = int((ledger.chosen_score < 0).sum())
    assert outcome.distrusted.sum() == int(outcome.shares[TOGETHER] * negative)
    assert 0.65 < outcome.shares[TOGETHER] < 0.85
    told = f"(set by the estimated noise {estimate.rate:.3f} +- {estimate.error:.3f})"
    assert all(reason.endswith(told) for reason in outcome.ledger.reason[outcome.distrusted])
    assert_equal(correct(ledger, rules).ledger, outcome.ledger)  # made where it is not given


def test_correct_share_set_by_an_estimate_that_cannot_be_made_is_the_released_half_and_told():
    outcome = correct(scored([-1.0, -2.0, 1.0, 2.0]), SourceRules(Rules(distrust_share=None)))
    assert outcome.distrusted.tolist() == [False, True, False, False] and outcome.shares == {TOGETHER: 0.5}
    assert "the noise cannot be estimated: 4 pairs are too few" in outcome.ledger.reason[1]


def test_correct_share_of_a_model_that_knows_nothing_distrusts_nothing_and_is_told():
    """Coin flips: half of them would be flipped in vain, whichever half it is."""
    ledger = scored(np.random.default_rng(1).standard_normal(500).tolist())
    outcome = correct(ledger, SourceRules(Rules(distrust_share=None)))
    assert not outcome.distrusted.any() and outcome.shares == {TOGETHER: 0.0}
    assert (outcome.ledger.decision == KEEP).all() and outcome.ledger.active.all()
    negative = outcome.ledger.chosen_score < 0
    assert all("none (the noise cannot be estimated" in reason for reason in outcome.ledger.reason[negative])


def test_correct_leaves_alone_what_judges_settled():
    ledger = scored(
        [-5.0, -4.0, -3.0, -2.0],
        decision=[RESTORE, KEEP, KEEP, KEEP],
        vote_share=[1.0, NAN, 0.5, NAN],
        decided=[1] * 4,
        active=[True] * 4,
        round=2,
    )
    outcome = correct(ledger, SourceRules(Rules(distrust_share=1.0)))
    assert outcome.distrusted.tolist() == [False, True, True, True]
    assert outcome.ledger.decision[0] == RESTORE and not outcome.ledger.flipped[0]


def test_settle_queue_pairs_that_nobody_was_asked_about_wait_as_they_are():
    shares = [NAN, 1.0, NAN]  # an earlier verdict stands until there is another
    ledger = scored(
        [-1.0, -2.0, -3.0], decision=[QUEUE] * 3, active=[False] * 3, reason=["unsure"] * 3, vote_share=shares
    )
    votes = np.array([[1, 1], [np.nan, np.nan], [np.nan, 1]])
    for missing, last in (("wait", QUEUE), ("drop", DROP)):
        after = settle_queue(ledger, Votes(votes, [""] * 3, np.array([True, False, True])), missing)
        assert after.decision.tolist() == [RESTORE, QUEUE, last]
        assert after.reason[1] == "unsure" and after.decided[1] == ledger.decided[1]
        assert after.reason[2] == "1 of 2 votes arrived"
        np.testing.assert_array_equal(after.vote_share, [1.0, 1.0, NAN])


def test_warning_of_tells_a_share_that_the_noise_could_not_set_and_nothing_else():
    ledger = scored([-1.0, -2.0, 1.0, 2.0])
    none = np.zeros(4, bool)
    record = round_record(
        ledger, ledger, ~none, none, ~none, none, np.full(4, -1, np.int8), estimates=estimate_pool_noise(ledger)
    )  # fmt: skip
    asked = RoundSpec(0, ("score", "correct"), distrust_share=None)
    assert "of the pool the noise cannot be estimated (4 pairs are too few" in warning_of(record, asked)
    assert warning_of(record, replace(asked, distrust_share=0.3)) is None
    assert warning_of(record, replace(asked, steps=("score",))) is None


def test_correct_rules_by_source_rank_apart_what_has_a_share_of_its_own():
    ledger = scored(
        [-9.0, -8.0, -1.0, -0.5, -7.0, -6.0, -5.0, -4.0],
        source=["a", "b", "a", "b", "c", "c", "c", "c"],
    )
    overrides = {"b": {"correct_mode": "drop"}, "c": {"distrust_share": 0.25, "admit_weight": 0.5}}
    outcome = correct(ledger, by_source(Rules(), overrides, "abc"))
    # a and b together: two of four negatives, one of each source; c by itself: one of four
    assert np.flatnonzero(outcome.distrusted).tolist() == [0, 1, 4]
    assert outcome.ledger.decision.tolist() == [FLIP, DROP, KEEP, KEEP, FLIP, KEEP, KEEP, KEEP]
    assert outcome.ledger.weight.tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert outcome.shares == {TOGETHER: 0.5, "c": 0.25}
    outcome.ledger.check_balanced()


def test_correct_unanimous_distrusts_only_what_every_pass_is_against():
    strengths = np.array([[-9.0, -4.0, -1.0, 1.0], [1.0, -4.0, -1.0, 1.0], [-1.0, -4.0, -1.0, 1.0]], np.float32)
    scores = pair_scores(strengths)
    ledger = record_scores(make_ledger(4), np.ones(4, bool), scores)
    mean = correct(ledger, SourceRules(Rules(distrust_share=0.7)), scores=scores)
    peers = correct(ledger, SourceRules(Rules(distrust_share=0.7, agreement="unanimous")), scores=scores)
    assert np.flatnonzero(mean.distrusted).tolist() == [0, 1]
    assert np.flatnonzero(peers.distrusted).tolist() == [1]
    assert peers.ledger.reason[0] == "negative on average, but the score passes disagree"
    assert peers.ledger.decision.tolist() == [KEEP, FLIP, KEEP, KEEP]


def test_filter_unanimous_keeps_only_what_every_pass_is_for_in_the_label_in_use():
    strengths = np.array([[-2.0, 5.0, 1.0, -1.0], [-1.0, -1.0, 1.0, -1.0]], np.float32)
    flipped = [True, False, False, False]
    scores = pair_scores(strengths)
    ledger = record_scores(make_ledger(4, flipped=flipped), np.ones(4, bool), scores)
    assert filter_pool(ledger).decision.tolist() == [KEEP, KEEP, KEEP, QUEUE]
    after = filter_pool(ledger, SourceRules(Rules(agreement="unanimous")), scores=scores)
    assert after.decision.tolist() == [KEEP, QUEUE, KEEP, QUEUE]
    assert after.reason[1] == "uncertain: the score passes disagree"


def test_filter_dead_zone_by_source_queues_the_uncertain_by_name():
    ledger = scored([0.3, 0.3, 0.0, -0.3, -2.0, 2.0], source=["a", "b", "b", "b", "b", "b"])
    after = filter_pool(ledger, by_source(Rules(), {"b": {"dead_zone": 0.5}}, "ab"))
    assert after.decision.tolist() == [KEEP, QUEUE, QUEUE, QUEUE, QUEUE, KEEP]
    assert after.reason.tolist() == [
        "consistent",
        "uncertain: in the dead zone of 0.5",
        "inconsistent: a tie",
        "uncertain: in the dead zone of 0.5",
        "inconsistent: the rejected response scores higher",
        "consistent",
    ]


def test_correct_leaves_trusted_dropped_and_queued_pairs_alone():
    decisions = [Decision.TRUSTED, DROP, QUEUE, Decision.UNREADABLE]
    ledger = scored([-9.0, -9.0, -9.0, -9.0], decision=decisions, active=[True, False, False, False])
    after, distrusted = corrected(ledger, "flip", 0.5)
    assert after.decision.tolist() == decisions and not distrusted.any()


def test_filter_judges_in_the_orientation_in_use_and_queues_ties():
    ledger = scored(
        [-2.0, 2.0, 2.0, -2.0, 0.0],
        flipped=[True, True, False, False, False],
        active=[True] * 5,
        decision=[FLIP, FLIP, KEEP, KEEP, KEEP],
    )
    after = filter_pool(ledger)
    assert after.decision.tolist() == [KEEP, QUEUE, KEEP, QUEUE, QUEUE]
    assert after.active.tolist() == [True, False, True, False, False]
    assert after.flipped.tolist() == [True, True, False, False, False]
    assert after.reason[4] == "inconsistent: a tie"


def test_filter_takes_back_queued_pairs_that_have_become_consistent():
    ledger = scored(
        [2.0, -2.0, -2.0, 2.0, 0.0],
        decision=[QUEUE] * 4 + [DROP],
        flipped=[False, True, False, True, False],
        weight=[0.15] * 5,
        reason=["earlier"] * 5,
        round=3,
    )
    after = filter_pool(ledger)
    assert after.decision.tolist() == [KEEP, KEEP, QUEUE, QUEUE, DROP]
    assert after.active.tolist() == [True, True, False, False, False]
    assert after.flipped.tolist() == ledger.flipped.tolist()
    assert after.weight[:2].tolist() == [1.0, 1.0]
    assert after.decided.tolist() == [3, 3, 3, 3, 0]  # contradicted again: by this round's scores
    after.check_balanced()


def test_filter_applied_twice_changes_nothing():
    once = filter_pool(scored([1.0, -1.0, 0.0]))
    assert_equal(filter_pool(once), once)


def test_settle_queue_winner_is_chosen_whatever_was_flipped_before():
    ledger = scored(
        [1.0, -1.0, -1.0, 1.0, -1.0, -1.0, 1.0],
        decision=[KEEP] + [QUEUE] * 6,
        active=[True] + [False] * 6,
        flipped=[False, False, False, True, True, False, True],
        weight=[1.0, 0.5, 1, 1, 1, 1, 1],
    )
    votes = np.array(
        [
            [1, 1, 1, 0.5],  # published choice wins, was not flipped
            [0, 0, 1, 0],  # published choice loses: flipped now
            [1, 1, 1, 1],  # published choice wins: flipped back
            [0, 0, 0, 0],  # stays flipped
            [1, 1, 0, 0],  # tied
            [1, 1, 1, NAN],  # a vote is missing
        ]
    )
    after = settle_queue(ledger, Votes(votes, [""] * 6), "drop")
    assert after.decision.tolist() == [KEEP] + [Decision.RESTORE] * 4 + [DROP] * 2
    assert after.flipped.tolist() == [False, False, True, False, True, False, True]
    assert after.active.tolist() == [True] * 5 + [False] * 2
    assert after.weight[1] == 1.0
    assert after.reason.tolist()[1:] == [
        "votes 3.5 : 0.5 for the published choice",
        "votes 1 : 3 against the published choice",
        "votes 4 : 0 for the published choice",
        "votes 0 : 4 against the published choice",
        "votes tied 2 : 2",
        "3 of 4 votes arrived",
    ]


def test_settle_queue_missing_votes_wait_by_name_unless_they_are_to_be_dropped():
    ledger = scored([-1.0] * 4, decision=[QUEUE] * 4, vote_share=[NAN, NAN, NAN, 0.25])
    votes = np.array([[1, NAN, NAN], [NAN, NAN, NAN], [0.5, 1, 0], [1, 1, NAN]])
    waiting = settle_queue(ledger, Votes(votes, [""] * 4))
    assert waiting.decision.tolist() == [QUEUE, QUEUE, DROP, QUEUE]  # ties are dropped in both ways
    assert waiting.reason.tolist() == [
        "1 of 3 votes arrived", "0 of 3 votes arrived", "votes tied 1.5 : 1.5", "2 of 3 votes arrived",
    ]  # fmt: skip
    np.testing.assert_array_equal(waiting.vote_share, [NAN, NAN, 0.5, NAN])
    assert waiting.decided.tolist() == [1] * 4 and not waiting.active.any()
    waiting.check_balanced()
    assert settle_queue(ledger, Votes(votes, [""] * 4), "drop").decision.tolist() == [DROP] * 4
    still = np.delete(votes, 2, axis=0)
    assert_equal(settle_queue(waiting, Votes(still, [""] * 3)), waiting)  # the same answers once more: nothing new


def test_settle_queue_vote_share_is_for_the_published_choice():
    ledger = scored([-1.0] * 3, decision=[QUEUE] * 3, flipped=[True, True, False])
    after = settle_queue(ledger, Votes(np.array([[1, 1, 0.5, 1], [0, 0, 1, 0], [1, 1, 1, 1]]), ["", "", "gone"]))
    np.testing.assert_array_equal(after.vote_share, [0.875, 0.25, NAN])
    assert after.flipped.tolist() == [False, True, False]


def test_settle_queue_votes_for_another_number_of_pairs_raises():
    with pytest.raises(CurationError, match="2 pairs wait, but votes came for 1"):
        settle_queue(scored([-1.0] * 2, decision=[QUEUE] * 2), Votes(np.ones((1, 2)), [""]))


def test_settle_queue_sample_that_cannot_be_read_is_unreadable_by_name():
    ledger = scored([-1.0, -1.0], decision=[QUEUE, QUEUE])
    after = settle_queue(ledger, Votes(np.array([[1.0, 1.0], [NAN, NAN]]), ["", "image count"]))
    assert after.decision.tolist() == [Decision.RESTORE, Decision.UNREADABLE]
    assert after.reason[1] == "image count"


def test_leave_out_unreadable_takes_trusted_and_open_pairs_and_leaves_the_dropped():
    ledger = make_ledger(
        decision=[Decision.TRUSTED, Decision.TRUSTED, Decision.HELD, KEEP, DROP, QUEUE],
        active=[True, True, False, True, False, False],
    )
    after = leave_out_unreadable(ledger, {f"k{i}": "gone" for i in (1, 2, 3, 4, 5)})
    gone = Decision.UNREADABLE
    assert after.decision.tolist() == [Decision.TRUSTED, gone, gone, gone, DROP, gone]
    assert after.reason.tolist() == ["", "gone", "gone", "gone", "", "gone"]
    after.check_balanced()
    assert (after.accounts()["trained"], after.accounts()["unreadable"]) == (1, 4)
    assert not in_play(after).any()
    assert_equal(leave_out_unreadable(after, {f"k{i}": "again" for i in range(6) if i != 0}), after)


def test_check_caps_counts_what_was_turned_and_dropped_in_this_round():
    before = scored([-1.0] * 10, decision=[DROP] * 4 + [Decision.HELD] * 6, decided=[0] * 10)
    opened = np.ones(10, bool)
    flips, _ = corrected(before)  # three of six negatives
    check_caps(before, flips, RoundSpec(0, ("score", "correct"), max_flipped=0.3), opened)
    with pytest.raises(CurationError, match=r"would flip 3 of 10 open pairs \(30.0%\).*max_flipped=0.29"):
        check_caps(before, flips, RoundSpec(0, ("score", "correct"), max_flipped=0.29), opened)
    drops, _ = corrected(before, "drop")  # those dropped before are not this round's
    check_caps(before, drops, RoundSpec(0, ("score", "correct"), max_dropped=0.3), opened)
    with pytest.raises(CurationError, match=r"would drop 3 of 10.*max_dropped=0.2"):
        check_caps(before, drops, RoundSpec(0, ("score", "correct"), max_dropped=0.2), opened)


def test_check_active_share_pool_nearly_empty_stops():
    ledger = make_ledger(
        decision=[Decision.TRUSTED] * 5 + [KEEP] + [DROP] * 3, active=[True] * 6 + [False] * 3
    )  # 1 of 4 open pairs
    opened = ledger.decision != Decision.TRUSTED
    check_active_share(ledger, opened, 0.25)
    with pytest.raises(CurationError, match=r"1 of 4 open pairs.*25.0%.*min_active_share=0.3"):
        check_active_share(ledger, opened, 0.3)


def test_round_record_counts_and_judges_against_the_truth():
    before = scored([-4.0, -3.0, -1.0, -0.5, 2.0, 1.0])
    truth = np.array([1, 0, 1, 0, 0, -1], np.int8)
    after, distrusted = corrected(before, "flip", 0.5)  # flips the first two: one wrong label, one right one
    everything = np.ones(6, bool)
    record = round_record(before, after, everything, distrusted, everything, ~everything, truth)
    assert (record["round"], record["scored"], record["flipped"], record["kept"]) == (1, 6, 2, 4)
    assert (record["open_pairs"], record["active_pairs"], record["reannotated"]) == (6, 6, 0)
    assert record["noise_before"] == 2 / 5
    assert record["noise_after"] == 2 / 5  # one mended, one spoilt
    assert (record["flip_precision"], record["flip_recall"]) == (0.5, 0.5)


def test_round_record_truth_unknown_is_none():
    ledger = scored([-1.0, -2.0])
    after, distrusted = corrected(ledger, "flip", 0.5)
    record = round_record(ledger, after, np.ones(2, bool), distrusted, distrusted, distrusted, np.full(2, -1, np.int8))
    assert [record[n] for n in ("noise_before", "noise_after", "flip_precision", "flip_recall")] == [None] * 4


def test_round_record_by_source_adds_up_and_has_the_estimate_of_what_is_ranked_apart():
    strengths = made_strengths(0.2, 400).tolist()
    sources = ["a", "b"] * 199 + ["trusted"] * 2
    before = scored(strengths, source=sources, decision=[Decision.HELD] * 398 + [Decision.TRUSTED] * 2)
    before = replace(before, active=before.decision == Decision.TRUSTED)
    rules = by_source(Rules(), {"b": {"distrust_share": "auto"}}, "ab")
    opened, noise = before.decision != Decision.TRUSTED, estimate_pool_noise(before, rules)
    outcome = correct(before, rules, noise=noise)
    none = np.zeros(400, bool)
    record = round_record(
        before, outcome.ledger, opened, outcome.distrusted, opened, none, np.full(400, -1, np.int8),
        estimates=noise, shares=outcome.shares,
    )  # fmt: skip
    assert list(record["sources"]) == ["a", "b"]
    for name in ("scored", "kept", "flipped", "dropped", "queued", "restored", "unreadable"):
        assert sum(counts[name] for counts in record["sources"].values()) == record[name], name
    assert sum(counts["pairs"] for counts in record["sources"].values()) == record["open_pairs"] == 398
    assert record["distrust_share"] == 0.5 and record["noise_estimate"] == noise[TOGETHER].rate
    assert record["noise_estimate_error"] == noise[TOGETHER].error
    assert "noise_estimate" not in record["sources"]["a"]
    assert record["sources"]["b"]["noise_estimate"] == noise["b"].rate
    assert record["sources"]["b"]["distrust_share"] == outcome.shares["b"]


def test_round_record_estimate_that_cannot_be_made_is_none_and_says_why():
    ledger = scored([-1.0, 1.0])
    none = np.zeros(2, bool)
    record = round_record(
        ledger, ledger, ~none, none, ~none, none, np.full(2, -1, np.int8), estimates=estimate_pool_noise(ledger)
    )  # fmt: skip
    assert record["noise_estimate"] is record["noise_estimate_error"] is record["distrust_share"] is None
    assert "2 pairs are too few" in record["noise_estimate_unknown"]


# Properties ----------------------------------------------------------------------------------------------------------

STATES = [
    (Decision.TRUSTED, True),
    (Decision.HELD, False),
    (Decision.RAW, True),
    (KEEP, True),
    (FLIP, True),
    (DROP, False),
    (QUEUE, False),
    (Decision.RESTORE, True),
    (Decision.UNREADABLE, False),
]
values = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, NAN, np.inf])
pair_rows = st.lists(st.tuples(st.sampled_from(STATES), values, values, st.booleans()), min_size=1, max_size=25)


def ledger_and_scores(rows):
    ledger = make_ledger(
        decision=[state[0] for state, *_ in rows],
        active=[state[1] for state, *_ in rows],
        flipped=[row[3] for row in rows],
    )
    return ledger, np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows], np.float32)


def whole_round(ledger, chosen, rejected, mode="flip"):
    fresh = to_score(ledger, ("score", "correct", "filter"))
    after = record_scores(ledger, fresh, pair_scores(chosen, rejected))
    after, distrusted = corrected(after, mode)
    return filter_pool(after), distrusted


def assert_equal(one, other):
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@given(pair_rows, st.sampled_from(["flip", "drop", "weight"]))
def test_round_any_ledger_gives_one_decision_a_pair_and_balances(rows, mode):
    ledger, chosen, rejected = ledger_and_scores(rows)
    after, _ = whole_round(ledger, chosen, rejected, mode)
    after.check_balanced()
    untouched = ~in_play(ledger)
    for name in ("decision", "active", "flipped", "reason", "decided"):
        np.testing.assert_array_equal(getattr(after, name)[untouched], getattr(ledger, name)[untouched])
    assert (after.decided[in_play(ledger)] == ledger.round).all()  # whoever was scored was decided about
    assert not (after.decision == Decision.HELD).any()


@given(pair_rows)
def test_round_unknown_score_is_never_kept_silently(rows):
    ledger, chosen, rejected = ledger_and_scores(rows)
    after, distrusted = whole_round(ledger, chosen, rejected)
    unknown = in_play(ledger) & ~(np.isfinite(chosen) & np.isfinite(rejected))
    assert (after.decision[unknown] == Decision.UNREADABLE).all()
    assert not after.active[unknown].any() and not distrusted[unknown].any()
    assert (after.reason[unknown] != "").all()


@given(pair_rows, st.randoms(use_true_random=False))
def test_round_permuted_pairs_permutes_the_ledger(rows, random):
    ledger, chosen, rejected = ledger_and_scores(rows)
    order = np.array(random.sample(range(len(rows)), len(rows)))
    columns = [field.name for field in fields(ledger) if isinstance(getattr(ledger, field.name), np.ndarray)]

    def permuted(one):
        return replace(one, **{name: getattr(one, name)[order] for name in columns})

    after, _ = whole_round(ledger, chosen, rejected)
    assert_equal(whole_round(permuted(ledger), chosen[order], rejected[order])[0], permuted(after))


@given(pair_rows)
def test_round_swapped_sides_of_published_pairs_mirror_the_flips(rows):
    """The same pairs published the other way round, and marked as flipped: the same labels in use, so the same decisions."""
    ledger, chosen, rejected = ledger_and_scores(rows)
    after, _ = whole_round(ledger, chosen, rejected)
    mirrored, _ = whole_round(replace(ledger, flipped=~ledger.flipped), rejected, chosen)
    np.testing.assert_array_equal(mirrored.decision, after.decision)
    np.testing.assert_array_equal(mirrored.flipped, ~after.flipped)


@given(pair_rows)
def test_round_same_inputs_give_the_same_ledger_and_leave_the_inputs_alone(rows):
    ledger, chosen, rejected = ledger_and_scores(rows)
    copy, *_ = ledger_and_scores(rows)
    one, _ = whole_round(ledger, chosen, rejected)
    assert_equal(ledger, copy)
    assert_equal(whole_round(ledger, chosen, rejected)[0], one)


RULES = st.builds(
    Rules,
    correct_mode=st.sampled_from(["flip", "drop", "weight"]),
    distrust_share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    dead_zone=st.sampled_from([0.0, 0.5, 1.5]),
    agreement=st.sampled_from(["mean", "unanimous"]),
)
passes = st.lists(st.tuples(st.sampled_from(STATES), values, values, st.booleans(), values), min_size=1, max_size=25)


def ruled_round(rows, rules, steps=("correct", "filter")):
    """A round of two passes under the same rules for all: (before, scored, after)."""
    ledger, first, rejected = ledger_and_scores([row[:4] for row in rows])
    scores = pair_scores([first, [row[4] for row in rows]], [rejected, rejected])
    before = record_scores(ledger, to_score(ledger, ("filter",)), scores)
    after = before
    if "correct" in steps:
        after = correct(after, SourceRules(rules), scores=scores).ledger
    if "filter" in steps:
        after = filter_pool(after, SourceRules(rules), scores=scores)
    return before, scores, after


@given(passes, RULES)
def test_any_rules_give_one_decision_a_pair_and_never_keep_the_unknown(rows, rules):
    before, scores, after = ruled_round(rows, rules)
    after.check_balanced()
    unknown = in_play(ledger_and_scores([row[:4] for row in rows])[0]) & ~np.isfinite(before.spread)
    assert (after.decision[unknown] == Decision.UNREADABLE).all() and (after.reason[unknown] != "").all()


@given(passes, RULES)
def test_steps_taken_twice_change_nothing(rows, rules):
    """On the same scores, in the same round: what `correct` has decided about it leaves alone, and `filter` finds the same."""
    _, scores, once = ruled_round(rows, rules, ("correct",))
    assert_equal(correct(once, SourceRules(rules), scores=scores).ledger, once)
    _, scores, once = ruled_round(rows, rules)
    assert_equal(filter_pool(once, SourceRules(rules), scores=scores), once)


@given(passes, RULES)
def test_any_rules_mirror_pairs_published_the_other_way_round(rows, rules):
    _, _, after = ruled_round(rows, rules)
    ledger, first, rejected = ledger_and_scores([row[:4] for row in rows])
    scores = pair_scores([rejected, rejected], [first, [row[4] for row in rows]])
    ledger = replace(ledger, flipped=~ledger.flipped)
    mirrored = record_scores(ledger, to_score(ledger, ("filter",)), scores)
    mirrored = correct(mirrored, SourceRules(rules), scores=scores).ledger
    mirrored = filter_pool(mirrored, SourceRules(rules), scores=scores)
    np.testing.assert_array_equal(mirrored.decision, after.decision)
    np.testing.assert_array_equal(mirrored.flipped, ~after.flipped)
    np.testing.assert_array_equal(mirrored.reason, after.reason)


@given(passes, RULES, st.sampled_from([0.0, 0.5, 1.5]))
def test_stricter_rules_never_keep_more(rows, rules, dead_zone):
    """The filter under a larger dead zone or unanimity keeps no pair that it would not keep else; nor, after a larger share was
    dropped, does `correct`."""
    kept = ruled_round(rows, rules, ("filter",))[2].active
    stricter = replace(rules, dead_zone=max(rules.dead_zone, dead_zone), agreement="unanimous")
    assert not (ruled_round(rows, stricter, ("filter",))[2].active & ~kept).any()
    dropping = replace(rules, correct_mode="drop", agreement="mean")
    left = ruled_round(rows, dropping, ("correct",))[2].active
    more = replace(dropping, distrust_share=min(1.0, rules.distrust_share + 0.3))
    assert not (ruled_round(rows, more, ("correct",))[2].active & ~left).any()
