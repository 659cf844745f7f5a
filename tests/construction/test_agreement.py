"""Pairs from scores: rules worked out by hand, and their symmetries."""

import math
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrm.construction.agreement import AgreementRule, PairDecision, Scored, agree
from mrm.errors import ConfigError, RecordError

BOTH, EITHER = AgreementRule(), AgreementRule(modes="either")


def both(judge: str, *overalls, pointwise=None) -> list[Scored]:
    return [Scored(judge, "listwise", 0, overalls), Scored(judge, "pointwise", 0, pointwise or overalls)]


def only(scorings, rule=BOTH, n=2, **more) -> PairDecision:
    decisions = agree(scorings, n, rule, **more)
    assert len(decisions) == 1
    return decisions[0]


def kept(decisions) -> dict[tuple[int, int], float]:
    return {(d.chosen, d.rejected): d.strength for d in decisions if d.reason == "kept"}


def reasons(decisions) -> dict[tuple[int, int], str]:
    return {(d.first, d.second): d.reason for d in decisions}


def test_agree_both_modes_name_the_winner_keeps_with_the_mean_difference():
    # (7 - 4 + 6 - 5) / 2 = 2 of 10
    decision = only(both("a", 4.0, 7.0, pointwise=(5.0, 6.0)))
    assert (decision.first, decision.second, decision.chosen, decision.rejected) == (0, 1, 1, 0)
    assert decision.strength == pytest.approx(0.2)
    assert [vote.difference for vote in decision.votes] == [-3.0, -1.0]


@pytest.mark.parametrize(
    ("scorings", "reason"),
    [
        (both("a", 4.0, 7.0, pointwise=(6.0, 5.0)), "listwise and pointwise disagree"),
        (both("a", 4.0, 7.0, pointwise=(6.0, 6.0)), "tie"),
        (both("a", 5.0, 5.0), "tie"),
        (both("a", 4.0, 7.0)[:1], "score missing"),
        (both("a", 4.0, 7.0, pointwise=(6.0, None)), "score missing"),
        ([], "score missing"),
        ([*both("a", 4.0, 7.0), Scored("a", "listwise", 1, (7.0, 4.0))], "repeats disagree"),
        (both("a", 4.0, 7.0) + both("b", 7.0, 4.0), "judges disagree"),
        (both("a", 4.0, 7.0) + both("b", 5.0, 5.0), "tie"),
    ],
)
def test_agree_without_one_winner_names_the_reason(scorings, reason):
    decision = only(scorings)
    assert (decision.reason, decision.chosen, decision.rejected, decision.strength) == (reason, None, None, None)


def test_agree_equal_texts_are_no_pair():
    assert only(both("a", 4.0, 7.0), texts=["x", "x"]).reason == "equal texts"
    assert only(both("a", 4.0, 7.0), texts=["x", "y"]).reason == "kept"


def test_agree_rounding_in_scores_is_a_tie():
    assert only(both("a", 0.1 + 0.2, 0.3)).reason == "tie"


def test_agree_either_takes_the_mode_that_is_there_and_still_wants_no_contradiction():
    assert only(both("a", 4.0, 7.0)[:1], EITHER).strength == pytest.approx(0.3)
    assert only(both("a", 4.0, 7.0, pointwise=(6.0, 5.0)), EITHER).reason == "listwise and pointwise disagree"


def test_agree_listwise_alone_does_not_look_at_pointwise():
    scorings = both("a", 4.0, 7.0, pointwise=(6.0, 5.0))
    assert only(scorings, AgreementRule(modes="listwise")).chosen == 1
    assert only(scorings, AgreementRule(modes="pointwise")).chosen == 0
    assert len(only(scorings, AgreementRule(modes="listwise")).votes) == 2


def test_agree_a_judge_who_should_have_scored_is_missed():
    scorings = both("a", 4.0, 7.0)
    assert only(scorings, judges=["a", "b"]).reason == "score missing"
    assert only(scorings, AgreementRule(judges="any"), judges=["a", "b"]).chosen == 1


