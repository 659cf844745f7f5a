"""Whole rounds from ledger to ledger, without a trainer, a model or a file."""

import itertools

import numpy as np
import pytest

from callbacks.curation_round import begin_round, decide_round
from callbacks.curation_schedule import RoundSpec
from callbacks.round_inputs import PairScores, Votes
from datamodules.ledger import Decision
from mrm.errors import ConfigError, CurationError
from tests.callbacks.fakes import make_ledger

KEEP, FLIP, DROP, QUEUE, RESTORE = Decision.KEEP, Decision.FLIP, Decision.DROP, Decision.QUEUE, Decision.RESTORE
ALL = ("score", "correct", "filter", "annotate")


def never(_):
    raise AssertionError("not to be called")


def play(before, spec, strengths=(), votes=None, unreadable=None, truth=None, number=1):
    """A round over these score differences; votes by row of the ledger."""
    strengths = np.atleast_2d(np.array(strengths, np.float32))
    start = begin_round(before, number, "made", unreadable or {})
    return decide_round(
        before,
        start,
        spec,
        opened=before.decision != Decision.TRUSTED,
        scores=lambda needed: PairScores(
            np.where(needed, strengths, np.nan), np.zeros_like(strengths), np.full(len(needed), "", object)
        ),
        ask=(lambda queue: Votes(np.array([votes[i] for i in queue], float), [""] * len(queue))) if votes else never,
        truth=np.full(len(before), -1, np.int8) if truth is None else np.array(truth, np.int8),
    )


def test_whole_round_by_hand():
    before = make_ledger(
        6, round=0, decision=[Decision.TRUSTED] + [Decision.HELD] * 5, active=[True] + [False] * 5,
        source=["t", "a", "a", "a", "b", "b"],
    )  # fmt: skip
    # Of the negatives -4 and -1 one is flipped; -1 and the tie are queued, and judged.
    votes = {2: [0, 0], 5: [1, 0]}
    outcome = play(before, RoundSpec(3, ALL), [9, -4, -1, 2, 3, 0], votes, truth=[-1, 1, 1, 0, 0, 0])
    ledger, record = outcome.ledger, outcome.record
    assert ledger.decision.tolist() == [Decision.TRUSTED, FLIP, RESTORE, KEEP, KEEP, DROP]
    assert ledger.flipped.tolist() == [False, True, True, False, False, False]
    assert (ledger.round, ledger.policy_fingerprint) == (1, "made")
    np.testing.assert_array_equal(ledger.spread, [np.nan] + [0] * 5)
    np.testing.assert_array_equal(ledger.vote_share, [np.nan, np.nan, 0.0, np.nan, np.nan, 0.5])
    assert (record["epoch"], record["steps"], record["round"]) == (3, list(ALL), 1)
    assert (record["noise_before"], record["noise_after"]) == (2 / 5, 0.0)
    counts = {
        "pairs": 3,
        "scored": 3,
        "flipped": 1,
        "dropped": 0,
        "restored": 1,
        "kept": 1,
        "unreadable": 0,
        "queued": 0,
    }
    assert record["sources"]["a"] == counts
    assert record["sources"]["b"] == {**counts, "pairs": 2, "scored": 2, "flipped": 0, "dropped": 1, "restored": 0}


def test_votes_that_arrive_a_round_later_settle_the_pair_then():
    before = make_ledger(2, round=0)
    late = play(before, RoundSpec(0, ("score", "filter", "annotate")), [1, -1], {1: [0, np.nan]}).ledger
    assert late.decision.tolist() == [KEEP, QUEUE] and late.reason[1] == "1 of 2 votes arrived"
    then = play(late, RoundSpec(1, ("annotate",)), votes={1: [0, 0]}, number=2).ledger
    assert then.decision.tolist() == [KEEP, RESTORE] and then.flipped.tolist() == [False, True]


def test_nobody_is_asked_where_nothing_waits():
    outcome = play(make_ledger(2, round=0), RoundSpec(0, ("score", "filter", "annotate")), [1, 1])
    assert outcome.record["reannotated"] == 0 and outcome.ledger.active.all()


