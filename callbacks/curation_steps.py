"""The steps of a round, as pure functions from ledger to ledger. The rules are `mrm.curation.policy`'s.

A round begins with the ledger before it under the round's own number; every step writes its decisions under that number.

A step decides only about pairs that are in its reach: `correct` about open pairs in use or not yet admitted, `filter` about
these and the queued ones, `annotate` about queued ones. What no judge settles waits in the queue, out of training, until a
later filter finds it consistent or judges see it. What an earlier round dropped stays dropped; trusted pairs are never
touched, unless they cannot be read.

Scores are stored in the published orientation. A pair whose label was flipped is judged in the orientation in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from datamodules.ledger import Decision, Ledger
from mrm.curation.accounts import flip_quality, noise
from mrm.curation.policy import consistent, lower_half, mean_strength, vote
from mrm.errors import CurationError

NOT_FINITE = "the reward is not a finite number"


def open_pairs(ledger: Ledger) -> np.ndarray:
    """bool[P]: pairs that curation may decide about; unreadable trusted ones among them, which no step reaches."""
    return ledger.decision != Decision.TRUSTED


def pool(ledger: Ledger) -> np.ndarray:
    """bool[P]: open pairs in use, or not yet admitted."""
    return open_pairs(ledger) & (ledger.active | (ledger.decision == Decision.HELD))


def in_play(ledger: Ledger) -> np.ndarray:
    """bool[P]: open pairs whose fate is still open: the pool and the queue."""
    return pool(ledger) | (ledger.decision == Decision.QUEUE)


def to_score(ledger: Ledger, steps: Sequence[str]) -> np.ndarray:
    """bool[P]: pairs that a round of these steps scores. Of a queued pair's scores only `filter` makes use."""
    return in_play(ledger) if "filter" in steps else pool(ledger)


def leave_out_unreadable(ledger: Ledger, reasons: Mapping[str, str]) -> Ledger:
    """Takes out what training could not read, trusted pairs too: it must not stand in the ledger as trained on.

    Args:
        ledger: before.
        reasons: key -> why, of the samples that could not be read.
    """
    found = (ledger.active | in_play(ledger)) & np.isin(ledger.key, list(reasons))
    why = np.array([reasons.get(key, "") for key in ledger.key], object)
    return _decide(ledger, found, Decision.UNREADABLE, active=False, reason=why)


def record_scores(
    ledger: Ledger, fresh: np.ndarray, chosen_score: np.ndarray, rejected_score: np.ndarray, reasons: np.ndarray
) -> Ledger:
    """Takes in the scores of this round; pairs without a finite one leave the pool, by name.

    Args:
        ledger: before.
        fresh: bool[P], the pairs that were to be scored.
        chosen_score: float32[P], published orientation; read where the pair is fresh.
        rejected_score: float32[P].
        reasons: object[P], why a pair's sample could not be read; "" where it could.
    """
    unknown = fresh & ~(np.isfinite(chosen_score) & np.isfinite(rejected_score))
    chosen, rejected = (np.where(unknown, np.nan, score).astype(np.float32) for score in (chosen_score, rejected_score))
    scored = replace(
        ledger,
        chosen_score=np.where(fresh, chosen, ledger.chosen_score),
        rejected_score=np.where(fresh, rejected, ledger.rejected_score),
    )
    why = np.where(reasons == "", NOT_FINITE, reasons)
    return _decide(scored, unknown, Decision.UNREADABLE, active=False, reason=why)