@pytest.mark.parametrize(("rule", "expected"), [("all", "judges disagree"), ("majority", "kept"), ("any", "kept")])
def test_agree_two_of_three_judges(rule, expected):
    scorings = both("a", 4.0, 7.0) + both("b", 5.0, 9.0) + both("c", 7.0, 4.0)
    decision = only(scorings, AgreementRule(judges=rule))
    assert decision.reason == expected
    if expected == "kept":  # of the two who agree: (3 + 3 + 4 + 4) / 4
        assert (decision.chosen, decision.strength) == (1, pytest.approx(0.35))


def test_agree_half_of_the_judges_is_no_majority():
    scorings = both("a", 4.0, 7.0) + both("b", 5.0, 5.0)
    assert only(scorings, AgreementRule(judges="majority")).reason == "tie"
    assert only(scorings, AgreementRule(judges="any")).chosen == 1


def test_agree_one_against_one_is_kept_by_no_rule():
    scorings = both("a", 4.0, 7.0) + both("b", 7.0, 4.0)
    for rule in ("all", "majority", "any"):
        assert only(scorings, AgreementRule(judges=rule)).reason == "judges disagree"


def test_agree_least_difference_is_reached_by_equality():
    scorings = both("a", 4.0, 4.3)
    assert only(scorings, AgreementRule(least_difference=0.3)).reason == "kept"
    assert only(scorings, AgreementRule(least_difference=0.31)).reason == "below the least difference"


def test_agree_least_votes_counts_agreeing_scorings():
    scorings = both("a", 4.0, 7.0)
    assert only(scorings, AgreementRule(least_votes=2)).reason == "kept"
    assert only(scorings, AgreementRule(least_votes=3)).reason == "too few votes"


def test_agree_majority_circle_goes_as_a_whole():
    # Each judge has an order of its own: a 0>1>2, b 1>2>0, c 2>0>1. Two of three name 0>1, 1>2 and 2>0.
    scorings = both("a", 9.0, 6.0, 3.0) + both("b", 3.0, 9.0, 6.0) + both("c", 6.0, 3.0, 9.0)
    decisions = agree(scorings, 3, AgreementRule(judges="majority"))
    assert set(reasons(decisions).values()) == {"cycle"}


def test_agree_circle_costs_only_what_the_fewest_judges_name():
    # a: 2>3>0>1, b: 3>0>1>2, c: 0>1>2>3. All three name 0>1, two each 1>2, 2>3 and 3>0.
    scorings = both("a", 5.0, 2.0, 9.0, 7.0) + both("b", 7.0, 5.0, 2.0, 9.0) + both("c", 9.0, 7.0, 5.0, 2.0)
    decisions = agree(scorings, 4, AgreementRule(judges="majority"))
    assert set(kept(decisions)) == {(0, 1)}
    assert reasons(decisions)[(1, 2)] == reasons(decisions)[(0, 3)] == "cycle"


def test_agree_a_pair_beside_the_circle_stays():
    scorings = both("a", 9.0, 6.0, 3.0, 1.0) + both("b", 3.0, 9.0, 6.0, 1.0) + both("c", 6.0, 3.0, 9.0, 1.0)
    decisions = agree(scorings, 4, AgreementRule(judges="majority"))
    assert set(kept(decisions)) == {(0, 3), (1, 3), (2, 3)}


@pytest.mark.parametrize(
    ("scored", "message"),
    [
        (Scored("a", "listwise", 0, (1.0,)), "1 scores for 2"),
        (Scored("a", "listwise", 0, (1.0, 11.0)), "11.0 is not in"),
        (Scored("a", "listwise", 0, (1.0, math.nan)), "nan is not in"),
        (Scored("a", "both", 0, (1.0, 2.0)), "mode"),
        (Scored("a", "pointwise", 0, (1.0, 2.0)), "twice"),
    ],
)
def test_agree_malformed_scoring_is_named(scored, message):
    with pytest.raises(RecordError, match=message) as error:
        agree([Scored("a", "pointwise", 0, (1.0, 2.0)), scored], 2, BOTH)
    assert "'a'" in str(error.value)


