"""MJ-Bench text-to-image preferences, in the three forms in which they were published.

- In git (github.com/MJ-Bench/MJ-Bench): `captions.json` and `images/` beside it. `label_0` is 1 where image_0 is the better
  one, 0 where image_1 is. The published list of captions names images that some copies of the folder lack: those records are
  skipped as "image not in this copy", which unlike a missing file elsewhere is to be expected. Known shortcut: the edited image
  was encoded again as a whole, so that its compression alone gives it away.
- Parquet of 2024 (v1): columns `image0`, `image1`, `caption`, `label`. `label` is the number of the better image: 0 or 1.
- Parquet as the card describes it now (v2): the same, with `category`, `subcategory` and `model`; `label` is 0 in every row, since
  image0 is the better one always.
So the two names mean opposite things: label_0=1 and label=0 both prefer the first image. In most files the first is preferred
throughout: the sides are balanced afterwards (see `mrm.construction.reformulation`). Strength is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.sources.base import IMAGE_MISSING, Card, Counted, Item, get_field, parse_each, safe_key, surprise
from datamodules.sources.images import Images, image_of
from datamodules.sources.location import Location, existing, folder_of
from datamodules.sources.records import read_records
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError, RecordError

NAME = "mj_bench"
CARD = Card("MJ-Bench/MJ-Bench", "MIT", "some 4,000 pairs in four splits", "text-to-image")
NOT_IN_COPY = "image not in this copy"
COLUMNS = ("caption", "image0", "image1", "label")


def read(input: str | Path, *, split: str | None = None) -> Iterator[Item]:
    """Reads the folder of captions and images, or the Parquet files.

    Args:
        input: the folder, or one Parquet file.
        split: alignment, safety, quality or bias: only Parquet files named after it; all of them by default.
    """
    place = existing(input)
    if (place / "captions.json").is_file():
        if split is not None:
            raise ConfigError(f"split: {place} holds captions.json, which has no splits; leave the option out.")
        return _read_captions(place)
    try:
        files = find_tables(place)
    except ConfigError as error:
        raise ConfigError(
            f"input: {place} is no MJ-Bench folder; it must hold captions.json and images/, or .parquet files."
        ) from error
    if split is not None:
        files = [file for file in files if split in file.path.removeprefix(place.path)]
        if not files:
            raise ConfigError(f"split: no Parquet file in {place} is named after {split!r}.")
    rows = read_rows(files, COLUMNS, ("category", "subcategory", "model", "info", "id"))
    items = parse_each(
        rows, lambda number, _: safe_key(NAME, f"{number:06d}"), parse_row, images=Images(folder_of(place))
    )
    return Counted(items, length_hint(rows))


def _read_captions(folder: Location) -> Iterator[Item]:
    records = read_records(folder / "captions.json")

    def key_of(number: int, record: dict[str, Any]) -> str:
        return safe_key(NAME, f"{number:05d}-{PurePosixPath(str(record.get('image_0'))).stem}")

    items = parse_each(records, key_of, parse_record, images=Images(folder / "images"))
    return Counted(items, length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> T2IPreference:
    """One record of captions.json as a preference between its two images.

    Raises:
        RecordError: for a missing image or field, or a label other than 0 and 1.
    """
    label = get_field(record, "label_0", int)
    if label not in (0, 1):
        raise RecordError(
            "no preference", f"record {key!r}: label_0 is {label!r}; 1 prefers image_0 and 0 prefers image_1."
        )
    names = [get_field(record, name, str) for name in ("image_0", "image_1")]
    better, worse = names if label == 1 else names[::-1]
    return T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "caption", str),
        preferred=_read_image(better, images),
        other=_read_image(worse, images),
        meta={"preferred_image": better, "other_image": worse},
    )


def parse_row(record: dict[str, Any], *, key: str, images: Images) -> T2IPreference:
    """One row of a Parquet file as a preference between its two images.

    Raises:
        RecordError: for a missing image or field, or a label other than 0 and 1.
    """
    label = get_field(record, "label", int)
    if label not in (0, 1):
        raise surprise("label", label, "0 or 1, the number of the better image")
    both = [image_of(get_field(record, name, object), images, name) for name in ("image0", "image1")]
    return T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "caption", str),
        preferred=both[label],
        other=both[1 - label],
        meta={**kept(record, "category", "subcategory", "model"), "label": label},
    )


def _read_image(name: str, images: Images) -> bytes:
    try:
        return images.read(name)
    except RecordError as error:
        if error.reason == IMAGE_MISSING and isinstance(error.__cause__, FileNotFoundError):
            raise RecordError(NOT_IN_COPY, str(error)) from error
        raise
