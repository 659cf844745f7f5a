import numpy as np

from callbacks.report_flow import flow_matrix, flow_tables, ledger_flows
from callbacks.report_view import STATES, view_ledgers
from tests.callbacks.reporting import four_rounds


def test_flow_matrix_counts_pairs_by_state_before_and_after():
    matrix = flow_matrix(np.array([0, 0, 1, 2, 2, 2], np.int8), np.array([0, 1, 1, 0, 2, 2], np.int8), states=3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_flow_matrix_sums_are_the_counts_of_both_ledgers_whatever_the_order_of_pairs():
    rng = np.random.default_rng(1)
    before, after = rng.integers(0, 8, (2, 1000)).astype(np.int8)
    matrix = flow_matrix(before, after)
    assert matrix.sum(axis=1).tolist() == np.bincount(before, minlength=8).tolist()
    assert matrix.sum(axis=0).tolist() == np.bincount(after, minlength=8).tolist()
    order = rng.permutation(1000)
    assert (flow_matrix(before[order], after[order]) == matrix).all()
    assert (flow_matrix(after, before) == matrix.T).all()


def test_ledger_flows_balance_and_leave_out_what_was_trusted():
    flows, lost = ledger_flows(view_ledgers(four_rounds()))
    assert lost == 1 and [int(flow.sum()) for flow in flows] == [6, 6, 6]
    for earlier, later in zip(flows[:-1], flows[1:], strict=True):
        assert earlier.sum(axis=0).tolist() == later.sum(axis=1).tolist()
    into = {(STATES[i], STATES[j]): int(flows[1][i, j]) for i, j in np.argwhere(flows[1])}
    assert into == {
        ("kept", "restored"): 2, ("kept", "dropped"): 1, ("kept", "queued"): 1,
        ("flipped", "kept"): 1, ("unreadable", "unreadable"): 1,
    }  # fmt: skip
    assert ledger_flows(view_ledgers([])) == ([], 0)


def test_flow_tables_show_states_with_pairs_and_their_sums():
    (table,) = flow_tables([np.array([[3, 2, 0], [0, 0, 0], [1, 0, 0]])], [0, 1], ("a", "b", "c"))
    assert table.title == "Round 1" and table.targets == ("a", "b")
    assert table.rows == (("a", (3, 2), 5), ("c", (1, 0), 1)) and table.totals == (4, 2, 6)
