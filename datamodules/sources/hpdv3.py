"""HPDv3: people's votes between two images of a prompt, from generators of all ages and from photographs.

`MizzenAI/HPDv3`: `train.json` and `test.json` are lists of {"prompt", "path1", "path2", "model1", "model2", "choice_dist", "confidence"}; path1
is the preferred image in every record. Strength is the vote margin, (votes for - votes against) / votes, from `choice_dist`;
unknown where that is missing or null. `confidence`, whose scale nobody states, goes to meta.
Votes that contradict path1 are refused. Images come as .tar.gz, which cannot be read out of order: unpack them beside the JSON files
(`cat images.tar.gz.* | gunzip | tar -x`).
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import (
    TIE,
    Card,
    Counted,
    Item,
    get_field,
    get_numbers,
    numbered_key,
    parse_each,
    surprise,
)
from datamodules.sources.images import Images
from datamodules.sources.location import folder_of
from datamodules.sources.records import find_named, read_records
from datamodules.sources.turns import kept
from mrm.construction.reformulation import T2IPreference
from mrm.errors import RecordError

NAME = "hpdv3"
CARD = Card("MizzenAI/HPDv3", "MIT", "1.17 million pairs, 1.08 million images", "text-to-image", "vote margin")
MAX_VOTES = 1_000_000


def read(input: str | Path, *, split: str = "train", media_dir: str | None = None) -> Iterator[Item]:
    """Reads the JSON list of a split.

    Args:
        input: the folder, or the JSON file.
        split: the list's name in the folder: train or test (of HPDv3-PlusPlus train_aes, train_tf, test_aes, test_tf).
        media_dir: the folder (or zip) of images; beside the JSON file by default.
    """
    records = read_records(find_named(input, f"{split}.json"))
    images = Images(folder_of(input), media_dir)
    return Counted(
        parse_each(records, numbered_key(f"{NAME}-{split}"), parse_record, images=images), length_hint(records)
    )


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> T2IPreference:
    """One record as a preference of path1 to path2.

    Raises:
        RecordError: "tie"; for a missing field or image, or votes of another form or against path1.
    """
    strength = None
    if record.get("choice_dist") is not None:
        votes = get_numbers(record, "choice_dist", 0, MAX_VOTES)
        if len(votes) != 2 or votes[0] < votes[1]:
            raise surprise("choice_dist", record["choice_dist"], "two numbers of votes, more of them for path1")
        if votes[0] == votes[1]:
            raise RecordError(TIE, f"record {key!r}: choice_dist is {record['choice_dist']!r}.")
        strength = (votes[0] - votes[1]) / sum(votes)
    paths = [get_field(record, name, str) for name in ("path1", "path2")]
    return T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "prompt", str),
        preferred=images.read(paths[0]),
        other=images.read(paths[1]),
        strength=strength,
        meta=kept(record, "path1", "path2", "model1", "model2", "choice_dist", "confidence"),
    )
