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
    undone = take_back(newest, of_round, before)
    assert undone.taken_back.tolist() == [True, True, False, False]
    assert undone.decided_again.tolist() == [False, False, True, False]  # the last was not round 2's
    ledger = undone.ledger
    assert ledger.decision.tolist() == [FLIP, KEEP, QUEUE, KEEP]
    assert ledger.decided.tolist() == [1, 1, 3, 3] and ledger.round == 3
    assert ledger.weight.tolist() == [0.5, 1, 1, 1] and ledger.reason[:2].tolist() == ["a", "b"]
    assert ledger.active.tolist() == [True, True, False, True]


def test_take_back_takes_confirmations_along_and_turns_labels_back():
    """Round 1 flips all six. Later: nothing; confirmed; queued; judges bring one back as flipped; one they turn; judges tie, dropped."""
    nan = np.nan
    before = ledger_of(0, [HELD] * 6, [0] * 6)
    of_round = ledger_of(1, [FLIP] * 6, [1] * 6)
    newest = ledger_of(
        2,
        [FLIP, KEEP, QUEUE, Decision.RESTORE, Decision.RESTORE, DROP],
        [1, 2, 2, 2, 2, 2],
        flipped=[True, True, True, True, False, True],
        active=[True, True, False, True, True, False],
        vote_share=[nan, nan, nan, 0.0, 1.0, 0.5],
    )
    undone = take_back(newest, of_round, before)
    assert undone.taken_back.tolist() == [True, True, False, False, False, False]
    assert undone.confirmed.tolist() == [False, True, False, False, False, False]
    assert undone.relabelled.tolist() == [False, False, True, False, False, False]
    assert undone.decided_again.tolist() == [False, False, False, True, True, True]
    ledger = undone.ledger
    assert ledger.decision.tolist() == [HELD, HELD, QUEUE, Decision.RESTORE, Decision.RESTORE, DROP]
    assert ledger.flipped.tolist() == [False, False, False, True, False, True]
    assert ledger.active.tolist() == [False, False, False, True, True, False]


def test_take_back_of_the_newest_round_is_the_round_before():
    before = ledger_of(0, [HELD, HELD, HELD], [0] * 3)
    newest = ledger_of(1, [FLIP, KEEP, DROP], [1] * 3, chosen_score=[1, 2, 3], rejected_score=[2, 1, 4])
    ledger = take_back(newest, newest, before).ledger
    assert not len(compare(ledger, before).changed) and np.isnan(ledger.chosen_score).all()


@given(st.lists(st.sampled_from([KEEP, FLIP, DROP, QUEUE]), min_size=1, max_size=8), st.randoms())
def test_take_back_balances_and_is_done_once(decisions, random):
    before = ledger_of(1, decisions, [1] * len(decisions))
    newest = ledger_of(2, random.sample(decisions, len(decisions)), [random.choice([1, 2]) for _ in decisions])
    once = take_back(newest, newest, before).ledger
    once.check_balanced()
    assert not (once.decided == 2).any()
    assert not len(compare(take_back(once, newest, before).ledger, once).changed)


def test_take_back_of_another_pool_is_refused():
    newest = ledger_of(1, [KEEP], [1])
    with pytest.raises(LedgerError, match="different pools"):
        take_back(newest, newest, replace(ledger_of(0, [HELD], [0]), index_fingerprint="other"))


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
