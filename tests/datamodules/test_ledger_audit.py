"""Ledgers looked into: accounts, stories, differences, and a round taken back; small ones, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.ledger import Decision, Ledger
from datamodules.ledger_audit import accounts, compare, find_ledgers, history, read_round, select, take_back
from mrm.errors import ConfigError, LedgerError
from tests.callbacks.fakes import make_ledger

KEEP, FLIP, DROP, QUEUE, HELD = Decision.KEEP, Decision.FLIP, Decision.DROP, Decision.QUEUE, Decision.HELD
RESTORE, UNREADABLE = Decision.RESTORE, Decision.UNREADABLE


def ledger_of(number, decisions, decided, **columns):
    flips = [decision == FLIP for decision in decisions]
    active = [decision in (KEEP, FLIP) for decision in decisions]
    given = {"decision": decisions, "decided": decided, "flipped": flips, "active": active, **columns}
    return replace(make_ledger(**given), round=number)


def test_accounts_are_by_source_and_add_up():
    ledger = ledger_of(2, [KEEP, FLIP, DROP, KEEP], [2, 1, 2, 2], source=["b", "b", "b", "a"])
    first, second = accounts(ledger)
    assert (first.source, first.pairs, first.decisions, first.active, first.decided) == ("a", 1, {KEEP: 1}, 1, 1)
    assert (second.source, second.decisions) == ("b", {KEEP: 1, FLIP: 1, DROP: 1})
    assert (second.active, second.flipped, second.decided) == (2, 1, 2)


def test_select_combines_conditions():
    ledger = ledger_of(2, [KEEP, FLIP, FLIP, FLIP], [2, 1, 2, 2], key=["x", "x", "y", "z"], pair=[0, 1, 0, 0])
    assert select(ledger, key="x").tolist() == [True, True, False, False]
    assert select(ledger, key="x", pair=1).tolist() == [False, True, False, False]
    assert select(ledger, decision=FLIP, fresh=True).tolist() == [False, False, True, True]
    assert select(ledger, source="other").tolist() == [False] * 4


def test_history_tells_every_round_of_each_pair():
    rounds = [ledger_of(0, [HELD, HELD], [0, 0]), ledger_of(1, [FLIP, KEEP], [1, 1], reason=["half", "fine"])]
    rounds.append(ledger_of(2, [FLIP, QUEUE], [1, 2], reason=["half", "a tie"]))
    (first, second) = history(rounds, np.array([0, 1]))
    assert [(s.round, s.decision, s.decided) for s in first] == [(0, HELD, True), (1, FLIP, True), (2, FLIP, False)]
    assert [s.reason for s in second] == ["", "fine", "a tie"]
    assert [s.active for s in second] == [False, True, False]


def test_compare_counts_by_decision_and_names_pairs_of_one_only():
    a = ledger_of(1, [KEEP, FLIP, DROP, KEEP], [1] * 4, key=["p", "q", "r", "s"])
    b = ledger_of(1, [KEEP, KEEP, DROP, KEEP], [1] * 4, key=["q", "p", "r", "t"], flipped=[True, False, False, False])
    found = compare(a, b)
    assert found.decisions == {(DROP, DROP): 1, (FLIP, KEEP): 1, (KEEP, KEEP): 1}
    assert found.changed.tolist() == [[1, 0]]
    assert (found.labels, found.weights) == (0, 0)
    assert [a.key[i] for i in found.only_a] == ["s"] and [b.key[i] for i in found.only_b] == ["t"]


def test_compare_same_decision_with_another_label_or_weight_is_a_difference():
    a = ledger_of(1, [KEEP, KEEP, DROP], [1] * 3)
    b = replace(a, flipped=np.array([True, False, False]), weight=np.array([1, 0.5, 0.5], np.float32))
    found = compare(a, b)
    assert (found.labels, found.weights, found.changed.tolist()) == (
        1,
        1,
        [[0, 0], [1, 1]],
    )  # a dropped one's weight is none


def test_take_back_returns_pairs_to_the_round_before_and_leaves_later_decisions():
    before = ledger_of(1, [FLIP, KEEP, QUEUE, KEEP], [1] * 4, reason=["a", "b", "c", "d"], weight=[0.5, 1, 1, 1])
    of_round = ledger_of(2, [KEEP, DROP, KEEP, KEEP], [2, 2, 2, 1], flipped=[True, False, False, False])
    newest = ledger_of(
        3, [KEEP, DROP, QUEUE, KEEP], [2, 2, 3, 3], flipped=[True, False, False, False]
    )  # one queued again
    undone = take_back(before, of_round, [newest])
    assert undone.taken_back.tolist() == [True, True, False, False]
    assert undone.decided_again.tolist() == [False, False, True, False]  # the last was not round 2's
    ledger = undone.ledger
    assert ledger.decision.tolist() == [FLIP, KEEP, QUEUE, KEEP]
    assert ledger.decided.tolist() == [1, 1, 3, 3] and ledger.round == 3
    assert ledger.weight.tolist() == [0.5, 1, 1, 1] and ledger.reason[:2].tolist() == ["a", "b"]
    assert ledger.active.tolist() == [True, True, False, True]


def test_take_back_takes_confirmations_along_and_turns_labels_back():
    """Round 1 flips all six. Later: nothing; confirmed; queued; judges bring one back as flipped; one they turn; judges tie, dropped."""
    before = ledger_of(0, [HELD] * 6, [0] * 6)
    of_round = ledger_of(1, [FLIP] * 6, [1] * 6)
    newest = ledger_of(
        2,
        [FLIP, KEEP, QUEUE, RESTORE, RESTORE, DROP],
        [1, 2, 2, 2, 2, 2],
        flipped=[True, True, True, True, False, True],
        active=[True, True, False, True, True, False],
    )
    undone = take_back(before, of_round, [newest])
    assert undone.taken_back.tolist() == [True, True, False, False, False, False]
    assert undone.confirmed.tolist() == [False, True, False, False, False, False]
    assert undone.relabelled.tolist() == [False, False, True, False, False, True]
    assert undone.decided_again.tolist() == [False, False, False, True, True, False]
    ledger = undone.ledger
    assert ledger.decision.tolist() == [HELD, HELD, QUEUE, RESTORE, RESTORE, DROP]
    assert ledger.flipped.tolist() == [False, False, False, True, False, False]
    assert ledger.active.tolist() == [False, False, False, True, True, False]


def test_take_back_sees_what_came_and_went_between():
    """Judges bring both back in round 2; then one is queued and brought back again as before, the other queued and found consistent."""
    before = ledger_of(1, [QUEUE, FLIP], [1, 1])
    of_round = ledger_of(
        2, [RESTORE, KEEP], [2, 2], active=[True, True], flipped=[True, True], vote_share=[0.25, np.nan]
    )
    third = ledger_of(3, [QUEUE, QUEUE], [3, 3], flipped=[True, True], vote_share=[0.25, np.nan])
    fourth = ledger_of(4, [RESTORE, KEEP], [4, 4], active=[True, True], flipped=[True, True], vote_share=[0.25, np.nan])
    undone = take_back(before, of_round, [third, fourth])
    assert undone.decided_again.tolist() == [True, True] and not undone.taken_back.any()
    assert undone.ledger.active.all() and undone.ledger.flipped.all()


def test_take_back_leaves_what_cannot_be_read_left_out():
    before = ledger_of(1, [KEEP, Decision.TRUSTED, KEEP], [1, 0, 1], active=[True] * 3)
    of_round = ledger_of(2, [QUEUE, UNREADABLE, UNREADABLE], [2, 2, 2])
    newest = ledger_of(3, [UNREADABLE, UNREADABLE, UNREADABLE], [3, 2, 2])
    undone = take_back(before, of_round, [newest])
    assert undone.unreadable.all() and not undone.ledger.active.any()
    assert (undone.ledger.decision == UNREADABLE).all()


def test_take_back_admits_what_would_be_held_where_that_is_asked_for():
    before, of_round = ledger_of(0, [HELD, HELD], [0, 0]), ledger_of(1, [FLIP, KEEP], [1, 1])
    assert not take_back(before, of_round).ledger.active.any()
    ledger = take_back(before, of_round, admit=True).ledger
    assert ledger.decision.tolist() == [Decision.RAW, Decision.RAW] and ledger.active.all() and not ledger.flipped.any()


def test_take_back_of_the_newest_round_is_the_round_before():
    before = ledger_of(0, [HELD, HELD, HELD], [0] * 3)
    newest = ledger_of(1, [FLIP, KEEP, DROP], [1] * 3, chosen_score=[1, 2, 3], rejected_score=[2, 1, 4])
    ledger = take_back(before, newest).ledger
    assert not len(compare(ledger, before).changed) and np.isnan(ledger.chosen_score).all()


@st.composite
def courses(draw):
    """Ledgers of rounds 0 to 4, of which each decides about some pairs."""
    pairs = draw(st.integers(1, 5))
    ledgers = [ledger_of(0, [HELD] * pairs, [0] * pairs)]
    for number in range(1, 5):
        last = ledgers[-1]
        now = np.array(draw(st.lists(st.booleans(), min_size=pairs, max_size=pairs)))
        said = draw(
            st.lists(st.sampled_from([KEEP, FLIP, DROP, QUEUE, RESTORE, UNREADABLE]), min_size=pairs, max_size=pairs)
        )
        turned = np.array(draw(st.lists(st.booleans(), min_size=pairs, max_size=pairs)))
        decision = np.where(now, np.array(said, object), last.decision)
        flipped = np.where(now & ((decision == FLIP) | ((decision == RESTORE) & turned)), ~last.flipped, last.flipped)
        active = np.isin(decision.astype(str), [KEEP, FLIP, RESTORE])
        columns = {
            "decision": decision,
            "flipped": flipped,
            "active": active,
            "decided": np.where(now, number, last.decided),
        }
        ledgers.append(replace(last, round=number, **columns))
    return ledgers


@given(courses(), st.integers(1, 4))
def test_take_back_accounts_for_each_pair_of_the_round_once(ledgers, number):
    before, of_round, later, newest = ledgers[number - 1], ledgers[number], ledgers[number + 1 :], ledgers[-1]
    undone = take_back(before, of_round, later)
    masks = (undone.taken_back, undone.relabelled, undone.decided_again, undone.unreadable)
    assert (sum(mask.astype(int) for mask in masks) == (of_round.decided == number)).all()
    assert (undone.confirmed <= undone.taken_back).all()
    ledger = undone.ledger
    ledger.check_balanced()
    rest = ~(undone.taken_back | undone.relabelled)
    for name in ("decision", "active", "flipped", "decided"):
        assert (getattr(ledger, name)[rest] == getattr(newest, name)[rest]).all()
        assert (getattr(ledger, name)[undone.taken_back] == getattr(before, name)[undone.taken_back]).all()
    assert (ledger.decision[undone.relabelled] == newest.decision[undone.relabelled]).all()
    assert (ledger.flipped[undone.relabelled] == before.flipped[undone.relabelled]).all()


def test_take_back_of_another_pool_or_without_a_round_is_refused():
    newest = ledger_of(1, [KEEP], [1])
    with pytest.raises(LedgerError, match="different pools"):
        take_back(replace(ledger_of(0, [HELD], [0]), index_fingerprint="other"), newest)
    with pytest.raises(LedgerError, match="behind the ledger of round 1 comes that of round 3; one is missing"):
        take_back(ledger_of(0, [HELD], [0]), newest, [ledger_of(3, [KEEP], [3])])


def test_find_ledgers_takes_a_run_or_its_ledger_folder(tmp_path):
    ledger_of(0, [HELD], [0]).write(tmp_path / "run" / "ledger")
    assert find_ledgers(tmp_path / "run") == find_ledgers(tmp_path / "run" / "ledger") == tmp_path / "run" / "ledger"
    assert isinstance(read_round(find_ledgers(tmp_path / "run"), None), Ledger)
    with pytest.raises(ConfigError, match="round=3: .* has the rounds 0"):
        read_round(tmp_path / "run" / "ledger", 3)
    with pytest.raises(ConfigError, match="holds no ledger"):
        find_ledgers(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        find_ledgers(tmp_path / "none")
