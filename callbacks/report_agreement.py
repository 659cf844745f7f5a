"""Do the annotators agree with the model? Of the queued pairs that they settled, and what they left unsettled, from the ledgers.

A queued pair is one whose label in use the model did not agree with, so that siding with the model mostly means to overturn the label.

Dimension letters: P pairs, V judged pairs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from callbacks.curation_steps import ARRIVED, TIED
from callbacks.report_view import DROPPED, QUEUED, RESTORED, LedgerView, RoundView
from datamodules.texts import coded

TIES, MISSING = re.compile(rf"{TIED} "), re.compile(rf"\d+ of \d+ {ARRIVED}")  # of `curation_steps.settle_queue`
MARGIN_BINS = 5
Z = 1.96  # 95 % intervals


@dataclass(frozen=True, eq=False)
class Judged:
    """The pairs that annotators were asked about, each time they were.

    Args:
        row: int64 [V], the pair's row in the ledger. round: int64 [V].
        margin: float64 [V], the model's, as published; NaN where unscored.
        side: int8 [V], 1 the votes are for the published choice, -1 against it, 0 unsettled.
        missing: bool [V], unsettled since not all votes arrived; other unsettled ones are ties.
    """

    row: np.ndarray
    round: np.ndarray
    margin: np.ndarray
    side: np.ndarray
    missing: np.ndarray


@dataclass(frozen=True)
class AgreementRow:
    """How a group of pairs was judged.

    Args:
        name: of the group. asked: pairs. settled: by vote. ties, missing: not settled, why.
        no_opinion: settled, but the model has no sign. with_model, against_model: settled, sides with the model's sign or not.
        share: with_model of both; None where there are none. low, high: its 95 % interval (Wilson).
    """

    name: str
    asked: int
    settled: int
    ties: int
    missing: int
    no_opinion: int
    with_model: int
    against_model: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """The tables: all pairs, by round, by source, and by the size of the model's margin; judges' own figures, if recorded."""

    overall: AgreementRow
    by_round: tuple[AgreementRow, ...]
    by_source: tuple[AgreementRow, ...]
    by_margin: tuple[AgreementRow, ...]


def judged_pairs(view: LedgerView) -> Judged:
    """Finds what annotators were asked about; a pair that waited and was asked about again is there again."""
    parts = [_judged(seen) for seen in view.rounds]
    return Judged(*(np.concatenate([part[i] for part in parts]) if parts else np.zeros(0) for i in range(5)))


def agreement(view: LedgerView, judged: Judged) -> Agreement | None:
    """Counts it.

    Args:
        view: the ledgers.
        judged: of `judged_pairs`.

    Returns:
        None if no annotator was asked.
    """
    if not len(judged.row):
        return None
    source = view.source[judged.row]
    size = np.abs(judged.margin)
    bins, names = margin_bins(size)
    return Agreement(
        agreement_row("all", judged, np.ones(len(source), bool)),
        tuple(agreement_row(f"round {n}", judged, judged.round == n) for n in np.unique(judged.round).tolist()),
        tuple(agreement_row(view.sources[n], judged, source == n) for n in np.unique(source).tolist()),
        tuple(agreement_row(name, judged, bins == n) for n, name in enumerate(names)),
    )


def agreement_row(name: str, judged: Judged, rows: np.ndarray) -> AgreementRow:
    """Counts one group.

    Args:
        name: of the group.
        judged: all judged pairs.
        rows: bool [V], the group.
    """
    side, margin = judged.side[rows], judged.margin[rows]
    settled, opinion = side != 0, np.isfinite(margin) & (margin != 0)
    agreed = int((settled & opinion & (np.sign(margin) == side)).sum())
    compared = int((settled & opinion).sum())
    missing = int(judged.missing[rows].sum())
    low, high = wilson(agreed, compared)
    return AgreementRow(
        name,
        asked=len(side),
        settled=int(settled.sum()),
        ties=int((~settled).sum()) - missing,
        missing=missing,
        no_opinion=int((settled & ~opinion).sum()),
        with_model=agreed,
        against_model=compared - agreed,
        share=agreed / compared if compared else None,
        low=low,
        high=high,
    )


def wilson(hits: int, total: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share (Wilson, 1927); None of nothing."""
    if not total:
        return None, None
    share, square = hits / total, Z * Z / total
    middle, half = share + square / 2, Z * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return max((middle - half) / (1 + square), 0.0), min((middle + half) / (1 + square), 1.0)


def margin_bins(size: np.ndarray, bins: int = MARGIN_BINS) -> tuple[np.ndarray, tuple[str, ...]]:
    """Bins with about as many pairs each.

    Args:
        size: float [V], |margin|; NaN belongs to no bin.
        bins: how many at most; fewer where many are equal.

    Returns:
        (int64 [V], the bin of each, -1 of none; their names, the smallest first).
    """
    known = np.isfinite(size)
    if not known.any():
        return np.full(len(size), -1), ()
    inner = np.unique(np.quantile(size[known], np.arange(1, bins) / bins))
    found = np.where(known, np.searchsorted(inner, size, side="right"), -1)
    used, place = np.unique(found[known], return_inverse=True)
    found[known] = place
    edges = [0.0, *inner.tolist(), math.inf]
    return found, tuple(
        f"{edges[n]:.3g} to {edges[n + 1]:.3g}" if edges[n + 1] < math.inf else f"{edges[n]:.3g} and more"
        for n in used.tolist()
    )


def judge_figures(rounds: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[int, str, dict[str, Any]]]]:
    """Each judge's own figures, where a round's record has them under `judges`: name -> figures.

    Returns:
        (names of the figures, [(round, judge, its figures)]).
    """
    found = [
        (int(record["round"]), str(judge), dict(figures))
        for record in rounds
        for judge, figures in (record.get("judges") or {}).items()
    ]
    return tuple(dict.fromkeys(name for _, _, figures in found for name in figures)), found


def _judged(seen: RoundView) -> tuple[np.ndarray, ...]:
    """The fields of `Judged`, of one round."""
    candidates = np.flatnonzero(seen.fresh & np.isin(seen.state, (RESTORED, DROPPED, QUEUED)))
    state = seen.state[candidates]
    codes, texts = coded(pa.array(seen.ledger.reason[candidates], pa.string()))
    tied, missing = (np.array([bool(said.match(text)) for text in texts], bool)[codes] for said in (TIES, MISSING))
    missing &= state != RESTORED
    asked = (state == RESTORED) | tied | missing
    rows = candidates[asked]
    # What was restored has the label that won.
    side = np.where(state[asked] == RESTORED, np.where(seen.ledger.flipped[rows], -1, 1), 0).astype(np.int8)
    margin = seen.ledger.chosen_score[rows] - seen.ledger.rejected_score[rows]
    return rows, np.full(len(rows), seen.number), margin, side, missing[asked]