def test_rule_names_every_problem():
    with pytest.raises(ConfigError, match="(?s)modes='bth'.*both.*judges='most'.*least_difference=11.*least_votes=0"):
        AgreementRule("bth", "most", 11, 0)


K = 4
SCORES = st.one_of(st.none(), st.integers(0, 4).map(float))
RECORDS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["listwise", "pointwise"]), st.tuples(*[SCORES] * K)),
    max_size=9,
).map(lambda rows: [Scored(judge, mode, i, scores) for i, (judge, mode, scores) in enumerate(rows)])
COMPLETE = st.lists(st.tuples(*[st.integers(0, 9).map(float)] * K), min_size=1, max_size=5).map(
    lambda rows: [s for i, row in enumerate(rows) for s in both(f"judge{i}", *row)]
)
RULES = st.builds(
    AgreementRule,
    modes=st.sampled_from(["both", "either", "listwise", "pointwise"]),
    judges=st.sampled_from(["all", "majority", "any"]),
    least_difference=st.sampled_from([0.0, 1.0, 2.5]),
    least_votes=st.integers(1, 3),
)


@settings(deadline=None)
@given(st.one_of(RECORDS, COMPLETE), RULES, st.permutations(range(K)))
def test_agree_permuted_responses_give_the_same_pairs_and_reasons(scorings, rule, order):
    # Place p of the permuted record holds response order[p].
    moved = [Scored(s.judge, s.mode, s.repeat, tuple(s.overalls[i] for i in order)) for s in scorings]
    told = agree(moved, K, rule)
    back = {(order[c], order[r]): s for (c, r), s in kept(told).items()}
    assert back == pytest.approx(kept(agree(scorings, K, rule)))
    again = {tuple(sorted((order[a], order[b]))): reason for (a, b), reason in reasons(told).items()}
    assert again == reasons(agree(scorings, K, rule))


@settings(deadline=None)
@given(st.one_of(RECORDS, COMPLETE), RULES, st.randoms())
def test_agree_order_and_names_of_judges_do_not_matter(scorings, rule, random):
    shuffled = list(scorings)
    random.shuffle(shuffled)
    assert agree(shuffled, K, rule) == agree(scorings, K, rule)
    names = dict(zip("abc", "zya", strict=True))
    renamed = [Scored(names.get(s.judge, s.judge + "x"), s.mode, s.repeat, s.overalls) for s in scorings]
    assert kept(agree(renamed, K, rule)) == pytest.approx(kept(agree(scorings, K, rule)))


@settings(deadline=None)
@given(st.one_of(RECORDS, COMPLETE), RULES)
def test_agree_stricter_rule_keeps_no_other_pair(scorings, rule):
    def pairs(**changes):
        return set(kept(agree(scorings, K, AgreementRule(**{**vars(rule), **changes}))))

    assert pairs(judges="all") <= pairs(judges="majority") <= pairs(judges="any")
    assert pairs(least_difference=3.0) <= pairs(least_difference=1.5) <= pairs(least_difference=0.0)
    assert pairs(least_votes=3) <= pairs(least_votes=2) <= pairs(least_votes=1)


@settings(deadline=None)
@given(st.one_of(RECORDS, COMPLETE), RULES)
def test_agree_kept_pairs_are_free_of_circles_and_all_are_accounted_for(scorings, rule):
    decisions = agree(scorings, K, rule)
    assert len(decisions) == K * (K - 1) // 2
    won = kept(decisions)
    assert any(all((b, a) not in won for i, a in enumerate(p) for b in p[i + 1 :]) for p in permutations(range(K)))
    assert all(0 < strength <= 1 for strength in won.values())
    assert all((d.chosen is None) == (d.reason != "kept") for d in decisions)


def test_agree_either_takes_the_mode_that_brought_scores():
    scorings = [Scored("j", "listwise", 0, (None, None)), Scored("j", "pointwise", 0, (8.0, 6.0))]
    (decision,) = agree(scorings, 2, AgreementRule(modes="either"))
    assert (decision.chosen, decision.strength) == (0, 0.2)
    (decision,) = agree(scorings, 2, AgreementRule(modes="both"))
    assert decision.reason == "score missing"
