"""Looking into ledgers: accounts by source, what happened to a pair, how two ledgers differ, and a round taken back.

Pure, from ledgers to tables and ledgers; only `find_ledgers` looks at folders.

Dimension letters: P pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.ledger import Array, Decision, Ledger, ledger_rounds, round_path
from datamodules.texts import Texts, coded
from mrm.errors import ConfigError, LedgerError

DECISIONS = tuple(value for name, value in vars(Decision).items() if name.isupper())
LEDGERS = "ledger"
COLUMNS = tuple(field.name for field in fields(Ledger)[:14])
NAMES = ("key", "pair", "source", "strength")  # columns that no round changes


def find_ledgers(given: str | os.PathLike[str]) -> Path:
    """The folder of ledgers that a run's folder, a curation's output or the folder itself means.

    Raises:
        ConfigError: where there are none.
    """
    root = Path(given)
    for folder in (root, root / LEDGERS):
        if ledger_rounds(folder):
            return folder
    found = (
        "there is no such folder"
        if not root.is_dir()
        else "holds no ledger (round_NNNN.parquet), nor does a folder `ledger` in it"
    )
    raise ConfigError(f"{root}: {found}; give a run's folder, its ledger folder, or an output of mrm.curate.")


def read_round(folder: Path, number: int | None) -> Ledger:
    """A round's ledger, or the newest.

    Raises:
        ConfigError: for a round that is not there; names those that are.
    """
    rounds = ledger_rounds(folder)
    if number is not None and number not in rounds:
        raise ConfigError(f"round={number}: {folder} has the rounds {', '.join(map(str, rounds))}.")
    return Ledger.read(round_path(folder, rounds[-1] if number is None else number))


@dataclass(frozen=True)
class SourceAccount:
    """What a round's ledger says of one source: pairs by standing decision, those in use, and those that the round decided about."""

    round: int
    source: str
    pairs: int
    decisions: dict[str, int]
    active: int
    flipped: int
    decided: int


def accounts(ledger: Ledger) -> list[SourceAccount]:
    """An account a source, by name; their decisions add up to their pairs."""
    codes, names = coded(pa.array(ledger.source, pa.string()))
    numbers, known = coded(pa.array(ledger.decision, pa.string()))
    table = np.bincount(codes * max(len(known), 1) + numbers, minlength=len(names) * len(known)).reshape(len(names), -1)

    def count(rows: Array) -> Array:
        return np.bincount(codes[rows], minlength=len(names))

    active, flipped = count(ledger.active), count(ledger.active & ledger.flipped)
    decided = count(ledger.decided == ledger.round)
    found = []
    for number, source in sorted(enumerate(names), key=lambda item: item[1]):
        counts_of = dict(zip(known, table[number].tolist(), strict=True))
        decisions = {decision: counts_of[decision] for decision in DECISIONS if counts_of.get(decision)}
        own = int(table[number].sum())
        assert sum(decisions.values()) == own, "a ledger that was read has known decisions only"
        counts = (int(column[number]) for column in (active, flipped, decided))
        found.append(SourceAccount(ledger.round, source, own, decisions, *counts))
    return found


def select(
    ledger: Ledger,
    *,
    key: str | None = None,
    pair: int | None = None,
    decision: str | None = None,
    source: str | None = None,
    fresh: bool = False,
) -> Array:
    """bool [P]: the pairs that all given conditions hold of; `fresh`, those that the ledger's own round decided about."""
    rows = np.ones(len(ledger), bool)
    if key is not None:
        rows &= pc.equal(_keys(ledger), key).to_numpy(zero_copy_only=False)
    if pair is not None:
        rows &= ledger.pair == pair
    if decision is not None:
        rows &= ledger.decision == decision
    if source is not None:
        rows &= ledger.source == source
    if fresh:
        rows &= ledger.decided == ledger.round
    return rows


