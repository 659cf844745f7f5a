"""POVID: descriptions and answers about COCO images, and the same with hallucinations put in by GPT-4V.

`YiyangAiLab/POVID_preference_data_for_VLLMs`: one JSON list; `conversations` ends in the preferred answer,
`rejected_conversations` in the other. Images are COCO train2014, not part of the dataset: give the folder (or zip) that holds
them as `media_dir`, with the published path, in `train2014/` or directly. No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.sources.base import Card, Item, get_field
from datamodules.sources.images import Images
from datamodules.sources.pairs import read_list
from datamodules.sources.turns import kept, messages_of, pair_sample, until_answer
from mrm.preference import PreferenceSample

NAME = "povid"
CARD = Card("YiyangAiLab/POVID_preference_data_for_VLLMs", "CC BY 4.0", "17,000 pairs, COCO images apart", "image-text")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the JSON list.

    Args:
        input: the file, or the folder that holds it alone.
        media_dir: where the COCO images lie; the file's folder by default.
    """
    return read_list(input, media_dir, NAME, parse_record)


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One record as a pair.

    Raises:
        RecordError: for a missing field, a conversation of another form, or a broken rule of the record.
    """
    prompt, chosen = until_answer(messages_of(record, "conversations"), "conversations")
    _, rejected = until_answer(messages_of(record, "rejected_conversations"), "rejected_conversations")
    path = get_field(record, "image", str)
    name = PurePosixPath(path).name
    picture = images.read(path, *([f"train2014/{name}", name] if name else []))
    return pair_sample(key, NAME, prompt, [picture], chosen, rejected, meta=kept(record, "id", "image"))
