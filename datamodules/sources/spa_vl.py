"""SPA-VL: answers to harmful questions about an image, the more harmless and helpful one preferred. The content is harmful by design.

`sqrti/SPA-VL`: Parquet with `image`, `question`, `chosen`, `rejected` and the kind of harm in `class1` to `class3`; the splits are train
and validation (those for tests have no answers). No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, numbered_key, parse_each
from datamodules.sources.images import Images
from datamodules.sources.location import folder_of
from datamodules.sources.pairs import row_pair
from datamodules.sources.tables import find_tables, read_rows
from mrm.preference import PreferenceSample

NAME = "spa_vl"
CARD = Card("sqrti/SPA-VL", "CC BY 4.0", "93,258 pairs, 4 GB; harmful content", "image-text")
EXTRAS = ("class1", "class2", "class3")


def read(input: str | Path, *, split: str = "train", media_dir: str | None = None) -> Iterator[Item]:
    """Reads the Parquet files of a split.

    Args:
        input: the folder, or one file.
        split: train or validation.
        media_dir: where images lie that the files give by their path only; their folder by default.
    """
    rows = read_rows(find_tables(input, split=split), ("image", "question", "chosen", "rejected"), EXTRAS)
    images = Images(folder_of(input), media_dir)
    return Counted(parse_each(rows, numbered_key(f"{NAME}-{split}"), parse_record, images=images), length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One row as a pair.

    Raises:
        RecordError: for a missing field, or a broken rule of the record.
    """
    return row_pair(key, NAME, record, images, extras=EXTRAS)