@dataclass(frozen=True)
class Step:
    """What a round said of a pair. `decided`: whether it was this round that decided so, else an earlier one."""

    round: int
    decided: bool
    decision: str
    active: bool
    flipped: bool
    weight: float
    chosen_score: float
    rejected_score: float
    spread: float
    vote_share: float
    reason: str


def history(ledgers: Iterator[Ledger] | list[Ledger], rows: Array) -> list[list[Step]]:
    """What each round said of some pairs.

    Args:
        ledgers: of one pool, by rising round.
        rows: int [n].

    Returns:
        n lists, a step a ledger.
    """
    told: list[list[Step]] = [[] for _ in rows]
    for ledger in ledgers:
        for steps, row in zip(told, rows.tolist(), strict=True):
            steps.append(
                Step(
                    ledger.round,
                    bool(ledger.decided[row] == ledger.round),
                    str(ledger.decision[row]),
                    bool(ledger.active[row]),
                    bool(ledger.flipped[row]),
                    *(float(getattr(ledger, name)[row]) for name in ("weight", "chosen_score", "rejected_score")),
                    *(float(getattr(ledger, name)[row]) for name in ("spread", "vote_share")),
                    str(ledger.reason[row]),
                )
            )
    return told


@dataclass(frozen=True, eq=False)
class LedgerDiff:
    """How a ledger B differs from a ledger A.

    Args:
        decisions: (decision in A, decision in B) -> pairs, of those in both; all of them, the equal ones too.
        labels: pairs whose label in use is another, whatever the decision.
        weights: pairs in use in both whose weight is another.
        changed: int [n, 2], rows in A and B of pairs with another decision, label, weight, or place in training.
        only_a, only_b: rows of the pairs that only one of both has.
    """

    decisions: dict[tuple[str, str], int]
    labels: int
    weights: int
    changed: Array
    only_a: Array
    only_b: Array


def compare(a: Ledger, b: Ledger) -> LedgerDiff:
    """Compares two ledgers pair by pair, by key and number."""
    rows_a, rows_b = _matched(a, b)
    before, names_a = coded(pa.array(a.decision[rows_a], pa.string()))
    after, names_b = coded(pa.array(b.decision[rows_b], pa.string()))
    table = np.bincount(before * max(len(names_b), 1) + after, minlength=len(names_a) * len(names_b))
    counted = {
        (one, other): int(table[i * len(names_b) + j])
        for i, one in enumerate(names_a)
        for j, other in enumerate(names_b)
        if table[i * len(names_b) + j]
    }
    label = a.flipped[rows_a] != b.flipped[rows_b]
    weight = a.active[rows_a] & b.active[rows_b] & (a.weight[rows_a] != b.weight[rows_b])
    other = (a.decision[rows_a] != b.decision[rows_b]) | (a.active[rows_a] != b.active[rows_b])
    where = np.flatnonzero(other | label | weight)
    return LedgerDiff(
        dict(sorted(counted.items())),
        int(label.sum()),
        int(weight.sum()),
        np.stack([rows_a[where], rows_b[where]], axis=1),
        np.setdiff1d(np.arange(len(a)), rows_a, assume_unique=True),
        np.setdiff1d(np.arange(len(b)), rows_b, assume_unique=True),
    )


def _matched(a: Ledger, b: Ledger) -> tuple[Array, Array]:
    """Rows of the same pairs in both."""
    keys_a, keys_b = (_keys(ledger) for ledger in (a, b))
    if len(a) == len(b) and keys_a.equals(keys_b) and np.array_equal(a.pair, b.pair):
        return np.arange(len(a)), np.arange(len(b))
    names_a, names_b = (
        pc.binary_join_element_wise(
            keys, pc.cast(pa.array(ledger.pair), pa.large_string()), pa.scalar("/", pa.large_string())
        )
        for keys, ledger in ((keys_a, a), (keys_b, b))
    )
    place = pc.index_in(names_a, names_b)
    rows_a = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
    return rows_a, place.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Undone:
    """A ledger with a round taken back. All of its masks are bool [P] and of pairs that the round decided about.

    Args:
        ledger: under the newest round's number.
        taken_back: pairs that returned to what the round before had said.
        confirmed: those of them that later rounds had decided about and left as the round made them: what rested on the round
            goes with it.
        relabelled: pairs that keep what a later round decided, but for the label that the round had turned, which is turned back.
        decided_again: pairs that keep all of what a later round decided.
        unreadable: pairs that could not be read, which no undoing changes.
    """

    ledger: Ledger
    taken_back: Array
    confirmed: Array
    relabelled: Array
    decided_again: Array
    unreadable: Array


