"""ImageRewardDB: four to nine generated images of a prompt, ranked and rated by experts.

`zai-org/ImageRewardDB` (once THUDM): `images/SPLIT/SPLIT_N/` (or `SPLIT_N.zip`) with the images and one JSON list each, an entry an image: {"image_path",
"prompt_id", "prompt", "rank", "overall_rating", ...}. Rank 1 is the best and ties are allowed. Every two images of a prompt become
a pair; strength is the gap of ranks / (images of the prompt - 1). Ratings go to meta.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Item, Skipped, get_field, get_number, safe_key
from datamodules.sources.groups import ALONE, Graded, pairs_of_group
from datamodules.sources.images import Images
from datamodules.sources.location import Location, existing, inside_zip
from datamodules.sources.records import read_records
from datamodules.sources.turns import kept
from mrm.errors import ConfigError, RecordError

NAME = "image_reward_db"
CARD = Card(
    "zai-org/ImageRewardDB",
    "Apache 2.0",
    "some 8,900 prompts, 137,000 pairs",
    "text-to-image",
    "gap of ranks / (images - 1)",
)
RATINGS = ("overall_rating", "image_text_alignment_rating", "fidelity_rating")


def read(input: str | Path, *, split: str = "train") -> Iterator[Item]:
    """Reads the JSON lists of a split.

    Args:
        input: the dataset's folder, or one JSON file.
        split: train, validation or test.
    """
    place = existing(input)
    if place.is_file():
        return _items([place], place.parent)
    files = [file for file in place.files() if f"/{split}/" in f"/{place.relative(file)}"]
    if not any(file.suffix in (".json", ".zip") for file in files):
        raise ConfigError(f"input: {place} holds no JSON list in a folder {split}/, such as images/{split}/{split}_1/.")
    return _items(_lists(files), place)


def _lists(files: list[Location]) -> Iterator[Location]:
    """The JSON lists, also within zip files that aren't unpacked beside them."""
    for file in files:
        if file.suffix == ".json":
            yield file
        elif file.suffix == ".zip" and not (file.parent / file.stem).is_dir():
            yield from (inside for inside in inside_zip(file).files() if inside.suffix == ".json")


def _items(files: Iterable[Location], root: Location) -> Iterator[Item]:
    above = Images(root)
    for file in files:
        beside = Images(file.parent)
        prompts: dict[str, tuple[str, list[Graded]]] = {}
        for place, record in read_records(file):
            try:
                if isinstance(record, Skipped):
                    yield record
                    continue
                identity, prompt, graded = parse_entry(record)
            except RecordError as error:
                yield Skipped(place, error.reason, f"{place}: {error}")
                continue
            prompts.setdefault(identity, (prompt, []))[1].append(graded)
        read_one = functools.partial(_read, beside=beside, above=above)
        for identity, (prompt, group) in prompts.items():
            key = safe_key(NAME, f"{file.stem}-{identity}")
            if len(group) < 2:
                yield Skipped(key, ALONE, f"{key}: one image of prompt {identity!r} only.")
                continue
            grades = [graded.grade for graded in group]
            scale = max(len(group) - 1, max(grades) - min(grades))
            yield from pairs_of_group(key, NAME, prompt, group, scale=scale, read=read_one)


def _read(path: str, beside: Images, above: Images) -> bytes:
    """An image given by its name, or by its path from the dataset's folder."""
    try:
        return beside.read(path, path.rpartition("/")[2] or path)
    except RecordError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        return above.read(path)


def parse_entry(record: dict[str, Any]) -> tuple[str, str, Graded]:
    """One image: the prompt's id, the prompt, and the image with its rank, negative, as grade.

    Raises:
        RecordError: for a missing field, or a rank that is no number from 1.
    """
    rank = get_number(record, "rank", 1, 1000)
    identity = str(get_field(record, "prompt_id", (str, int)))
    path = get_field(record, "image_path", str)
    return identity, get_field(record, "prompt", str), Graded(path, -rank, kept(record, *RATINGS, "classification"))
