from dataclasses import replace

import numpy as np

from callbacks.report_agreement import judged_pairs
from callbacks.report_gallery import disputed, gallery, with_contents
from callbacks.report_view import view_ledgers
from datamodules.ledger import Decision
from mrm.errors import ShardError
from tests.callbacks.reporting import DROP, FLIP, QUEUE, four_rounds, queueing, two_rounds


def test_gallery_takes_the_surest_decisions_of_their_own_round():
    ledgers = two_rounds()
    assert [(item.key, item.round, item.margin) for item in gallery(ledgers, FLIP, 8)] == [
        ("k1", 1, -5.0),
        ("k0", 1, -3.0),
    ]
    assert [item.key for item in gallery(ledgers, FLIP, 1)] == ["k1"]
    assert [(item.key, item.margin) for item in gallery(ledgers, DROP, 8)] == [("k1", 4.0), ("k3", -0.5)]
    assert gallery([], DROP, 8) == []


def test_gallery_of_the_queued_shows_those_left_out_at_the_end_once():
    items = gallery(queueing(), QUEUE, 8)
    assert [(item.key, item.round, item.margin) for item in items] == [("k2", 2, -5.0), ("k1", 1, -2.0)]
    assert [item.key for item in gallery(queueing(), Decision.RESTORE, 8)] == ["k0"]


def test_gallery_tells_spread_and_votes_where_they_are_known():
    ledgers = four_rounds()
    spread = np.array([np.nan] * 3 + [0.5] + [np.nan] * 4, np.float32)
    ledgers[2] = replace(ledgers[2], spread=spread)
    items = gallery(ledgers, Decision.RESTORE, 8)
    assert [(item.key, item.margin, item.spread, item.vote_share) for item in items] == [
        ("k4", -3.0, None, 1.0),
        ("k3", -2.0, 0.5, 0.25),
        ("k6", 1.0, None, 0.75),
    ]


def test_disputed_are_those_whose_votes_won_against_the_sign_largest_margin_first():
    ledgers = four_rounds()
    judged = judged_pairs(view_ledgers(ledgers))
    assert [(item.key, item.round, item.margin) for item in disputed(ledgers, judged, 8)] == [("k4", 2, -3.0)]
    other = [
        *ledgers[:2],
        replace(ledgers[2], flipped=np.zeros(8, bool)),
        ledgers[3],
    ]  # k3 is for the published choice, too
    found = disputed(other, judged_pairs(view_ledgers(other)), 8)
    assert [item.key for item in found] == ["k4", "k3"]
    assert [item.key for item in disputed(other, judged_pairs(view_ledgers(other)), 1)] == ["k4"]


def test_with_contents_what_cannot_be_read_says_why():
    def read(key):
        raise ShardError(f"{key}: gone")

    (item,) = gallery(four_rounds(), FLIP, 8)
    assert with_contents(item, read).problem == "k2: gone"
