"""Pick-a-Pic v2: two generated images of a prompt, and which of them a user of the web app preferred.

`yuvalkirstain/pickapic_v2`: Parquet with the images in `jpg_0` and `jpg_1`; `label_0` and `label_1` are 1 and 0, or 0.5 each for a
tie. Rows without a label (`has_label`) or of equal images (`are_different`) are skipped by name. One person's choice says
nothing about its strength; labels between (which the published files do not have) would: strength is then |label_0 - label_1|.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import TIE, Card, Counted, Item, get_field, get_number, numbered_key, parse_each, surprise
from datamodules.sources.images import Images, image_of
from datamodules.sources.location import folder_of
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept
from mrm.construction.reformulation import T2IPreference
from mrm.errors import RecordError

NAME = "pickapic_v2"
CARD = Card("yuvalkirstain/pickapic_v2", "not stated (code: MIT)", "959,040 pairs, 335 GB", "text-to-image")
REQUIRED = ("caption", "jpg_0", "jpg_1", "label_0", "label_1")
EXTRAS = ("has_label", "are_different", "ranking_id", "model_0", "model_1", "user_id", "num_example_per_prompt")


def read(input: str | Path, *, split: str = "train") -> Iterator[Item]:
    """Reads the Parquet files of a split.

    Args:
        input: the folder, or one file.
        split: train, validation or test.
    """
    rows = read_rows(find_tables(input, split=split), REQUIRED, EXTRAS)
    key_of = numbered_key(f"{NAME}-{split}", "ranking_id")
    return Counted(parse_each(rows, key_of, parse_record, images=Images(folder_of(input))), length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> T2IPreference:
    """One row as a preference between its two images.

    Raises:
        RecordError: "tie", "no label", "equal images"; for a missing field, or labels that don't add up to 1.
    """
    if record.get("has_label") is False:
        raise RecordError("no label", f"record {key!r}: has_label is false.")
    if record.get("are_different") is False:
        raise RecordError("equal images", f"record {key!r}: are_different is false.")
    labels = [get_number(record, name, 0, 1) for name in ("label_0", "label_1")]
    if abs(sum(labels) - 1) > 1e-6:
        raise surprise("label_1", labels[1], f"1 - label_0, which is {labels[0]:g}")
    if labels[0] == labels[1]:
        raise RecordError(TIE, f"record {key!r}: both labels are {labels[0]:g}.")
    better = int(labels[1] > labels[0])
    pictures = [image_of(get_field(record, name, object), images, name) for name in ("jpg_0", "jpg_1")]
    gap = abs(labels[0] - labels[1])
    return T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "caption", str),
        preferred=pictures[better],
        other=pictures[1 - better],
        strength=None if gap == 1 else gap,
        meta={**kept(record, *EXTRAS[2:]), "preferred": better},
    )
