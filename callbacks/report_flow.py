"""How pairs move between states from round to round, in counts. Laying the plot out is `report_alluvial`'s.

Dimension letters: P pairs, K states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from callbacks.report_view import STATES, LedgerView


@dataclass(frozen=True)
class FlowTable:
    """The flow into one round, as a table.

    Args:
        title: which round.
        targets: names of the states found behind it.
        rows: (state before, pairs by target, their sum).
        totals: pairs by target, and all.
    """

    title: str
    targets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...], int], ...]
    totals: tuple[int, ...]


def flow_matrix(before: np.ndarray, after: np.ndarray, states: int = len(STATES)) -> np.ndarray:
    """Counts the pairs that went from one state to another.

    Args:
        before, after: int [P], each pair's state, in the same order of pairs.
        states: K.

    Returns:
        int64 [K, K], rows are states before: a row adds up to the state's pairs before, a column to those after.
    """
    assert before.shape == after.shape, "the same pairs, before and after"
    places = before.astype(np.int64) * states + after
    return np.bincount(places, minlength=states * states).reshape(states, states)


def ledger_flows(view: LedgerView) -> tuple[list[np.ndarray], int]:
    """One matrix for each two snapshots that follow each other, of the pairs that are open in the first.

    Returns:
        (int64 [K, K] each, how many trusted pairs turned out to be unreadable, which are in none of them)
    """
    if not view.rounds:
        return [], 0
    rows = view.rounds[0].open
    states = [seen.state[rows] for seen in view.rounds]
    lost = int((view.rounds[-1].open & ~rows).sum())
    return [flow_matrix(before, after) for before, after in zip(states[:-1], states[1:], strict=True)], lost


def flow_tables(flows: Sequence[np.ndarray], numbers: Sequence[int], names: Sequence[str] = STATES) -> list[FlowTable]:
    """The flows as tables; states without pairs are left out.

    Args:
        flows: int [K, K] each.
        numbers: the rounds of the snapshots, one more than flows.
        names: of the K states.
    """
    tables = []
    for number, flow in zip(numbers[1:], flows, strict=True):
        rows, columns = np.flatnonzero(flow.sum(axis=1)), np.flatnonzero(flow.sum(axis=0))
        shown = flow[np.ix_(rows, columns)]
        tables.append(
            FlowTable(
                f"Round {number}",
                tuple(names[column] for column in columns),
                tuple(
                    (names[row], tuple(line.tolist()), int(line.sum())) for row, line in zip(rows, shown, strict=True)
                ),
                (*shown.sum(axis=0).tolist(), int(shown.sum())),
            )
        )
    return tables
