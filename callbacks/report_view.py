"""What the report's parts look at: the ledgers as arrays of small numbers, made once, so that a million pairs stay quick.

Dimension letters: P pairs, S sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datamodules.ledger import Decision, Ledger
from datamodules.texts import coded
from mrm.errors import LedgerError

# The states of a pair, in the order in which they are shown; a pair's state is the decision that holds after a round.
STATES = ("trusted", "held/raw", "kept", "flipped", "restored", "queued", "dropped", "unreadable")
TRUSTED, UNSEEN, KEPT, FLIPPED, RESTORED, QUEUED, DROPPED, UNREADABLE = range(len(STATES))
STATE_OF = {
    Decision.TRUSTED: TRUSTED,
    Decision.HELD: UNSEEN,
    Decision.RAW: UNSEEN,
    Decision.KEEP: KEPT,
    Decision.FLIP: FLIPPED,
    Decision.RESTORE: RESTORED,
    Decision.QUEUE: QUEUED,
    Decision.DROP: DROPPED,
    Decision.UNREADABLE: UNREADABLE,
}
PICTURED_SOURCES = 12  # the others are one in pictures, never in tables


@dataclass(frozen=True, eq=False)
class RoundView:
    """A snapshot for the report.

    Args:
        ledger: the snapshot itself.
        state: int8 [P], numbers of `STATES`.
        fresh: bool [P], decided about in this round, and not trusted.
        chosen_score, rejected_score: float64 [P], of the label in use before the round; NaN where unscored.
    """

    ledger: Ledger
    state: np.ndarray
    fresh: np.ndarray
    chosen_score: np.ndarray
    rejected_score: np.ndarray

    @property
    def number(self) -> int:
        """The round."""
        return int(self.ledger.round)

    @property
    def open(self) -> np.ndarray:
        """bool [P]: not trusted."""
        return self.state != TRUSTED

    @property
    def margin(self) -> np.ndarray:
        """float64 [P]: score of the chosen response minus that of the rejected one; negative: the model contradicts the label."""
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, eq=False)
class LedgerView:
    """All snapshots of a run.

    Args:
        source: int32 [P], numbers of `sources`.
        sources: S names, those with the most open pairs first.
        curated: how many of them have open pairs; they are in front.
        rounds: by rising round.
    """

    source: np.ndarray
    sources: tuple[str, ...]
    curated: int
    rounds: tuple[RoundView, ...]

    def pictured(self, most: int = PICTURED_SOURCES) -> tuple[np.ndarray, tuple[str, ...]]:
        """(int64 [S] which picture a source belongs to, their names): the largest sources, and all the rest as one."""
        if self.curated <= most:
            return np.arange(len(self.sources)), self.sources
        rest = self.curated - most
        return np.minimum(np.arange(len(self.sources)), most), (*self.sources[:most], f"other ({rest} sources)")


def view_ledgers(ledgers: Sequence[Ledger]) -> LedgerView:
    """Looks at the snapshots of one run.

    Args:
        ledgers: by rising round, of the same index.

    Raises:
        LedgerError: if they are not of one index, since then a row is not the same pair in all of them.
    """
    if not ledgers:
        return LedgerView(np.zeros(0, np.int32), (), 0, ())
    first = ledgers[0]
    for other in ledgers[1:]:
        if len(other) != len(first) or other.index_fingerprint != first.index_fingerprint:
            raise LedgerError(
                f"the ledgers of round {first.round} ({len(first)} pairs, index {first.index_fingerprint[:12]}) and round"
                f" {other.round} ({len(other)} pairs, index {other.index_fingerprint[:12]}) are of different indexes; report"
                " the ledgers of one run only."
            )
    source, sources, curated = _by_size(first)
    rounds, flipped_before = [], np.zeros(len(first), bool)
    for ledger in ledgers:
        rounds.append(_view(ledger, flipped_before))
        flipped_before = ledger.flipped
    return LedgerView(source, sources, curated, tuple(rounds))


def _view(ledger: Ledger, flipped_before: np.ndarray) -> RoundView:
    codes, names = coded(pa.array(ledger.decision, pa.string()))
    unknown = sorted(set(names) - set(STATE_OF))
    assert not unknown, f"decisions that no ledger has: {unknown}"
    state = np.array([STATE_OF[name] for name in names], np.int8)[codes] if names else np.zeros(0, np.int8)
    chosen = np.where(flipped_before, ledger.rejected_score, ledger.chosen_score)
    rejected = np.where(flipped_before, ledger.chosen_score, ledger.rejected_score)
    fresh = (ledger.decided == ledger.round) & (state != TRUSTED)
    return RoundView(ledger, state, fresh, chosen, rejected)


def _by_size(ledger: Ledger) -> tuple[np.ndarray, tuple[str, ...], int]:
    """(int32 [P] numbers, names, how many have open pairs): those with the most open pairs first."""
    codes, names = coded(pa.array(ledger.source, pa.string()))
    sizes = np.bincount(codes[ledger.decision != Decision.TRUSTED], minlength=len(names))
    order = sorted(range(len(names)), key=lambda number: (-sizes[number], names[number]))
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    named = tuple(names[number] for number in order)
    return (place[codes] if names else codes), named, int((sizes > 0).sum())
