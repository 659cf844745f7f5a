"""The report's gallery: decisions that a person should look at, with their pictures and texts.

Those that the model was surest of, and those on which annotators and the model are farthest apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from callbacks.report_agreement import Judged
from datamodules.ledger import Decision, Ledger
from mrm.errors import RecordError, ShardError
from mrm.pages import image_uri, shorten
from mrm.preference import PreferenceSample

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
DISPUTED = ("Where annotators and the model disagree most", "The votes won against the model's sign.")


@dataclass(frozen=True)
class GalleryItem:
    """One decision, ready to be shown. Margins are the score of the chosen minus that of the rejected response, as published.

    `spread` is the margin's standard deviation over the score passes, `vote_share` the share of the annotators' votes for
    the published choice; None where not known.
    """

    key: str
    pair: int
    source: str
    round: int
    margin: float
    chosen_score: float
    rejected_score: float
    reason: str
    flipped: bool
    spread: float | None = None
    vote_share: float | None = None
    prompt: tuple[tuple[str, str], ...] = ()
    images: tuple[str | None, ...] = ()
    chosen: str = ""
    rejected: str = ""
    label_wrong: bool | None = None
    problem: str = ""


def gallery(ledgers: Sequence[Ledger], decision: str, size: int) -> list[GalleryItem]:
    """The pairs with the largest score difference among all that met a decision in any round, largest first.

    Being queued may be over by the next round, so of the queued only those that wait at the end count.
    """
    items, waiting = [], decision == Decision.QUEUE
    for ledger in ledgers[-1:] if waiting else ledgers:
        margin = ledger.chosen_score.astype(float) - ledger.rejected_score
        met = (ledger.decision == decision) & (waiting | (ledger.decided == ledger.round)) & np.isfinite(margin)
        for i in np.flatnonzero(met)[np.argsort(-np.abs(margin[met]), kind="stable")][:size]:
            items.append(_item(ledger, int(i)))
    return sorted(items, key=lambda item: -abs(item.margin))[:size]


def disputed(ledgers: Sequence[Ledger], judged: Judged, size: int) -> list[GalleryItem]:
    """The settled pairs whose votes went against the model's sign, by the size of its margin, largest first.

    Args:
        ledgers: all snapshots.
        judged: of `report_agreement.judged_pairs`.
        size: how many.
    """
    of_round = {ledger.round: ledger for ledger in ledgers}
    against = np.flatnonzero(judged.side * np.nan_to_num(judged.margin) < 0)
    first = against[np.argsort(-np.abs(judged.margin[against]), kind="stable")][:size]
    return [_item(of_round[int(judged.round[i])], int(judged.row[i])) for i in first]


def with_contents(item: GalleryItem, read: Callable[[str], PreferenceSample]) -> GalleryItem:
    """Reads the pair's texts and pictures; why it could not be read stands in `problem`."""
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


def _item(ledger: Ledger, i: int) -> GalleryItem:
    return GalleryItem(
        key=str(ledger.key[i]),
        pair=int(ledger.pair[i]),
        source=str(ledger.source[i]),
        round=int(ledger.decided[i]),
        margin=float(ledger.chosen_score[i]) - float(ledger.rejected_score[i]),
        chosen_score=float(ledger.chosen_score[i]),
        rejected_score=float(ledger.rejected_score[i]),
        reason=str(ledger.reason[i]),
        flipped=bool(ledger.flipped[i]),
        spread=_known(ledger.spread[i]),
        vote_share=_known(ledger.vote_share[i]),
    )


def _known(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
