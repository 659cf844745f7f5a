"""MM-RLHF: answers of several models ranked by people, as the pairs that its authors trained on.

`yifanzhang114/MM-RLHF`: `dpo_pairs.jsonl` with `prompt`, `chosen`, `rejected` and either `image` (a file) or `video` (a folder of
frames), beside the folders (or zips) `long`, `mcq`, `short`, `safety`. Of a video, frames at equal distances are shown as images.
People's ranks stand in `data.jsonl`, whose fields nothing public describes: strength is unknown, and where that file lies beside the pairs,
the log tells which fields it has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, get_field, numbered_key, parse_each
from datamodules.sources.images import Images
from datamodules.sources.location import Location, folder_of
from datamodules.sources.records import find_named, read_records
from datamodules.sources.turns import kept, pair_sample
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample

NAME = "mm_rlhf"
CARD = Card("yifanzhang114/MM-RLHF", "not stated", "some 80,000 pairs, images and videos", "image-text")
LABELS = "data.jsonl"
EXTRAS = ("id", "image", "video", "chosen_reason", "rejected_reason")

log = logging.getLogger(__name__)


def read(input: str | Path, *, frames: int = 8, media_dir: str | None = None) -> Iterator[Item]:
    """Reads `dpo_pairs.jsonl`.

    Args:
        input: the folder, or the file.
        frames: how many of a video's frames are shown; with 0 records with a video are skipped.
        media_dir: a folder or zip file of images and frames; beside the file by default.
    """
    check_frames(frames)
    records = read_records(find_named(input, "dpo_pairs.jsonl"))
    _tell_labels(folder_of(input) / LABELS)
    images = Images(folder_of(input), media_dir)
    items = parse_each(records, numbered_key(NAME, "id"), parse_record, images=images, frames=frames)
    return Counted(items, length_hint(records))


def _tell_labels(file: Location) -> None:
    """Says what the file with the ranks holds, which is not read."""
    if not file.is_file():
        return
    try:
        _, first = next(read_records(file), (None, {}))
    except ConfigError as error:
        first = {}
        log.warning("%s", error)
    found = ", ".join(sorted(map(str, first))) if isinstance(first, dict) else "no record"
    log.warning("%s: %s is not read, strength is unknown; the first record's fields: %s.", NAME, file, found or "none")


def parse_record(record: dict[str, Any], *, key: str, images: Images, frames: int) -> PreferenceSample:
    """One line as a pair.

    Raises:
        RecordError: for a missing field, image or video, for both an image and a video or neither, a video where they aren't
            wanted, or a broken rule of the record.
    """
    given = kept(record, "image", "video")
    if len(given) != 1:
        raise RecordError("malformed field", f"`image` and `video`: exactly one must be given, found {given!r:.100}.")
    if "image" in given:
        pictures = [images.read(given["image"])]
    elif frames == 0:
        raise RecordError("video", "a record with a video; give frames=8 to show some of its frames as images.")
    else:
        pictures = [images.read(path) for path in spread(images.within(given["video"]), frames)]
    return pair_sample(
        key,
        NAME,
        get_field(record, "prompt", str),
        pictures,
        get_field(record, "chosen", str),
        get_field(record, "rejected", str),
        meta=kept(record, *EXTRAS),
    )


def check_frames(frames: int) -> None:
    """Raises ConfigError for a number of frames that cannot be shown."""
    if frames < 0:
        raise ConfigError(f"frames: must be at least 0, not {frames}.")


def spread(paths: list[str], count: int) -> list[str]:
    """`count` of the paths at equal distances, the first and the last among them; all where there are no more."""
    if len(paths) <= count:
        return paths
    if count == 1:
        return [paths[len(paths) // 2]]
    return [paths[i * (len(paths) - 1) // (count - 1)] for i in range(count)]