def correct(ledger: Ledger, mode: str, down_weight: float, admit_weight: float = 1.0) -> tuple[Ledger, np.ndarray]:
    """Distrusts the more negative half of the negative pairs; the whole rest of the pool is admitted as it was.

    Args:
        ledger: scored in this round.
        mode: what happens to the distrusted: `flip`, `drop`, or `weight` (kept with weight `down_weight`).
        down_weight: in (0, 1).
        admit_weight: weight of the other pairs until a filter confirms them, in (0, 1].

    Returns:
        The new ledger, and bool[P], the distrusted pairs.
    """
    reach = pool(ledger)
    strength = np.where(reach, mean_strength(*_scores_in_use(ledger)), np.nan)
    distrusted = lower_half(strength, _tie_break(ledger, reach & (strength < 0)))
    kept = reach & ~distrusted
    why = np.where(strength < 0, "negative, not in the lower half", "not negative").astype(object)
    after = _decide(ledger, kept, Decision.KEEP, active=True, weight=admit_weight, reason=why)
    half = "in the lower half of the negatives"
    if mode == "drop":
        return _decide(after, distrusted, Decision.DROP, active=False, reason=half), distrusted
    if mode == "weight":
        why_weight = f"{half}: weight {down_weight:g}"
        return _decide(after, distrusted, Decision.KEEP, active=True, weight=down_weight, reason=why_weight), distrusted
    assert mode == "flip", mode
    mended = _decide(
        after, distrusted, Decision.FLIP, active=True, weight=admit_weight, flipped=~ledger.flipped, reason=half
    )
    return mended, distrusted


def filter_pool(ledger: Ledger) -> Ledger:
    """Keeps the pairs whose label in use the model agrees with, at full weight; the others leave the pool and are queued.

    Queued pairs are judged again: a better model than the one that queued them may take them back.
    """
    reach = in_play(ledger)
    chosen, rejected = _scores_in_use(ledger)
    agreed = consistent(chosen, rejected)
    just_flipped = (ledger.decision == Decision.FLIP) & (
        ledger.decided == ledger.round
    )  # agrees by making: stays a flip
    after = _decide(ledger, reach & agreed & ~just_flipped, Decision.KEEP, active=True, weight=1.0, reason="consistent")
    tied = np.where(chosen == rejected, "a tie", "the rejected response scores higher")
    why = ("inconsistent: " + tied.astype(object)).astype(object)
    return _decide(after, reach & ~agreed, Decision.QUEUE, active=False, reason=why)


def settle_queue(ledger: Ledger, votes: np.ndarray, unreadable: Sequence[str]) -> Ledger:
    """Brings queued pairs back with the winner as chosen, or drops them.

    Args:
        ledger: before.
        votes: float[Q, V], a row a queued pair in ledger order, each vote's share for the published choice; NaN missing.
        unreadable: Q texts, why a pair could not be shown to the judges; "" where it could.
    """
    queue = np.flatnonzero(ledger.decision == Decision.QUEUE)
    if len(queue) == 0:
        return ledger
    winner = vote(votes)
    readable = np.array([not why for why in unreadable], bool)
    reason = np.full(len(ledger.key), "", object)
    reason[queue] = [why or _vote_reason(row) for why, row in zip(unreadable, votes, strict=True)]
    flipped = ledger.flipped.copy()
    flipped[queue] = np.where(winner == 0, flipped[queue], winner < 0)

    def rows(which: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(ledger.key), bool)
        mask[queue[which]] = True
        return mask

    restored, dropped = rows(readable & (winner != 0)), rows(readable & (winner == 0))
    after = _decide(ledger, restored, Decision.RESTORE, active=True, weight=1.0, flipped=flipped, reason=reason)
    after = _decide(after, dropped, Decision.DROP, active=False, reason=reason)
    return _decide(after, rows(~readable), Decision.UNREADABLE, active=False, reason=reason)


def check_active_share(ledger: Ledger, opened: np.ndarray, min_active_share: float) -> None:
    """A pool that curation all but empties means a scoring model that has learned nothing, or data that is beyond it.

    Args:
        ledger: after the round.
        opened: bool[P], the pairs of the open pool.
        min_active_share: in [0, 1].

    Raises:
        CurationError: if fewer than `min_active_share` of the open pairs are in use.
    """
    active, total = int((opened & ledger.active).sum()), int(opened.sum())
    if active < min_active_share * total:
        raise CurationError(
            f"round {ledger.round} would leave {active} of {total} open pairs in use ({active / total:.1%}), fewer than"
            f" min_active_share={min_active_share:g}; the accounts: {ledger.accounts()}. Train the scoring model longer"
            " before this round, check the open data and the judges, or lower min_active_share."
        )


