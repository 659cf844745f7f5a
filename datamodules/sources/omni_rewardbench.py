"""Omni-RewardBench, the part from image and text to text: preferences under a criterion that is given as text. A benchmark, for tests.

`HongbangYuan/OmniRewardBench`, config `text_image_to_text`: Parquet (or the repository's `text_image_to_text_preferences.json` beside `media_data/` or its
zip) with `prompt`, `image`, `response1`, `response2`, `criteria`, `criteria_preference` ("response1", "response2" or "tie") and more. The
preference holds under the criterion alone, and the same pair stands there under several: the criterion is part of the prompt. Ties are left
out and counted, as in the benchmark's figures "w/o ties".
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import TIE, Card, Counted, Item, Records, get_field, numbered_key, parse_each, surprise
from datamodules.sources.benchmark_records import folder_of_file, open_records
from datamodules.sources.images import Images, image_of, safe_path
from datamodules.sources.turns import kept, pair_sample
from mrm.errors import RecordError
from mrm.evaluation.benchmarks import OMNI_TASK, BenchmarkPair
from mrm.preference import PreferenceSample

NAME = "omni_rewardbench"
CARD = Card(
    "HongbangYuan/OmniRewardBench (text_image_to_text)", "CC BY-NC 4.0", "some hundred pairs, a benchmark", "image-text"
)
NAMES = (f"{OMNI_TASK}_preferences.json",)
COLUMNS = ("prompt", "response1", "response2", "criteria", "criteria_preference")
EXTRAS = ("id", "model1", "model2")
SIDES = ("response1", "response2")
CRITERION = "{prompt}\n\nThe response is to be judged by this criterion alone: {criterion}"
key_of = numbered_key(NAME, "id")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the Parquet files of the config text_image_to_text, or the JSON list.

    Args:
        input: the folder, or the file.
        media_dir: a folder or zip file of images, for the JSON list; beside the file by default.
    """
    records = records_of(input)
    images = Images(folder_of_file(input), media_dir)
    return Counted(parse_each(records, key_of, parse_record, images=images), length_hint(records))


def records_of(input: str | Path, *, with_images: bool = True) -> Records:
    """The published records; without images they are read faster."""
    optional = (*EXTRAS, "image", "image_path") if with_images else EXTRAS
    return open_records(input, names=NAMES, required=COLUMNS, optional=optional, config=OMNI_TASK)


def describe(record: dict[str, Any]) -> BenchmarkPair:
    """A record as the figures need it.

    Raises:
        RecordError: "tie"; for a missing field, or an unknown preference.
    """
    chosen, rejected = _responses(record)
    return BenchmarkPair(str(record.get("id", "")), OMNI_TASK, chosen, rejected)


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One record as a pair, with the criterion behind the prompt.

    Raises:
        RecordError: "tie"; for a missing field or image, an unknown preference, or a broken rule of the record.
    """
    chosen, rejected = _responses(record)
    prompt, criterion = (get_field(record, name, str).strip() for name in ("prompt", "criteria"))
    question = CRITERION.replace("{prompt}", prompt).replace("{criterion}", criterion)
    picture = _picture(get_field(record, "image", object), images)
    return pair_sample(
        key, NAME, question, [picture], chosen, rejected, meta={**kept(record, *EXTRAS), "criterion": criterion}
    )


def _picture(value: object, images: Images) -> bytes:
    """The image; in the JSON list a path within `media_data`."""
    if isinstance(value, str) and value:
        return images.read(value, f"media_data/{safe_path(value)}")
    return image_of(value, images, "image")


def _responses(record: dict[str, Any]) -> tuple[str, str]:
    preferred = get_field(record, "criteria_preference", str)
    if preferred == "tie":
        raise RecordError(TIE, "criteria_preference is 'tie': neither response is the better one.")
    if preferred not in SIDES:
        raise surprise("criteria_preference", preferred, "response1, response2 or tie")
    other = SIDES[1 - SIDES.index(preferred)]
    return get_field(record, preferred, str), get_field(record, other, str)
