"""LLaVA-RLHF: two answers to the last question of a conversation about an image, compared by people.

`zhiqings/LLaVA-Human-Preference-10K`: one JSON list. `conversations` ends in an answer that is replaced: `output_1` and `output_2` are
compared, `preference` is 1 or 2. Images are COCO train2017 by name, not part of the dataset: give the folder (or zip) that holds them
as `media_dir`, in `train2017/` or directly. No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Item, get_field, surprise
from datamodules.sources.images import Images
from datamodules.sources.pairs import read_list
from datamodules.sources.turns import kept, message_of, messages_of, pair_sample, until_answer
from mrm.errors import RecordError
from mrm.preference import PreferenceSample

NAME = "llava_rlhf"
CARD = Card("zhiqings/LLaVA-Human-Preference-10K", "Apache 2.0", "10,000 pairs, COCO images apart", "image-text")


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
        RecordError: for a missing field, a preference other than 1 and 2, or a broken rule of the record.
    """
    prompt, _ = until_answer(messages_of(record, "conversations"), "conversations")
    preference = get_field(record, "preference", int)
    if preference not in (1, 2) or isinstance(preference, bool):
        raise surprise("preference", preference, "1 or 2, the number of the better output")
    outputs = []
    for name in ("output_1", "output_2"):
        message = message_of(get_field(record, name, dict))
        if message.role != "assistant":
            raise RecordError("bad role", f"`{name}` is a turn of the {message.role}, it must be the assistant's.")
        outputs.append(message.content)
    path = get_field(record, "image", str)
    picture = images.read(path, f"train2017/{path}")
    chosen, rejected = outputs[preference - 1], outputs[2 - preference]
    return pair_sample(
        key, NAME, prompt, [picture], chosen, rejected, meta=kept(record, "id", "image", "hallucination")
    )