def take_back(before: Ledger, of_round: Ledger, later: Iterable[Ledger] = (), *, admit: bool = False) -> Undone:
    """Takes back what a round decided, as far as nothing else has been decided since.

    A later round that left a pair in its place under its label has only confirmed it, and by the same label: such pairs return to
    where they were, too. One that took a pair out, or brought it back, decided for itself; only judges decide on a label
    for themselves, so that a label which the round turned is turned back unless they, or another round, have decided on it since.

    Args:
        before: the ledger of the round before it.
        of_round: the ledger of the round.
        later: those of all rounds behind it, by rising round.
        admit: takes pairs that return to being held, which no training uses, into use as published.

    Raises:
        LedgerError: where they are not of one pool, or a round is missing.
        CurationError: if the result does not balance.
    """
    number, newest = of_round.round, of_round
    _check_follows(before, of_round)
    decided = of_round.decided == number
    turned = of_round.flipped != before.flipped
    touched, anew, label = (np.zeros(len(of_round), bool) for _ in range(3))  # at all, for itself, on the label
    for ledger in later:
        _check_follows(newest, ledger)
        now = ledger.decided == ledger.round
        by_judges = now & (ledger.decision == Decision.RESTORE)
        flipped = ledger.flipped != newest.flipped
        touched |= now
        label |= by_judges | flipped
        anew |= by_judges | flipped | (ledger.active != newest.active)
        newest = ledger
    unreadable = decided & (newest.decision == Decision.UNREADABLE)
    taken_back = decided & ~anew & ~unreadable
    relabelled = decided & ~taken_back & ~unreadable & turned & ~label
    columns = {
        name: np.where(taken_back, getattr(before, name), getattr(newest, name))
        for name in COLUMNS
        if name not in NAMES
    }
    columns["flipped"] = np.where(relabelled, before.flipped, columns["flipped"])
    if admit:
        held = taken_back & (columns["decision"] == Decision.HELD)
        columns["decision"] = np.where(held, Decision.RAW, columns["decision"])
        columns["active"] = columns["active"] | held
    ledger = replace(newest, **columns, policy_fingerprint=f"{newest.policy_fingerprint} without round {number}")
    ledger.check_balanced()
    again = decided & ~taken_back & ~relabelled & ~unreadable
    return Undone(ledger, taken_back, taken_back & touched, relabelled, again, unreadable)


def _check_follows(before: Ledger, after: Ledger) -> None:
    if after.round != before.round + 1:
        raise LedgerError(
            f"behind the ledger of round {before.round} comes that of round {after.round}; one is missing."
        )
    if after.index_fingerprint != before.index_fingerprint or len(after) != len(before):
        raise LedgerError(
            f"the ledgers of rounds {before.round} and {after.round} are of different pools ({len(before)} and {len(after)} pairs)."
        )


def names(ledger: Ledger, rows: Array, limit: int) -> list[str]:
    """`KEY/NUMBER` of the first pairs among int [n] rows."""
    return [f"{ledger.key[row]}/{ledger.pair[row]}" for row in rows[:limit].tolist()]


def _keys(ledger: Ledger) -> pa.LargeStringArray:
    return ledger.key.arrow() if isinstance(ledger.key, Texts) else pa.array(ledger.key, pa.large_string())
