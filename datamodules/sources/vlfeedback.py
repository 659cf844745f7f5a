"""VLFeedback: four responses a prompt, each rated from 1 to 5 in three aspects by GPT-4V.

`MMInstruction/VLFeedback`: `vlfeedback_80k.jsonl` with `merged_images.zip` (or the folder `merged_images`) beside it, or Parquet
files with the images in them. `completions` is a list of {"annotations", "model", "response"}, or the same by columns. A
record becomes one sample with all its responses and every pair of unequal means over Helpfulness, Visual Faithfulness and
Ethical Considerations. Strength is the gap of the means / 4, the largest possible gap.

Ratings are strings, and some are no number ("N/A"): such a response is left out as "no rating". Responses of one text become one,
rated with the mean of theirs, so that no two pairs contradict each other; each but the first is told as "equal responses". Pairs of equal
means are skipped as "tie". All are counted and named by the numbers of the responses.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import (
    TIE,
    Card,
    Counted,
    Item,
    Records,
    Skipped,
    all_pairs,
    get_field,
    numbered_key,
    parse_many,
    surprise,
)
from datamodules.sources.images import Images, image_of, path_after
from datamodules.sources.location import existing, folder_of
from datamodules.sources.records import find_named, read_records
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept, with_images
from mrm.errors import RecordError
from mrm.preference import Message, Pair, PreferenceSample

NAME = "vlfeedback"
CARD = Card(
    "MMInstruction/VLFeedback",
    "not stated",
    "80,258 prompts of 4 responses",
    "image-text",
    "gap of the mean ratings / 4",
)
FILE = "vlfeedback_80k.jsonl"
ASPECTS = ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")
LOWEST, HIGHEST = 1, 5
FOLDER = "merged_images"


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the JSON Lines file, or the Parquet files.

    Args:
        input: the folder, or one file.
        media_dir: a folder or zip file of images; beside the input by default.
    """
    place = existing(input)
    images = Images(folder_of(place), media_dir)
    records: Records
    if place.suffix == ".parquet" or (place.is_dir() and not (place / FILE).is_file()):
        records = read_rows(find_tables(place, split="train"), ("prompt", "completions"), ("id", "image", "img_path"))
    else:
        records = read_records(find_named(place, FILE))
    return Counted(parse_many(records, numbered_key(NAME, "id"), parse_record, images=images), length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> Iterator[PreferenceSample | Skipped]:
    """One record as a sample of its rated responses, and what of it had to be left out.

    Raises:
        RecordError: for a missing field, or where no two responses differ.
    """
    completions = rows_of(get_field(record, "completions", (list, dict)), "completions")
    rated = yield from _rate(completions, key)
    numbers = [[number for number, _ in ratings] for ratings in rated.values()]
    means = [sum(mean for _, mean in ratings) / len(ratings) for ratings in rated.values()]
    pairs = yield from _pairs([same[0] for same in numbers], means, key)
    if not pairs:  # each pair, and each response left out, has been told
        if len(completions) < 2:
            raise RecordError("too few responses", f"{len(completions)} response(s); a preference needs at least two.")
        return
    picture = _image(record, images)
    yield PreferenceSample(
        key=key,
        source=NAME,
        prompt=with_images([Message("user", get_field(record, "prompt", str))], 1),
        images=(picture,),
        responses=tuple(rated),
        pairs=tuple(pairs),
        meta={
            **kept(record, "id"),
            "models": [kept(completions[same[0]], "model").get("model") for same in numbers],
            "ratings": means,
        },
    )


def _rate(completions: list[dict[str, Any]], key: str) -> Generator[Skipped, None, dict[str, list[tuple[int, float]]]]:
    """Returns, for each text, the numbers and mean ratings of the responses that have it; yields those left out or merged."""
    rated: dict[str, list[tuple[int, float]]] = {}
    for number, completion in enumerate(completions):
        try:
            mean, response = mean_rating(completion), get_field(completion, "response", str)
            if not response.strip():
                raise RecordError("empty response", f"response {number} is empty.")
        except RecordError as error:
            yield Skipped(f"{key}-{number}", error.reason, f"record {key!r}, response {number}: {error}")
            continue
        rated.setdefault(response, []).append((number, mean))
        if len(rated[response]) > 1:
            first = rated[response][0][0]
            told = f"response {number} has the text of response {first}, whose ratings it joins."
            yield Skipped(f"{key}-{number}", "equal responses", f"record {key!r}: {told}")
    return rated


def _pairs(numbers: list[int], means: list[float], key: str) -> Generator[Skipped, None, list[Pair]]:
    """Returns the pairs of unequal means; yields the others as ties."""
    pairs: list[Pair] = []
    for i, j in all_pairs(len(means)):
        if math.isclose(means[i], means[j]):  # means of means: equal but for rounding
            told = f"responses {numbers[i]} and {numbers[j]} have the same mean rating."
            yield Skipped(f"{key}-{numbers[i]}-{numbers[j]}", TIE, f"record {key!r}: {told}")
            continue
        better, worse = (i, j) if means[i] > means[j] else (j, i)
        pairs.append(Pair(better, worse, (means[better] - means[worse]) / (HIGHEST - LOWEST)))
    return pairs


def rows_of(value: list[Any] | dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects, from one or from an object of lists of equal length.

    Raises:
        RecordError: for anything else.
    """
    if isinstance(value, list):
        rows = value
    else:
        columns = list(value.values())
        if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            raise surprise(name, value, "an object of lists of equal length")
        rows = [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not all(isinstance(row, dict) for row in rows):
        raise surprise(name, value, "a list of objects")
    return rows


def mean_rating(completion: dict[str, Any]) -> float:
    """The mean of a response's three ratings.

    Raises:
        RecordError: "no rating" where one is no number from 1 to 5; for a missing field.
    """
    annotations = get_field(completion, "annotations", dict)
    total = 0.0
    for aspect in ASPECTS:
        rating = get_field(get_field(annotations, aspect, dict), "Rating", (str, int, float))
        try:
            value = float(rating)
        except (ValueError, OverflowError):
            value = 0.0
        if not LOWEST <= value <= HIGHEST:
            raise RecordError(
                "no rating", f"{aspect!r} is rated {rating!r}; a number from {LOWEST} to {HIGHEST} is known."
            )
        total += value
    return total / len(ASPECTS)


def _image(record: dict[str, Any], images: Images) -> bytes:
    if record.get("image") is not None:
        return image_of(record["image"], images, "image")
    path = path_after(get_field(record, "img_path", str), FOLDER)
    return images.read(path, f"{FOLDER}/{path}")