def round_record(
    before: Ledger,
    after: Ledger,
    opened: np.ndarray,
    distrusted: np.ndarray,
    scored: np.ndarray,
    asked: np.ndarray,
    truth: np.ndarray,
) -> dict[str, Any]:
    """A round in numbers, in pairs of the open pool. Noise, precision and recall are None where the truth isn't known.

    `queued` counts all pairs that wait for judges after the round, those of earlier rounds too; they are out of training.

    Args:
        before, after: the ledgers.
        opened: bool[P], the pairs of the open pool.
        distrusted: bool[P], what `correct` chose.
        scored: bool[P], pairs that were to be scored.
        asked: bool[P], pairs that were put to the judges.
        truth: int8[P], 1 published label wrong, 0 right, -1 unknown.
    """
    fresh = opened & (after.decided == after.round)
    decided = {
        name: int((fresh & (after.decision == name)).sum())
        for name in (Decision.FLIP, Decision.DROP, Decision.RESTORE, Decision.KEEP, Decision.UNREADABLE)
    }
    active = opened & after.active
    precision, recall = flip_quality(truth, before.flipped, distrusted, pool(before))
    return {
        "round": after.round,
        "scored": int(scored.sum()),
        "flipped": decided[Decision.FLIP],
        "dropped": decided[Decision.DROP],
        "reannotated": int(asked.sum()),
        "restored": decided[Decision.RESTORE],
        "queued": int((after.decision == Decision.QUEUE).sum()),
        "kept": decided[Decision.KEEP],
        "down_weighted": int((fresh & after.active & (after.weight < 1)).sum()),
        "unreadable": decided[Decision.UNREADABLE],
        "open_pairs": int(opened.sum()),
        "active_pairs": int(active.sum()),
        "noise_before": noise(truth, before.flipped, pool(before)),
        "noise_after": noise(truth, after.flipped, active),
        "flip_precision": precision if distrusted.any() else None,
        "flip_recall": recall if distrusted.any() else None,
    }


def _scores_in_use(ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    """(chosen, rejected) scores in the orientation in use."""
    chosen = np.where(ledger.flipped, ledger.rejected_score, ledger.chosen_score)
    return chosen, np.where(ledger.flipped, ledger.chosen_score, ledger.rejected_score)


def _tie_break(ledger: Ledger, needed: np.ndarray) -> np.ndarray:
    """uint64[P]: a digest of the pair's name where needed. Ties at the cut then favour neither a source nor a position."""
    digests = np.zeros(len(ledger.key), np.uint64)
    for i in np.flatnonzero(needed):
        name = f"{ledger.key[i]}/{ledger.pair[i]}".encode()
        digests[i] = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
    return digests


def _vote_reason(votes: np.ndarray) -> str:
    arrived = votes[~np.isnan(votes)]
    if len(arrived) < len(votes):
        return f"{len(arrived)} of {len(votes)} votes arrived"
    for_published = arrived.sum()
    tally = f"{for_published:g} : {len(votes) - for_published:g}"
    if 2 * for_published == len(votes):
        return f"votes tied {tally}"
    side = "for" if 2 * for_published > len(votes) else "against"
    return f"votes {tally} {side} the published choice"


def _decide(
    ledger: Ledger,
    rows: np.ndarray,
    decision: str,
    *,
    active: bool,
    reason: str | np.ndarray,
    weight: float | None = None,
    flipped: np.ndarray | None = None,
) -> Ledger:
    """The ledger with one decision written to the given rows."""
    return replace(
        ledger,
        decision=np.where(rows, decision, ledger.decision),
        decided=np.where(rows, np.int32(ledger.round), ledger.decided),
        active=np.where(rows, active, ledger.active),
        flipped=ledger.flipped if flipped is None else np.where(rows, flipped, ledger.flipped),
        weight=ledger.weight if weight is None else np.where(rows, np.float32(weight), ledger.weight),
        reason=np.where(rows, reason, ledger.reason),
    )
