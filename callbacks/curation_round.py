"""A round of curation from ledger to ledger, whoever scores and whoever is asked: in training, or without one.

`begin_round`, then the pairs `curation_steps.to_score` are scored, then `decide_round`. Reads no samples and writes no files. The
same arguments give the same ledger, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from callbacks.curation_record import check_caps, round_record
from callbacks.curation_schedule import RoundSpec
from callbacks.curation_steps import (
    correct,
    estimate_pool_noise,
    filter_pool,
    leave_out_unreadable,
    record_scores,
    settle_queue,
    to_score,
)
from callbacks.round_inputs import PairScores, Votes
from datamodules.ledger import Decision, Ledger
from datamodules.texts import distinct
from mrm.curation.rules import AUTO, by_source
from mrm.errors import CurationError


@dataclass(frozen=True, eq=False)
class RoundOutcome:
    """What a round came to: the ledger after it, balanced, and its record, see `curation_record.round_record`."""

    ledger: Ledger
    record: dict[str, Any]


def begin_round(before: Ledger, number: int, policy_fingerprint: str, unreadable: Mapping[str, str]) -> Ledger:
    """The ledger that a round decides about: that of the round before it, without what could not be read.

    Args:
        before: the ledger of round `number` - 1.
        number: of the round, from 1.
        policy_fingerprint: digest of the settings that the round's ledger depends on.
        unreadable: key -> why, of the samples that could not be read since.

    Raises:
        CurationError: if `before` is of another round.
    """
    if before.round != number - 1:
        raise CurationError(
            f"round {number} begins with the ledger of round {number - 1}, found that of {before.round}."
        )
    return leave_out_unreadable(replace(before, round=number, policy_fingerprint=policy_fingerprint), unreadable)


def decide_round(
    before: Ledger,
    start: Ledger,
    spec: RoundSpec,
    *,
    opened: np.ndarray,
    scores: Callable[[np.ndarray], PairScores],
    ask: Callable[[np.ndarray], Votes],
    truth: np.ndarray,
) -> RoundOutcome:
    """Takes the steps of a round.

    Args:
        before: the ledger before the round.
        start: what `begin_round` made of it.
        spec: steps, rules and caps. The sources that it has rules for must have open pairs.
        opened: bool[P], the pairs of the open pool.
        scores: gives the scores of the pairs bool[P] that `to_score` names; called once if the round scores.
        ask: gives the votes on the pairs int64[Q], rising, that wait in the queue; called once if the round annotates and any waits.
        truth: int8[P], 1 published label wrong, 0 right, -1 unknown; for the record only.

    Raises:
        ConfigError: if the spec has rules for a source that has no open pairs.
        CurationError: if more would be flipped or dropped than the spec allows, or if scores or votes do not fit the pairs.
    """
    rules = by_source(spec.rules, spec.sources, distinct(start.source[opened]))
    ledger, found, noise, shares = start, None, None, None
    scored, distrusted, asked = (np.zeros(len(start), bool) for _ in range(3))
    for step in spec.steps:
        if step == "score":
            scored = to_score(ledger, spec.steps)
            found = scores(scored)
            if len(found.reasons) != len(start):
                raise CurationError(f"round {start.round}: scores of {len(found.reasons)} pairs for {len(start)}.")
            ledger = record_scores(ledger, scored, found)
            noise = estimate_pool_noise(ledger, rules)
        elif step == "correct":
            corrected = correct(ledger, rules, noise=noise, scores=found)
            ledger, distrusted, shares = corrected.ledger, corrected.distrusted, corrected.shares
        elif step == "filter":
            ledger = filter_pool(ledger, rules, scores=found)
        else:
            assert step == "annotate", step
            asked = ledger.decision == Decision.QUEUE
            if asked.any():
                queue = np.flatnonzero(asked)
                votes = ask(queue)
                if votes.asked is not None:
                    asked[queue] = votes.asked
                ledger = settle_queue(ledger, votes, spec.missing)
    ledger.check_balanced()
    check_caps(before, ledger, spec, opened)
    record = round_record(
        before, ledger, opened, distrusted, scored, asked, truth, estimates=noise, shares=shares
    )  # fmt: skip
    return RoundOutcome(ledger, {"epoch": spec.after_epoch, "steps": list(spec.steps), **record})


def warning_of(record: Mapping[str, Any], spec: RoundSpec) -> str | None:
    """What a person should be told of a round: that a share was not set by the noise, as was asked for; None if nothing."""
    unknown = {"the pool": record, **record["sources"]}
    asked = {"the pool": spec.distrust_share is None}
    asked |= {name: rules.get("distrust_share") == AUTO for name, rules in spec.sources.items()}
    told = [
        f"of {name} the noise cannot be estimated ({unknown[name]['noise_estimate_unknown']}): "
        + (
            "half of the negatives was distrusted, as released"
            if unknown[name]["distrust_share"]
            else "no label was distrusted"
        )
        for name, is_asked in asked.items()
        if is_asked and "correct" in spec.steps and unknown.get(name, {}).get("noise_estimate_unknown")
    ]
    return f"round {record['round']}: {'; '.join(told)}." if told else None
