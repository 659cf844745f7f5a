"""RLAIF-V: pairs of answers to questions about an image, ranked by an open model's checks of their claims.

`openbmb/RLAIF-V-Dataset`: Parquet shards `RLAIF-V-Dataset_000.parquet`, ... One row is one pair: `question` (without
`<image>`), `chosen`, `rejected`, `image`. Binary: no strength.
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

NAME = "rlaif_v"
CARD = Card("openbmb/RLAIF-V-Dataset", "CC BY-NC 4.0", "83,132 pairs, 12 GB", "image-text")
REQUIRED = ("image", "question", "chosen", "rejected")
EXTRAS = ("ds_name", "origin_dataset", "origin_split", "idx", "image_path")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the Parquet shards.

    Args:
        input: a folder of shards, or one.
        media_dir: where images lie that the shards give by their path only; the shards' folder by default.
    """
    rows = read_rows(find_tables(input), REQUIRED, EXTRAS)
    images = Images(folder_of(input), media_dir)
    return Counted(parse_each(rows, numbered_key(NAME, "idx"), parse_record, images=images), length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One row as a pair.

    Raises:
        RecordError: for a missing field, or a broken rule of the record.
    """
    return row_pair(key, NAME, record, images, extras=EXTRAS)
