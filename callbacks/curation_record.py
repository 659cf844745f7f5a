"""A round in numbers, over the open pool and by source, and the guards that stop a round that would eat the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from callbacks.curation_schedule import RoundSpec
from callbacks.curation_steps import TOGETHER, pool
from callbacks.round_inputs import NOT_FINITE
from datamodules.ledger import Decision, Ledger
from datamodules.texts import coded
from mrm.curation.accounts import flip_quality, noise, settled
from mrm.curation.noise_estimate import NoiseEstimate
from mrm.curation.policy import check_cap
from mrm.errors import CurationError

COUNTED = {  # the decisions that a round counts, by their names in the record
    "flipped": Decision.FLIP,
    "dropped": Decision.DROP,
    "restored": Decision.RESTORE,
    "kept": Decision.KEEP,
    "unreadable": Decision.UNREADABLE,
}


def check_caps(before: Ledger, after: Ledger, spec: RoundSpec, opened: np.ndarray) -> None:
    """Neither turning nor dropping may eat the open pool in one round.

    Args:
        before, after: the ledgers.
        spec: has the caps.
        opened: bool[P], the pairs of the open pool.

    Raises:
        CurationError: if more labels were turned, by scores or by votes, or more pairs dropped than the caps allow, in the pool or
            in a source that has caps of its own. Pairs whose rewards are not finite count as dropped: they leave for good.
    """
    turned = opened & (after.flipped != before.flipped)
    gone = (after.decision == Decision.DROP) | ((after.decision == Decision.UNREADABLE) & (after.reason == NOT_FINITE))
    dropped = opened & gone & (after.decided == after.round)
    caps = {"max_flipped": (turned, "flip"), "max_dropped": (dropped, "drop")}
    groups: list[tuple[str, np.ndarray, dict[str, float]]] = [
        ("", opened, {name: getattr(spec, name) for name in caps})
    ]
    groups += [
        (f"sources.{source}.", opened & (after.source == source), {name: own[name] for name in caps if name in own})
        for source, own in spec.sources.items()
        if not caps.keys().isdisjoint(own)
    ]
    for where, pairs, own in groups:
        for name, cap in own.items():
            rows, verb = caps[name]
            count, total = int((rows & pairs).sum()), int(pairs.sum())
            check_cap(count, total, cap, round_number=after.round, verb=verb, setting=f"{where}{name}")


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
    *,
    estimates: Mapping[str, NoiseEstimate] | None = None,
    shares: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A round in numbers, in pairs of the open pool. What is not known is None: noise, precision and recall without the truth.

    `wrong_mended` and `right_lost`: the shares of the labels published wrong, and of those published right, that are not in use as
    published after the round.
    `queued` counts all pairs that wait for judges after the round, those of earlier rounds too; they are out of training.
    `noise_estimate` is the share of wrong labels as the scores tell it, before the round; `noise_estimate_error` its
    standard error; where it could not be made, `noise_estimate_unknown` says why. `distrust_share` is the share of the negatives
    that was distrusted. `sources` has the counts of each source, and both of these where it was ranked apart.

    Args:
        before, after: the ledgers.
        opened: bool[P], the pairs of the open pool.
        distrusted: bool[P], what `correct` chose.
        scored: bool[P], pairs that were to be scored.
        asked: bool[P], pairs that were put to the judges.
        truth: int8[P], 1 published label wrong, 0 right, -1 unknown.
        estimates: of `estimate_pool_noise`; None where nothing was scored.
        shares: of `correct`; None where nothing was corrected.
    """
    estimates, shares = estimates or {}, shares or {}
    fresh = opened & (after.decided == after.round)
    of_decision = {name: fresh & (after.decision == decision) for name, decision in COUNTED.items()}
    of_decision = {"scored": scored, **of_decision, "queued": after.decision == Decision.QUEUE}
    counts = {name: int(rows.sum()) for name, rows in of_decision.items()}
    active, pool_before = opened & after.active, pool(before)
    mended, lost = settled(truth, after.flipped, after.active, opened)
    precision, recall = flip_quality(truth, before.flipped, distrusted, pool_before)
    return {
        "round": after.round,
        "scored": counts["scored"],
        "flipped": counts["flipped"],
        "dropped": counts["dropped"],
        "reannotated": int(asked.sum()),
        "restored": counts["restored"],
        "queued": counts["queued"],
        "kept": counts["kept"],
        "down_weighted": int((fresh & after.active & (after.weight < 1)).sum()),
        "unreadable": counts["unreadable"],
        "open_pairs": int(opened.sum()),
        "active_pairs": int(active.sum()),
        "noise_before": noise(truth, before.flipped, pool_before),
        "noise_after": noise(truth, after.flipped, active),
        "wrong_mended": mended,
        "right_lost": lost,
        "flip_precision": precision if distrusted.any() else None,
        "flip_recall": recall if distrusted.any() else None,
        **_figures(TOGETHER, estimates, shares),
        "sources": _by_source(after, {"pairs": opened, **of_decision}, estimates, shares),
    }


def _by_source(
    ledger: Ledger,
    counted: Mapping[str, np.ndarray],
    estimates: Mapping[str, NoiseEstimate],
    shares: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """source -> its counts, of the sources that have open pairs, by name."""
    codes, names = coded(pa.array(ledger.source, pa.string()))
    by_name = {name: np.bincount(codes[rows], minlength=len(names)) for name, rows in counted.items()}
    return {
        source: {
            **{name: int(counts[number]) for name, counts in by_name.items()},
            **(_figures(source, estimates, shares) if source in estimates else {}),
        }
        for number, source in sorted(enumerate(names), key=lambda item: item[1])
        if by_name["pairs"][number]
    }


def _figures(
    group: str, estimates: Mapping[str, NoiseEstimate], shares: Mapping[str, float]
) -> dict[str, float | str | None]:
    found, share = estimates.get(group), shares.get(group)
    told = found is not None and found.known
    figures: dict[str, float | str | None] = {
        "distrust_share": share,
        "noise_estimate": found.rate if found is not None and told else None,
        "noise_estimate_error": found.error if found is not None and told else None,
    }
    if found is not None and not told:
        figures["noise_estimate_unknown"] = found.reason
    assert not any(isinstance(value, float) and math.isnan(value) for value in figures.values()), figures
    return figures
