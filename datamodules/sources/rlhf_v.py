"""RLHF-V: answers of a model and the same answers with the hallucinated segments corrected by people.

`openbmb/RLHF-V-Dataset`: one file `RLHF-V-Dataset.parquet`. `text` is a JSON string with `question`, `chosen` (the
corrected answer) and `rejected`. No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, get_json, numbered_key, parse_each
from datamodules.sources.images import Images
from datamodules.sources.location import folder_of
from datamodules.sources.pairs import row_pair
from datamodules.sources.tables import find_tables, read_rows
from mrm.preference import PreferenceSample

NAME = "rlhf_v"
CARD = Card("openbmb/RLHF-V-Dataset", "CC BY-NC 4.0", "5,733 pairs", "image-text")
EXTRAS = ("ds_name", "origin_dataset", "origin_split", "idx", "image_path")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the Parquet file.

    Args:
        input: the file, or the folder that holds it.
        media_dir: where images lie that the file gives by their path only; its folder by default.
    """
    rows = read_rows(find_tables(input), ("image", "text"), EXTRAS)
    images = Images(folder_of(input), media_dir)
    return Counted(parse_each(rows, numbered_key(NAME, "idx"), parse_record, images=images), length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One row as a pair.

    Raises:
        RecordError: for a missing field, a `text` that isn't a JSON object, or a broken rule of the record.
    """
    return row_pair(key, NAME, record, images, texts=get_json(record, "text", dict), extras=EXTRAS)
