"""A card as one HTML page that needs nothing else, with a contact sheet of samples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.card import Card, histogram_bars
from datamodules.card_table import duplicate_rows, formats, interval, measured, share, spread_row
from datamodules.index import Index
from datamodules.measuring import UnreadSample, Visits
from datamodules.shards import read_sample
from mrm.errors import MrmError
from mrm.pages import image_uri, shorten, write_page

TEMPLATE = Path(__file__).parent / "templates" / "card.html.j2"
UNREAD_SHOWN = 100
THUMBNAIL_SIDE = 240  # pixels


@dataclass(frozen=True)
class SheetItem:
    """One sample of the contact sheet, with one of its pairs; `problem` where it could not be read again."""

    dataset: str
    key: str
    source: str = ""
    prompt: tuple[tuple[str, str], ...] = ()
    images: tuple[str | None, ...] = ()
    chosen: str = ""
    rejected: str = ""
    strength: float | None = None
    pair: int = 0
    pairs: int = 0
    problem: str = ""


def choose_sheet(
    indexes: Mapping[str, Index], visits: Visits, unread: Sequence[UnreadSample], size: int, seed: int
) -> list[tuple[str, int]]:
    """(data set, row) of measured samples to show: at random, with sources taking turns.

    Args:
        indexes: by data set.
        visits: the pass that was made. unread: what it could not read.
        size: how many at most.
        seed: of the draw.
    """
    names, bad = list(indexes), {(sample.dataset, sample.key) for sample in unread}
    taken: dict[tuple[str, str], int] = {}
    candidates: list[tuple[int, str, int]] = []
    for at in np.random.default_rng(seed).permutation(np.flatnonzero(visits.whole)).tolist():
        name, row = names[visits.part[at]], int(visits.row[at])
        if (name, str(indexes[name].keys[row])) in bad:
            continue
        slice_ = (name, str(indexes[name].sources[row]))
        taken[slice_] = turn = taken.get(slice_, -1) + 1
        if turn < size:
            candidates.append((turn, name, row))
    candidates.sort(key=lambda candidate: candidate[0])
    return [(name, row) for _, name, row in candidates[:size]]


def write_card_page(
    path: str | os.PathLike[str],
    card: Card,
    indexes: Mapping[str, Index],
    sheet: Sequence[tuple[str, int]],
    seed: int,
) -> Path:
    """Writes the page.

    Args:
        path: the HTML file; an older one is replaced whole.
        card: what is told.
        indexes: by data set.
        sheet: of `choose_sheet`.
        seed: of which pair of a sample is shown.

    Returns:
        The path written.
    """
    rng = np.random.default_rng(seed)
    return write_page(
        path,
        TEMPLATE,
        title=", ".join(card.datasets),
        card=card,
        measured=measured(card),
        formats=formats(card),
        duplicates=duplicate_rows(card),
        unread=card.unread[:UNREAD_SHOWN],
        items=[_item(indexes[name], name, row, rng) for name, row in sheet],
        bars=histogram_bars,
        share=share,
        spread_row=spread_row,
        interval=interval,
    )


def _item(index: Index, dataset: str, row: int, rng: np.random.Generator) -> SheetItem:
    try:
        sample = read_sample(index, row)
    except MrmError as error:
        return SheetItem(dataset, str(index.keys[row]), problem=str(error))
    number = int(rng.integers(len(sample.pairs)))
    pair = sample.pairs[number]
    return SheetItem(
        dataset=dataset,
        key=sample.key,
        source=sample.source,
        prompt=tuple((message.role, shorten(message.content)) for message in sample.prompt),
        images=tuple(image_uri(data, THUMBNAIL_SIDE) for data in sample.images),
        chosen=shorten(sample.responses[pair.chosen]),
        rejected=shorten(sample.responses[pair.rejected]),
        strength=pair.strength,
        pair=number + 1,
        pairs=len(sample.pairs),
    )
