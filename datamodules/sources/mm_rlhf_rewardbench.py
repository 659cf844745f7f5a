"""MM-RLHF-RewardBench: 170 pairs in 46 groups that share an id, with images and videos. A benchmark, for tests.

`yifanzhang114/MM-RLHF-RewardBench`: `mm_reward_bench.jsonl` (and the same as Parquet in `data/`) with `id`, `prompt`, `chosen`, `rejected` and either
`image` (such as `mcq/073712.png`) or `video` (such as `video/27799510`), beside `images/`, where the frames of a video lie in a folder of its last name.
Frames at equal distances are shown as images.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, Records, get_field, numbered_key, parse_each
from datamodules.sources.benchmark_records import folder_of_file, open_records, picture_of
from datamodules.sources.images import Images, safe_path
from datamodules.sources.mm_rlhf import check_frames, spread
from datamodules.sources.turns import kept, pair_sample
from mrm.errors import RecordError
from mrm.evaluation.benchmarks import BenchmarkPair, mm_rlhf_category
from mrm.preference import PreferenceSample

NAME = "mm_rlhf_rewardbench"
CARD = Card("yifanzhang114/MM-RLHF-RewardBench", "not stated", "170 pairs, a benchmark", "image-text")
NAMES = ("mm_reward_bench.jsonl", "mm_rlhf_rewardbench_text.jsonl")
COLUMNS = ("id", "prompt", "chosen", "rejected")
EXTRAS = ("id", "image", "video")
key_of = numbered_key(NAME, "id")


def read(input: str | Path, *, frames: int = 8, media_dir: str | None = None) -> Iterator[Item]:
    """Reads `mm_reward_bench.jsonl`, or the Parquet file.

    Args:
        input: the folder, or the file.
        frames: how many of a video's frames are shown; with 0 records with a video are skipped.
        media_dir: a folder or zip file of images and frames; beside the file by default.
    """
    check_frames(frames)
    records = records_of(input)
    images = Images(folder_of_file(input), media_dir)
    return Counted(parse_each(records, key_of, parse_record, images=images, frames=frames), length_hint(records))


def records_of(input: str | Path, *, with_images: bool = True) -> Records:
    """The published records, in which images are paths."""
    return open_records(input, names=NAMES, required=COLUMNS, optional=("image", "video"))


def describe(record: dict[str, Any]) -> BenchmarkPair:
    """A record as the figures need it.

    Raises:
        RecordError: for a missing field, or a path that tells no category.
    """
    id, chosen, rejected = (get_field(record, name, str) for name in ("id", "chosen", "rejected"))
    return BenchmarkPair(id, mm_rlhf_category(_path(record)[1]), chosen, rejected, group=id)


def parse_record(record: dict[str, Any], *, key: str, images: Images, frames: int) -> PreferenceSample:
    """One record as a pair.

    Raises:
        RecordError: for a missing field, image or video, a video where none is wanted, or a broken rule of the record.
    """
    kind, path = _path(record)
    if kind == "image":
        pictures = [picture_of(path, images, "image")]
    elif frames == 0:
        raise RecordError("video", "a record with a video; give frames=8 to show some of its frames as images.")
    else:
        pictures = [images.read(frame) for frame in spread(frame_paths(path, images), frames)]
    prompt, chosen, rejected = (get_field(record, name, str) for name in ("prompt", "chosen", "rejected"))
    return pair_sample(key, NAME, prompt, pictures, chosen, rejected, meta=kept(record, *EXTRAS))


def frame_paths(path: str, images: Images) -> list[str]:
    """A video's frames: `video/NAME` lies in `images/NAME`."""
    inside = safe_path(path).rstrip("/")
    return images.within(path, f"images/{inside}", f"images/{posixpath.basename(inside)}")


def _path(record: dict[str, Any]) -> tuple[str, str]:
    """("image" or "video", its path)."""
    given = kept(record, "image", "video")
    if len(given) != 1 or not isinstance(path := next(iter(given.values())), str):
        raise RecordError(
            "malformed field", f"`image` and `video`: exactly one must be given, a path; found {given!r:.100}."
        )
    return next(iter(given)), path
