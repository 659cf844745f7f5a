"""HPDv2: people's choices between generated images of a prompt.

`zhwang/HPDv2` (training images also at `ymhao/HPDv2`): `train.json` has pairs, {"human_preference": [1, 0], "prompt", "file_path": [a, b]},
where 1 marks the preferred: strength unknown. `test.json` has up to nine images, {"prompt", "image_path": [...], "rank": [...]}, where rank
is the mean over the annotators, lower is better: every two of unequal rank become a pair whose strength is the gap of
ranks / (images - 1), the largest possible gap. Images come as .tar.gz, which cannot be read out of order: unpack them into
`train` and `test` beside the JSON files.
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
    Skipped,
    get_field,
    get_numbers,
    numbered_key,
    parse_many,
    surprise,
)
from datamodules.sources.groups import Graded, pairs_of_group
from datamodules.sources.images import Images
from datamodules.sources.location import folder_of
from datamodules.sources.records import find_named, read_records
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError, RecordError

NAME = "hpdv2"
CARD = Card(
    "zhwang/HPDv2 and ymhao/HPDv2",
    "Apache 2.0",
    "798,000 choices, 430,000 images",
    "text-to-image",
    "test: gap of mean ranks",
)
SPLITS = ("train", "test")


def read(input: str | Path, *, split: str = "train", media_dir: str | None = None) -> Iterator[Item]:
    """Reads the JSON list of a split.

    Args:
        input: the folder, or the JSON file.
        split: train or test; with a file, what kind of record it holds.
        media_dir: the folder (or zip) of images; `SPLIT/` beside the JSON file, or that folder itself, by default.
    """
    if split not in SPLITS:
        raise ConfigError(f"split: {split!r} is none of {', '.join(SPLITS)}; the benchmark lists prompts only.")
    records = read_records(find_named(input, f"{split}.json"))
    parse = parse_choice if split == "train" else parse_ranking
    arguments = {"images": Images(folder_of(input), media_dir), "folder": split}
    return Counted(parse_many(records, numbered_key(f"{NAME}-{split}"), parse, **arguments), length_hint(records))


def parse_choice(record: dict[str, Any], *, key: str, images: Images, folder: str) -> Iterator[T2IPreference]:
    """One record of train.json.

    Raises:
        RecordError: "tie"; for a missing field or image, or a preference of another form.
    """
    paths = paths_of(record, "file_path")
    preference = get_field(record, "human_preference", list)
    if len(paths) != 2 or len(preference) != 2:
        raise surprise("human_preference", preference, f"two numbers, for two images; file_path has {len(paths)}")
    if preference not in ([1, 0], [0, 1]):
        if preference[0] == preference[1]:
            raise RecordError(TIE, f"record {key!r}: human_preference is {preference!r}.")
        raise surprise("human_preference", preference, "[1, 0] or [0, 1]")
    better, worse = paths if preference[0] == 1 else paths[::-1]
    yield T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "prompt", str),
        preferred=images.read(better, f"{folder}/{better}"),
        other=images.read(worse, f"{folder}/{worse}"),
        meta={"preferred_image": better, "other_image": worse},
    )


def parse_ranking(
    record: dict[str, Any], *, key: str, images: Images, folder: str
) -> Iterator[T2IPreference | Skipped]:
    """One record of test.json: all its pairs.

    Raises:
        RecordError: for a missing field, or ranks that are not one an image.
    """
    paths = paths_of(record, "image_path")
    ranks = get_numbers(record, "rank", 0, len(paths))
    if len(ranks) != len(paths):
        raise surprise("rank", ranks, f"a number for each of {len(paths)} images")
    if len(paths) < 2:
        raise surprise("image_path", paths, "a list of at least two images")
    group = [Graded(path, -rank) for path, rank in zip(paths, ranks, strict=True)]
    caption = get_field(record, "prompt", str)

    def read_one(path: str) -> bytes:
        return images.read(path, f"{folder}/{path}")

    yield from pairs_of_group(
        key, NAME, caption, group, scale=max(len(paths) - 1, max(ranks) - min(ranks)), read=read_one
    )


def paths_of(record: dict[str, Any], name: str) -> list[str]:
    """A field that is a list of paths.

    Raises:
        RecordError: where it is missing or anything else.
    """
    paths = get_field(record, name, list)
    if not all(isinstance(path, str) and path for path in paths):
        raise surprise(name, paths, "a list of paths")
    return paths
