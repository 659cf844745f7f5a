"""The steps of a round, as pure functions from ledger to ledger. The rules are `mrm.curation`'s.

A round begins with the ledger before it under the round's own number; every step writes its decisions under that number.

A step decides only about pairs that are in its reach: `correct` about open pairs in use or not yet admitted, each at most once a
round, `filter` about these and the queued ones, `annotate` about queued ones. What no judge settles waits in the queue, out of
training, until a later filter finds it consistent or judges see it. What an earlier round dropped stays dropped; trusted pairs
are never touched, unless they cannot be read.

Scores are stored in the published orientation. A pair whose label was flipped is judged in the orientation in use.

A million pairs are common: texts are written to rows by reference, never made a row; only ties at a cut are looked at one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callbacks.round_inputs import NOT_FINITE, PairScores, Votes
from datamodules.ledger import Decision, Ledger
from datamodules.texts import Texts, coded
from mrm.curation.noise_estimate import NoiseEstimate, estimate_noise, expected_share
from mrm.curation.policy import consistent, distrusted, mean_score, mean_strength, spread, unanimous, uncertain, vote
from mrm.curation.rules import Rules, SourceRules
from mrm.errors import CurationError

RELEASED_SHARE = 0.5
TIED, ARRIVED = "votes tied", "votes arrived"  # words of reasons, by which the report tells why a pair was not settled
TOGETHER = ""  # stands for all sources that are ranked together; no source has an empty name
RELEASED = SourceRules()


@dataclass(frozen=True, eq=False)
class Correction:
    """What `correct` did.

    Args:
        ledger: after it.
        distrusted: bool[P], the pairs whose label it distrusted.
        shares: the share of the negatives that was distrusted, by source ranked apart; `TOGETHER` for all the others.
    """

    ledger: Ledger
    distrusted: np.ndarray
    shares: dict[str, float]


def open_pairs(ledger: Ledger) -> np.ndarray:
    """bool[P]: pairs that curation may decide about; unreadable trusted ones among them, which no step reaches."""
    return ledger.decision != Decision.TRUSTED


def pool(ledger: Ledger) -> np.ndarray:
    """bool[P]: open pairs in use, or not yet admitted."""
    return open_pairs(ledger) & (ledger.active | (ledger.decision == Decision.HELD))


def in_play(ledger: Ledger) -> np.ndarray:
    """bool[P]: open pairs whose fate is still open: the pool and the queue."""
    return pool(ledger) | (ledger.decision == Decision.QUEUE)


def settled_by_vote(ledger: Ledger) -> np.ndarray:
    """bool[P]: pairs in use with the label that their judges voted for."""
    return ledger.active & np.isfinite(ledger.vote_share) & (ledger.vote_share != 0.5)


def to_score(ledger: Ledger, steps: tuple[str, ...] | list[str]) -> np.ndarray:
    """bool[P]: pairs that a round of these steps scores. Of a queued pair's scores only `filter` makes use."""
    return in_play(ledger) if "filter" in steps else pool(ledger)


def leave_out_unreadable(ledger: Ledger, reasons: Mapping[str, str]) -> Ledger:
    """Takes out what training could not read, trusted pairs too: it must not stand in the ledger as trained on.

    Args:
        ledger: before.
        reasons: key -> why, of the samples that could not be read.
    """
    if not reasons:
        return ledger
    keys = ledger.key.arrow() if isinstance(ledger.key, Texts) else pa.array(ledger.key, pa.large_string())
    place = pc.index_in(keys, pa.array(list(reasons), pa.large_string()))
    named = place.is_valid().to_numpy(zero_copy_only=False)
    found = (ledger.active | in_play(ledger)) & named
    why = ledger.reason.copy()
    why[named] = np.array(list(reasons.values()), object)[place.drop_null().to_numpy(zero_copy_only=False)]
    return _decide(ledger, found, Decision.UNREADABLE, active=False, reason=why)


