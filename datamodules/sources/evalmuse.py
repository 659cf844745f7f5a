"""EvalMuse-40K: generated images with people's scores for how well they fit the prompt.

`DY-Evalab/EvalMuse`: `train_list.json`, an entry an image: {"prompt_id", "prompt", "img_path", "total_score": [scores from 1 to 5], ...}, and
`images.zip.part-aa`, ..., which are read as they are. Scores are averaged; every two images of a prompt become a pair
whose strength is the gap of the means / 4, the largest possible gap. Prompts that most annotators marked as meaningless
(`promt_meaningless`, as the files spell it) are skipped by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Item, Records, Skipped, get_field, get_numbers, safe_key
from datamodules.sources.groups import ALONE, Graded, pairs_of_group
from datamodules.sources.images import Images
from datamodules.sources.location import folder_of
from datamodules.sources.records import find_named, read_records
from datamodules.sources.turns import kept
from mrm.errors import RecordError

NAME = "evalmuse"
CARD = Card("DY-Evalab/EvalMuse", "BSD 3-clause", "30,000 scored images", "text-to-image", "gap of the mean scores / 4")
LOWEST, HIGHEST = 1, 5


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the scored list.

    Args:
        input: the folder, or the JSON file.
        media_dir: the folder or zip of images; `images`, `images.zip` or its parts beside the JSON file by default.
    """
    records = read_records(find_named(input, "train_list.json"))
    return _items(records, Images(folder_of(input), media_dir))


def _items(records: Records, images: Images) -> Iterator[Item]:
    prompts: dict[str, list[Graded]] = {}
    for place, record in records:
        try:
            if isinstance(record, Skipped):
                yield record
                continue
            prompt, graded = parse_entry(record)
        except RecordError as error:
            yield Skipped(place, error.reason, f"{place}: {error}")
            continue
        prompts.setdefault(prompt, []).append(graded)
    for number, (prompt, group) in enumerate(prompts.items()):
        key = safe_key(NAME, f"{number:06d}")
        if len(group) < 2:
            yield Skipped(key, ALONE, f"{key}: one image of prompt {prompt!r:.80} only.")
            continue
        yield from pairs_of_group(
            key, NAME, prompt, group, scale=HIGHEST - LOWEST, read=lambda path: images.read(path, f"images/{path}")
        )


def parse_entry(record: dict[str, Any]) -> tuple[str, Graded]:
    """One image: its prompt, and the image with its mean score.

    Raises:
        RecordError: "meaningless prompt"; for a missing field, or scores that aren't from 1 to 5.
    """
    if record.get("promt_meaningless"):
        marks = get_numbers(record, "promt_meaningless", 0, 1)
        if sum(marks) * 2 > len(marks):
            raise RecordError("meaningless prompt", f"{sum(marks):g} of {len(marks)} annotators marked the prompt so.")
    scores = get_numbers(record, "total_score", LOWEST, HIGHEST)
    path = get_field(record, "img_path", str)
    graded = Graded(path, sum(scores) / len(scores), {**kept(record, "prompt_id", "type"), "scores": scores})
    return get_field(record, "prompt", str), graded
