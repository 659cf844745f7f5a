"""Ledgers for the report's tests, small enough to be counted by hand."""

from __future__ import annotations

from datamodules.ledger import Decision, Ledger
from tests.callbacks.fakes import make_ledger

TRUSTED, HELD, KEEP, FLIP = Decision.TRUSTED, Decision.HELD, Decision.KEEP, Decision.FLIP
DROP, QUEUE, RESTORE, UNREADABLE = Decision.DROP, Decision.QUEUE, Decision.RESTORE, Decision.UNREADABLE
NAN = float("nan")


def two_rounds():
    one = make_ledger(
        chosen_score=[-3.0, -5.0, 1.0, -0.5], rejected_score=[0.0] * 4, decision=[FLIP, FLIP, KEEP, KEEP],
        flipped=[True, True, False, False], decided=[1] * 4, active=[True] * 4, reason=["why"] * 4,
    )  # fmt: skip
    two = make_ledger(
        chosen_score=[-2.0, 4.0, 1.0, -0.5], rejected_score=[0.0] * 4, decision=[KEEP, DROP, KEEP, DROP],
        flipped=[True, True, False, False], decided=[2] * 4, active=[True, False, True, False], round=2,
    )  # fmt: skip
    return [one, two]


def queueing():
    """k0 queued in round 1 and brought back in 2, k1 queued in 1, k2 in 2."""
    common = dict(chosen_score=[-3.0, -2.0, -5.0], rejected_score=[0.0] * 3, reason=["inconsistent"] * 3)
    one = make_ledger(decision=[QUEUE, QUEUE, KEEP], decided=[1] * 3, active=[False, False, True], **common)
    two = make_ledger(
        decision=[Decision.RESTORE, QUEUE, QUEUE], decided=[2, 1, 2], active=[True, False, False], round=2, **common
    )
    return [one, two]


def four_rounds() -> list[Ledger]:
    """Rounds 0 to 3 of eight pairs: k0 is trusted, k1 too until it cannot be read; k2 to k5 are of source b, k6 and k7 of a.

    Round 1 corrects: k2 is flipped, k7 cannot be read. Round 2 filters and asks: k3 (scored -2) is restored against its label,
    k4 (-3) for it, k5's votes tie, k6's do not all arrive. Round 3 asks again about k6 (+1 now), which is restored as published.
    """
    source = ["a", "a", "b", "b", "b", "b", "a", "a"]
    zeros, ones = [0.0] * 8, [1.0] * 8
    start = make_ledger(source=source, decision=[TRUSTED] * 2 + [HELD] * 6, active=[True] * 2 + [False] * 6, round=0)
    first = make_ledger(
        source=source, decision=[TRUSTED, TRUSTED, FLIP, KEEP, KEEP, KEEP, KEEP, UNREADABLE], decided=[0, 0] + [1] * 6,
        chosen_score=[NAN, NAN, -4.0, -1.0, 2.0, 1.0, 0.5, NAN], rejected_score=[NAN, NAN, 0, 0, 0, 0, 0, NAN],
        flipped=[False, False, True] + [False] * 5, active=[True] * 7 + [False], weight=[1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 1],
        reason=["", "", "half", "", "", "", "", "gone"],
    )  # fmt: skip
    scores = [NAN, NAN, -5.0, -2.0, -3.0, -1.0, -0.5, NAN]
    second = make_ledger(
        source=source, decision=[TRUSTED, UNREADABLE, KEEP, RESTORE, RESTORE, DROP, QUEUE, UNREADABLE],
        decided=[0, 2, 2, 2, 2, 2, 2, 1], chosen_score=scores, rejected_score=[NAN, NAN, 0, 0, 0, 0, 0, NAN],
        flipped=[False, False, True, True, False, False, False, False], weight=ones,
        active=[True, False, True, True, True, False, False, False], vote_share=[NAN, NAN, NAN, 0.25, 1.0, 0.5, NAN, NAN],
        reason=["", "gone", "consistent", "votes 1 : 3 against the published choice", "votes 4 : 0 for the published choice",
                "votes tied 2 : 2", "3 of 4 votes arrived", "gone"], round=2,
    )  # fmt: skip
    third = make_ledger(
        source=source, decision=[TRUSTED, UNREADABLE, KEEP, KEEP, KEEP, DROP, RESTORE, UNREADABLE],
        decided=[0, 2, 3, 3, 3, 2, 3, 1], chosen_score=[NAN, NAN, -5.0, -2.0, 3.0, -1.0, 1.0, NAN],
        rejected_score=[NAN, NAN, *zeros[:5], NAN], flipped=second.flipped, weight=ones,
        active=[True, False, True, True, True, False, True, False], vote_share=[NAN, NAN, NAN, 0.25, 1.0, 0.5, 0.75, NAN],
        reason=["", "gone", "consistent", "consistent", "consistent", "votes tied 2 : 2", "votes 3 : 1 for the published choice",
                "gone"], round=3,
    )  # fmt: skip
    return [start, first, second, third]
