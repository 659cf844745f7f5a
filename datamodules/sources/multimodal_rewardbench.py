"""Multimodal RewardBench: 4,711 pairs of correctness, preference, knowledge, math, coding, safety and VQA. A benchmark, for tests.

github.com/facebookresearch/multimodal_rewardbench: its `scripts/0_download_data.py` writes `data/all_data.json`, a list with `ID`, `Text`, `Image`
(`images/nocaps/13062.jpg`), `Output1`, `Output2`, `Better` ("Output1" or "Output2") and `Meta` with `Category`, and fetches the images. In
`all_data_release.json`, from which it starts, most texts are lacking: figures can be computed from it, a model cannot score it. The paper has 5,211 pairs:
500 made from Hateful Memes are withheld for that set's licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, Records, get_field, numbered_key, parse_each, surprise
from datamodules.sources.benchmark_records import folder_of_file, open_records, picture_of
from datamodules.sources.images import Images
from datamodules.sources.location import Location
from datamodules.sources.turns import kept, pair_sample
from mrm.errors import RecordError
from mrm.evaluation.benchmarks import (
    BenchmarkPair,
    multimodal_rewardbench_category,
    multimodal_rewardbench_source,
)
from mrm.preference import PreferenceSample

NAME = "multimodal_rewardbench"
CARD = Card(
    "github.com/facebookresearch/multimodal_rewardbench",
    "CC BY-NC 4.0; the images' own",
    "4,711 of 5,211 pairs, a benchmark",
    "image-text",
)
NAMES = ("all_data.json", "data/all_data.json", "all_data_release.json", "data/all_data_release.json")
COLUMNS = ("ID", "Output1", "Output2", "Better", "Meta")
SIDES = ("Output1", "Output2")
key_of = numbered_key(NAME, "ID")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads `all_data.json`.

    Args:
        input: the repository's folder, its `data`, or the file.
        media_dir: the folder or zip file that the images' paths start in; that of the file by default.
    """
    records = records_of(input)
    images = Images(image_folder(input), media_dir)
    return Counted(parse_each(records, key_of, parse_record, images=images), length_hint(records))


def records_of(input: str | Path, *, with_images: bool = True) -> Records:
    """The published records, in which images are paths."""
    return open_records(input, names=NAMES, required=COLUMNS, optional=("Text", "Image") if with_images else ("Text",))


def image_folder(input: str | Path) -> Location:
    """Where the images' paths start: `data`, where the input is the folder that holds it."""
    folder = folder_of_file(input)
    return folder / "data" if any((folder / name).is_file() for name in NAMES if "/" in name) else folder


def describe(record: dict[str, Any]) -> BenchmarkPair:
    """A record as the figures need it.

    Raises:
        RecordError: for a missing field, or a side or category that is not known.
    """
    id = get_field(record, "ID", str)
    meta = record.get("Meta")
    category = get_field(meta if isinstance(meta, dict) else record, "Category", str)
    chosen, rejected = _responses(record)
    return BenchmarkPair(
        id,
        multimodal_rewardbench_category(category, id),
        chosen,
        rejected,
        source=multimodal_rewardbench_source(id),
    )


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One record as a pair.

    Raises:
        RecordError: for a missing field or image, an unknown side, or a broken rule of the record.
    """
    chosen, rejected = _responses(record)
    if not record.get("Text"):
        raise RecordError(
            "text missing",
            "`Text` is lacking, as in all_data_release.json; run the benchmark's scripts/0_download_data.py.",
        )
    pictures = [picture_of(get_field(record, "Image", object), images, "Image")]
    question = get_field(record, "Text", str)
    return pair_sample(key, NAME, question, pictures, chosen, rejected, meta=kept(record, "ID", "Meta"))


def _responses(record: dict[str, Any]) -> tuple[str, str]:
    better = get_field(record, "Better", str)
    if better not in SIDES:
        raise surprise("Better", better, " or ".join(SIDES))
    worse = SIDES[1 - SIDES.index(better)]
    return get_field(record, better, str), get_field(record, worse, str)
