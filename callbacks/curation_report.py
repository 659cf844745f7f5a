"""The report of a run: one HTML file that needs nothing else, for a phone as for a desk.

Accuracies, the rounds of curation, curves, score histograms, and a gallery of the decisions the model was surest of, so
that a person can see whether it was right. It draws what it is given; which run, which files, is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.report_figures import curve_figures, histogram_figures
from datamodules.ledger import Decision, Ledger
from mrm.errors import RecordError, ShardError
from mrm.pages import image_uri, shorten, write_page
from mrm.preference import PreferenceSample

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"
GALLERIES = (
    (Decision.FLIP, "Most confidently flipped", "Chosen and rejected changed places."),
    (Decision.DROP, "Most confidently dropped", "Not trained on any more."),
    (
        Decision.QUEUE,
        "Most confidently left out",
        "Contradicted by the model and settled by no judge: out of training at the end.",
    ),
    (Decision.RESTORE, "Brought back by the judges", "Queued by the filter, settled by vote."),
)


@dataclass(frozen=True)
class GalleryItem:
    """One decision, ready to be shown. Margins are the score of the chosen minus that of the rejected response, as published."""

    key: str
    pair: int
    source: str
    round: int
    margin: float
    chosen_score: float
    rejected_score: float
    reason: str
    flipped: bool
    prompt: tuple[tuple[str, str], ...] = ()
    images: tuple[str | None, ...] = ()
    chosen: str = ""
    rejected: str = ""
    label_wrong: bool | None = None
    problem: str = ""


def build_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    facts: Mapping[str, object],
    tests: Mapping[str, Mapping[str, float] | float],
    rounds: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    ledgers: Sequence[Ledger],
    read: Callable[[str], PreferenceSample],
    gallery_size: int = 8,
) -> Path:
    """Writes the report.

    Args:
        path: the HTML file; an older one is replaced whole.
        title: heading of the page.
        facts: what the run was: experiment, seed, commit, data, seconds; shown in this order.
        tests: test set -> accuracy in [0, 1], or a mapping with `accuracy` and any of `n`, `tie_rate`, `length_baseline`.
        rounds: `IterativeCuration.rounds`.
        metrics: the history, `{"step", "name", "value"}` each.
        ledgers: the snapshots by rising round, round 0 included or not.
        read: key -> sample, for the gallery.
        gallery_size: pairs a kind of decision.

    Returns:
        The path written.
    """
    return write_page(
        path,
        TEMPLATE,
        title=title,
        facts=facts,
        tests={name: dict(row) if isinstance(row, Mapping) else {"accuracy": row} for name, row in tests.items()},
        rounds=rounds,
        curves=curve_figures(metrics),
        histograms=histogram_figures(ledgers),
        galleries=[
            (heading, note, [_fill(item, read) for item in gallery(ledgers, decision, gallery_size)])
            for decision, heading, note in GALLERIES
        ],
    )


def gallery(ledgers: Sequence[Ledger], decision: str, size: int) -> list[GalleryItem]:
    """The pairs with the largest score difference among all that met a decision in any round, largest first.

    Being queued may be over by the next round, so of the queued only those that wait at the end count.
    """
    items, waiting = [], decision == Decision.QUEUE
    for ledger in ledgers[-1:] if waiting else ledgers:
        margin = ledger.chosen_score.astype(float) - ledger.rejected_score
        met = (ledger.decision == decision) & (waiting | (ledger.decided == ledger.round)) & np.isfinite(margin)
        for i in np.flatnonzero(met)[np.argsort(-np.abs(margin[met]), kind="stable")][:size]:
            items.append(
                GalleryItem(
                    key=str(ledger.key[i]),
                    pair=int(ledger.pair[i]),
                    source=str(ledger.source[i]),
                    round=int(ledger.decided[i]),
                    margin=float(margin[i]),
                    chosen_score=float(ledger.chosen_score[i]),
                    rejected_score=float(ledger.rejected_score[i]),
                    reason=str(ledger.reason[i]),
                    flipped=bool(ledger.flipped[i]),
                )
            )
    return sorted(items, key=lambda item: -abs(item.margin))[:size]


def _fill(item: GalleryItem, read: Callable[[str], PreferenceSample]) -> GalleryItem:
    try:
        sample = read(item.key)
    except (RecordError, ShardError) as error:
        return replace(item, problem=str(error))
    pair, truth = sample.pairs[item.pair], sample.meta.get("truth")
    flips = truth.get("flipped") if isinstance(truth, Mapping) else None
    return replace(
        item,
        prompt=tuple((message.role, shorten(message.content)) for message in sample.prompt),
        images=tuple(image_uri(data) for data in sample.images),
        chosen=shorten(sample.responses[pair.chosen]),
        rejected=shorten(sample.responses[pair.rejected]),
        label_wrong=bool(flips[item.pair]) if isinstance(flips, list) and item.pair < len(flips) else None,
    )