def test_unreadable_samples_are_out_before_the_round_begins():
    outcome = play(make_ledger(3, round=0), RoundSpec(0, ("score", "correct")), [-1, -2, -3], unreadable={"k2": "gone"})
    assert outcome.ledger.decision.tolist() == [KEEP, FLIP, Decision.UNREADABLE]
    assert outcome.record["scored"] == 2 and outcome.record["unreadable"] == 1


@pytest.mark.parametrize("steps", [("score",), ("score", "correct"), ("score", "filter")])
def test_noise_estimate_goes_into_the_record_whether_it_is_used_or_not(steps):
    rng = np.random.default_rng(0)
    right = 1.5 + rng.standard_normal(2000)
    strengths = np.where(rng.random(2000) < 0.25, -right, right)
    record = play(make_ledger(2000, round=0), RoundSpec(0, steps), strengths).record
    assert abs(record["noise_estimate"] - 0.25) < 3 * record["noise_estimate_error"]
    assert record["distrust_share"] == (0.5 if "correct" in steps else None)


def test_round_that_would_eat_the_pool_stops():
    ledger = make_ledger(10, round=0)
    spec = RoundSpec(0, ("score", "correct"), distrust_share=0.9)
    with pytest.raises(CurationError, match="would flip 9 of 10 open pairs.*max_flipped=0.5"):
        play(ledger, spec, [-1] * 10)
    spec = RoundSpec(0, ("score", "filter", "annotate"), missing="drop")
    with pytest.raises(CurationError, match="would drop 10 of 10 open pairs.*max_dropped=0.5"):
        play(ledger, spec, [-1] * 10, {i: [np.nan, 1] for i in range(10)})


def test_round_whose_rewards_are_no_numbers_stops_before_it_loses_the_pool():
    before = make_ledger(4, round=0)
    spec = RoundSpec(0, ("score", "correct"), max_dropped=0.25)
    with pytest.raises(CurationError, match="would drop 2 of 4 open pairs .* max_dropped=0.25"):
        play(before, spec, [1, np.nan, np.inf, 2])
    assert play(before, spec, [1, np.nan, 3, 2]).ledger.decision[1] == Decision.UNREADABLE


def test_order_of_the_passes_decides_nothing():
    chosen, rejected = (
        np.array([[0.1], [0.2], [0.3]]),
        np.array([[0.3], [0.2], [0.1]]),
    )  # means that are equal but for rounding
    found = []
    for order in itertools.permutations(range(3)):
        before = make_ledger(1, round=0)
        scores = PairScores(chosen[list(order)], rejected[list(order)], np.full(1, "", object))
        outcome = decide_round(
            before, begin_round(before, 1, "made", {}), RoundSpec(0, ("score", "filter")), opened=np.ones(1, bool),
            scores=lambda needed, scores=scores: scores, ask=never, truth=np.full(1, -1, np.int8),
        )  # fmt: skip
        found.append((outcome.ledger.decision[0], outcome.ledger.reason[0]))
    assert set(found) == {(QUEUE, "inconsistent: a tie")}


def test_rules_for_a_source_that_the_pool_lacks_are_refused():
    ledger = make_ledger(
        2, round=0, source=["t", "a"], decision=[Decision.TRUSTED, Decision.HELD], active=[True, False]
    )
    spec = RoundSpec(0, ("score", "filter"), sources={"t": {"dead_zone": 1.0}})
    with pytest.raises(ConfigError, match="sources.t: the open pool has no such source; its sources are a"):
        play(ledger, spec, [1, 1])


def test_scores_of_another_number_of_pairs_are_refused():
    before = make_ledger(2, round=0)
    with pytest.raises(CurationError, match="scores of 3 pairs for 2"):
        decide_round(
            before,
            begin_round(before, 1, "", {}),
            RoundSpec(0, ("score",)),
            opened=np.ones(2, bool),
            scores=lambda needed: PairScores(np.zeros((1, 3)), np.zeros((1, 3)), np.full(3, "", object)),
            ask=never,
            truth=np.full(2, -1, np.int8),
        )


def test_begin_round_ledger_of_another_round_is_refused():
    with pytest.raises(CurationError, match="round 3 begins with the ledger of round 2, found that of 1"):
        begin_round(make_ledger(1, round=1), 3, "", {})
