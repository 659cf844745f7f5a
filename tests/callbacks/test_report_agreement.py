import math
from dataclasses import replace

import numpy as np
import pytest

from callbacks.curation_steps import settle_queue
from callbacks.report_agreement import agreement, judge_figures, judged_pairs, margin_bins, wilson
from callbacks.report_view import view_ledgers
from callbacks.round_inputs import Votes
from tests.callbacks.fakes import make_ledger
from tests.callbacks.reporting import DROP, QUEUE, four_rounds


def test_judged_pairs_are_found_each_time_they_were_asked_about():
    judged = judged_pairs(view_ledgers(four_rounds()))
    rows = list(zip(judged.row, judged.round, judged.margin, judged.side, judged.missing, strict=True))
    assert rows == [(3, 2, -2, -1, 0), (4, 2, -3, 1, 0), (5, 2, -1, 0, 0), (6, 2, -0.5, 0, 1), (6, 3, 1, 1, 0)]


def test_agreement_counts_sides_ties_and_missing_votes():
    view = view_ledgers(four_rounds())
    found = agreement(view, judged_pairs(view))
    overall = found.overall
    assert (overall.asked, overall.settled, overall.ties, overall.missing) == (5, 3, 1, 1)
    assert (overall.with_model, overall.against_model, overall.no_opinion) == (2, 1, 0)  # k4 is against it
    assert overall.share == pytest.approx(2 / 3)
    assert [(row.name, row.asked, row.share) for row in found.by_round] == [("round 2", 4, 0.5), ("round 3", 1, 1.0)]
    assert [(row.name, row.asked, row.share) for row in found.by_source] == [("b", 3, 0.5), ("a", 2, 1.0)]
    for rows in (found.by_round, found.by_source, found.by_margin):
        for name in ("asked", "settled", "ties", "missing", "no_opinion", "with_model", "against_model"):
            assert sum(getattr(row, name) for row in rows) == getattr(overall, name), name
    assert agreement(view, judged_pairs(view_ledgers(four_rounds()[:2]))) is None


def test_agreement_of_pairs_without_a_sign_is_no_agreement():
    ledgers = four_rounds()
    ledgers[2] = replace(ledgers[2], chosen_score=np.zeros(8, np.float32), rejected_score=np.zeros(8, np.float32))
    view = view_ledgers(ledgers[:3])
    overall = agreement(view, judged_pairs(view)).overall
    assert (overall.settled, overall.no_opinion, overall.with_model, overall.share) == (2, 2, 0, None)


def test_judged_pairs_reads_what_settling_the_queue_writes():
    before = make_ledger(
        decision=[QUEUE] * 4 + [DROP], chosen_score=[1.0] * 5, rejected_score=[0.0] * 5, reason=["x"] * 5
    )
    votes = np.array([[1, 1], [0, 0], [1, 0], [1, np.nan]])
    judged = judged_pairs(view_ledgers([settle_queue(replace(before, round=2), Votes(votes, [""] * 4), "drop")]))
    assert (judged.row.tolist(), judged.side.tolist()) == ([0, 1, 2, 3], [1, -1, 0, 0])
    assert judged.missing.tolist() == [False, False, False, True]


def test_margin_bins_have_about_as_many_pairs_each():
    bins, names = margin_bins(np.array([1.0, 2, 3, 4, np.nan]), 2)
    assert bins.tolist() == [0, 0, 1, 1, -1] and names == ("0 to 2.5", "2.5 and more")
    bins, names = margin_bins(np.full(6, 2.0))
    assert set(bins.tolist()) == {0} and len(names) == 1  # equal ones stand together
    assert margin_bins(np.full(2, np.nan))[1] == ()


def test_wilson_interval_by_hand():
    low, high = wilson(5, 10)
    square = 1.96**2 / 10
    half = 1.96 * math.sqrt(0.25 / 10 + square / 40) / (1 + square)
    assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert wilson(0, 0) == (None, None) and wilson(0, 4)[0] == pytest.approx(0) and wilson(4, 4)[1] == pytest.approx(1)


def test_judge_figures_are_shown_where_a_round_recorded_them():
    names, found = judge_figures([{"round": 1}, {"round": 2, "judges": {"b": {"asked": 3}, "a": {"agreement": 0.5}}}])
    assert names == ("asked", "agreement") and found == [(2, "b", {"asked": 3}), (2, "a", {"agreement": 0.5})]
    assert judge_figures([{"round": 1, "judges": None}]) == ((), [])