def record_scores(ledger: Ledger, fresh: np.ndarray, scores: PairScores) -> Ledger:
    """Takes in the scores of this round, means and spread over the passes; pairs without finite ones leave the pool, by name.

    Args:
        ledger: before.
        fresh: bool[P], the pairs that were to be scored.
        scores: read where a pair is fresh. A pair that any pass has no finite score of has none.
    """
    finite = (np.isfinite(scores.chosen) & np.isfinite(scores.rejected)).all(axis=0)
    known, unknown = fresh & finite, fresh & ~finite

    def column(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.where(fresh, np.where(known, new, np.nan), old).astype(old.dtype)

    with np.errstate(invalid="ignore"):  # of pairs that are not known
        chosen, rejected = (mean_score(side) for side in (scores.chosen, scores.rejected))
    scored = replace(
        ledger,
        chosen_score=column(ledger.chosen_score, chosen),
        rejected_score=column(ledger.rejected_score, rejected),
        spread=column(ledger.spread, spread(scores.chosen, scores.rejected)),
    )
    why = scores.reasons.copy()
    why[why == ""] = NOT_FINITE
    return _decide(scored, unknown, Decision.UNREADABLE, active=False, reason=why)


def strength_in_use(ledger: Ledger) -> np.ndarray:
    """float64[P]: score of chosen - score of rejected under the labels in use; NaN where unscored."""
    return mean_strength(*_scores_in_use(ledger))


def estimate_pool_noise(ledger: Ledger, rules: SourceRules = RELEASED) -> dict[str, NoiseEstimate]:
    """The share of wrong labels in use, as the scores of the pool tell it.

    Args:
        ledger: scored in this round, not yet corrected.
        rules: which sources are ranked apart.

    Returns:
        The estimate of the whole pool under `TOGETHER`, and that of each source apart under its name. Sources that are
        ranked together are estimated from the whole pool, too: more pairs tell more.
    """
    reach, strength, (codes, names) = pool(ledger), strength_in_use(ledger), _sources(ledger)
    apart = {name: codes == names.index(name) for name in sorted(rules.apart) if name in names}
    return {
        TOGETHER: estimate_noise(strength[reach]),
        **{name: estimate_noise(strength[reach & rows]) for name, rows in apart.items()},
    }


def correct(
    ledger: Ledger,
    rules: SourceRules = RELEASED,
    *,
    noise: Mapping[str, NoiseEstimate] | None = None,
    scores: PairScores | None = None,
) -> Correction:
    """Distrusts the most negative of the negative pairs; the whole rest of the pool is admitted as it was.

    Pairs that this round has decided about already are left alone, so that correcting twice is correcting once.

    Args:
        ledger: scored in this round.
        rules: share, mode and weights, by source.
        noise: of `estimate_pool_noise`, for shares that the estimated noise sets; None: estimated here where needed.
        scores: all passes, for rules that ask for unanimity; None: the ledger's means are the one pass.

    A share that is to be set by an estimate that cannot be made is none where model and labels agree no more than by chance, else the
    released one, a half; the reasons say so. What judges have settled is not distrusted again.
    """
    reach = pool(ledger) & (ledger.decided != ledger.round) & ~settled_by_vote(ledger)
    strength = np.where(reach, strength_in_use(ledger), np.nan)
    codes, names = _sources(ledger)
    of_source = [rules.of(name) for name in names]
    if noise is None and any(rule.distrust_share is None for rule in of_source):
        noise = estimate_pool_noise(ledger, rules)

    chosen, shares = np.zeros(len(ledger), bool), {}
    reason = ledger.reason.copy()
    reason[reach] = "not negative"
    groups = [(TOGETHER, rules.default, [n not in rules.apart for n in names])]
    groups += [(name, rules.of(name), [n == name for n in names]) for name in names if name in rules.apart]
    for group, rule, members in groups:
        rows = reach & np.array(members, bool)[codes]
        negative = rows & (strength < 0)
        share, which = _share(rule, strength[rows], None if noise is None else noise[group])
        selected = distrusted(np.where(rows, strength, np.nan), share, _tie_break(ledger))
        reason[negative] = f"negative, not in the {which}"
        reason[selected] = f"in the {which}"
        chosen |= selected
        if rows.any():
            shares[group] = share
    if any(rule.agreement == "unanimous" for rule in of_source):
        differ = (
            chosen & _by_source(of_source, codes, "agreement", object, "unanimous") & (_verdict(ledger, scores) >= 0)
        )
        reason[differ] = "negative on average, but the score passes disagree"
        chosen &= ~differ

    admit, down = (_by_source(of_source, codes, name, np.float32) for name in ("admit_weight", "down_weight"))
    after = _decide(ledger, reach & ~chosen, Decision.KEEP, active=True, weight=admit, reason=reason)
    for mode in sorted({rule.correct_mode for rule in of_source}):
        rows = chosen & _by_source(of_source, codes, "correct_mode", object, mode)
        if mode == "flip":
            turned = ~ledger.flipped
            after = _decide(after, rows, Decision.FLIP, active=True, weight=admit, flipped=turned, reason=reason)
        elif mode == "drop":
            after = _decide(after, rows, Decision.DROP, active=False, reason=reason)
        else:
            assert mode == "weight", mode
            lighter = reason.copy()
            for number, rule in enumerate(of_source):
                here = rows & (codes == number) if len(of_source) > 1 else rows
                for text in set(reason[here]):
                    lighter[here & (reason == text)] = f"{text}: weight {rule.down_weight:g}"
            after = _decide(after, rows, Decision.KEEP, active=True, weight=down, reason=lighter)
    return Correction(after, chosen, shares)


def filter_pool(ledger: Ledger, rules: SourceRules = RELEASED, *, scores: PairScores | None = None) -> Ledger:
    """Keeps the pairs whose label in use the model agrees with, at full weight; the others leave the pool and are queued.

    Queued pairs are judged again: a better model than the one that queued them may take them back.

    Args:
        ledger: scored in this round.
        rules: dead zone and agreement, by source.
        scores: all passes, for rules that ask for unanimity; None: the ledger's means are the one pass.
    """
    reach, (codes, names) = in_play(ledger), _sources(ledger)
    of_source = [rules.of(name) for name in names]
    chosen, rejected = _scores_in_use(ledger)
    dead_zone = _by_source(of_source, codes, "dead_zone", np.float64)
    agreed = consistent(chosen, rejected, dead_zone)
    reason = ledger.reason.copy()
    reason[reach] = "inconsistent: the rejected response scores higher"
    no_opinion = reach & uncertain(chosen, rejected, dead_zone)
    for zone in {rule.dead_zone for rule in of_source if rule.dead_zone > 0}:
        reason[no_opinion & (dead_zone == zone)] = f"uncertain: in the dead zone of {zone:g}"
    reason[no_opinion & (chosen == rejected)] = "inconsistent: a tie"
    if any(rule.agreement == "unanimous" for rule in of_source):
        of_all = _verdict(ledger, scores, dead_zone) > 0
        differ = reach & agreed & ~of_all & _by_source(of_source, codes, "agreement", object, "unanimous")
        reason[differ] = "uncertain: the score passes disagree"
        agreed &= ~differ
    just_flipped = (ledger.decision == Decision.FLIP) & (
        ledger.decided == ledger.round
    )  # agrees by making: stays a flip
    after = _decide(ledger, reach & agreed & ~just_flipped, Decision.KEEP, active=True, weight=1.0, reason="consistent")
    return _decide(after, reach & ~agreed, Decision.QUEUE, active=False, reason=reason)


def settle_queue(ledger: Ledger, answers: Votes, missing: str = "wait") -> Ledger:
    """Brings queued pairs back with the winner as chosen, or drops them where the votes are tied.

    Args:
        ledger: before.
        answers: a row a queued pair, in ledger order.
        missing: what becomes of a pair of which not all expected votes arrived: `wait` leaves it in the queue, `drop` is the
            released rule.
    """
    queue = np.flatnonzero(ledger.decision == Decision.QUEUE)
    if len(queue) != len(answers.votes):
        raise CurationError(f"round {ledger.round}: {len(queue)} pairs wait, but votes came for {len(answers.votes)}.")
    if len(queue) == 0:
        return ledger
    winner, arrived = vote(answers.votes), ~np.isnan(answers.votes)
    unreadable = np.array(answers.unreadable, object)
    asked = np.ones(len(queue), bool) if answers.asked is None else answers.asked
    readable, whole = unreadable == "", arrived.all(axis=1)
    reason, share = ledger.reason.copy(), ledger.vote_share.copy()
    told = np.where(readable, _vote_reasons(answers.votes), unreadable)
    reason[queue] = np.where(asked, told, reason[queue])
    said = np.where(readable & whole, answers.votes.mean(axis=1), np.nan)
    share[queue] = np.where(asked, said, share[queue])  # who was not asked keeps an earlier verdict
    flipped = ledger.flipped.copy()
    flipped[queue] = np.where(winner == 0, flipped[queue], winner < 0)

    def rows(which: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(ledger), bool)
        mask[queue[which]] = True
        return mask

    waiting = asked & readable & ~whole & (missing == "wait")
    restored, dropped = rows(readable & (winner != 0)), rows(asked & readable & (winner == 0) & ~waiting)
    after = replace(ledger, vote_share=share)
    after = _decide(after, restored, Decision.RESTORE, active=True, weight=1.0, flipped=flipped, reason=reason)
    after = _decide(after, dropped, Decision.DROP, active=False, reason=reason)
    after = _decide(after, rows(waiting), Decision.QUEUE, active=False, reason=reason)
    return _decide(after, rows(asked & ~readable), Decision.UNREADABLE, active=False, reason=reason)


def _share(rule: Rules, strength: np.ndarray, noise: NoiseEstimate | None) -> tuple[float, str]:
    """(share of the negatives to distrust, which ones these are, in words)"""
    share = rule.distrust_share
    if share is None:
        assert noise is not None, "an estimate is made where a rule needs it"
        if not noise.known and (strength < 0).any():  # told in the record, and by whoever runs the round
            why = f"the noise cannot be estimated: {noise.reason}"
            if noise.by_chance:
                return 0.0, f"share to distrust, which is none ({why})"
            return RELEASED_SHARE, f"lower half of the negatives ({why})"
        share = expected_share(strength, noise)
        return (
            share,
            f"lower {share:.3g} of the negatives (set by the estimated noise {noise.rate:.3f} +- {noise.error:.3f})",
        )
    return share, "lower half of the negatives" if share == 0.5 else f"lower {share:g} of the negatives"


def _verdict(ledger: Ledger, scores: PairScores | None, dead_zone: float | np.ndarray = 0.0) -> np.ndarray:
    """int8[P]: what all passes say of the labels in use."""
    if scores is None:
        return unanimous(strength_in_use(ledger), dead_zone)
    with np.errstate(invalid="ignore"):  # infinities; such a pair has no verdict
        published = unanimous(scores.chosen.astype(np.float64) - scores.rejected, dead_zone)
    return np.where(ledger.flipped, -published, published)


def _scores_in_use(ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    """(chosen, rejected) scores in the orientation in use."""
    chosen = np.where(ledger.flipped, ledger.rejected_score, ledger.chosen_score)
    return chosen, np.where(ledger.flipped, ledger.chosen_score, ledger.rejected_score)


def _sources(ledger: Ledger) -> tuple[np.ndarray, tuple[str, ...]]:
    """(int32[P] numbers, names) of the sources."""
    return coded(pa.array(ledger.source, pa.string()))


def _by_source(of_source: list[Rules], codes: np.ndarray, name: str, dtype: type, is_: object = None) -> np.ndarray:
    """[P]: a field of each pair's rules; with `is_`, bool[P], whether it has that value."""
    values = [getattr(rule, name) for rule in of_source]
    table = np.array(values, dtype) if is_ is None else np.array([value == is_ for value in values], bool)
    return table[codes]


def _tie_break(ledger: Ledger) -> Callable[[np.ndarray], np.ndarray]:
    """Digests of the pairs' names, for the rows asked for. Ties at the cut then favour neither a source nor a position."""

    def digests(rows: np.ndarray) -> np.ndarray:
        names = zip(ledger.key[rows].tolist(), ledger.pair[rows].tolist(), strict=True)
        found = (hashlib.blake2b(f"{key}/{pair}".encode(), digest_size=8).digest() for key, pair in names)
        return np.frombuffer(b"".join(found), ">u8").astype(np.uint64)

    return digests


def _vote_reasons(votes: np.ndarray) -> np.ndarray:
    """object[Q]: the tally of each row in words. Few tallies differ, so each text is made once."""
    expected = votes.shape[1]
    arrived, halves = (~np.isnan(votes)).sum(axis=1), (2 * np.nansum(votes, axis=1)).astype(np.int64)
    tallies, place = np.unique(arrived * (2 * expected + 1) + halves, return_inverse=True)
    texts = [_vote_reason(int(n) // (2 * expected + 1), int(n) % (2 * expected + 1) / 2, expected) for n in tallies]
    return np.array(texts, object)[place]


def _vote_reason(arrived: int, for_published: float, expected: int) -> str:
    if arrived < expected:
        return f"{arrived} of {expected} {ARRIVED}"
    tally = f"{for_published:g} : {expected - for_published:g}"
    if 2 * for_published == expected:
        return f"{TIED} {tally}"
    side = "for" if 2 * for_published > expected else "against"
    return f"votes {tally} {side} the published choice"


def _decide(
    ledger: Ledger,
    rows: np.ndarray,
    decision: str,
    *,
    active: bool,
    reason: str | np.ndarray,
    weight: float | np.ndarray | None = None,
    flipped: np.ndarray | None = None,
) -> Ledger:
    """The ledger with one decision written to the given rows; arrays are [P] and read there."""

    def written(column: np.ndarray, value: object) -> np.ndarray:
        new = column.copy()
        new[rows] = value[rows] if isinstance(value, np.ndarray) else value
        return new

    return replace(
        ledger,
        decision=written(ledger.decision, decision),
        decided=written(ledger.decided, ledger.round),
        active=written(ledger.active, active),
        flipped=ledger.flipped if flipped is None else written(ledger.flipped, flipped),
        weight=ledger.weight if weight is None else written(ledger.weight, weight),
        reason=written(ledger.reason, reason),
    )
