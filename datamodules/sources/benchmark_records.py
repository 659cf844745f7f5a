"""What the readers of benchmarks share: the published file in its folder, whatever of its forms lies there, and its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Counted, Records
from datamodules.sources.images import Images, image_of, safe_path
from datamodules.sources.location import Location, existing
from datamodules.sources.records import find_file, read_records
from datamodules.sources.tables import find_tables, read_rows


def open_records(
    input: str | Path,
    *,
    names: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str],
    tables_first: bool = False,
    config: str | None = None,
) -> Records:
    """The records of a benchmark: a file of any form, or what a folder holds of it.

    Args:
        input: a .parquet, .json or .jsonl file, or a folder.
        names: what the JSON file in a folder may be called; where none is there, it must be the only one.
        required, optional: columns of the Parquet files.
        tables_first: whether Parquet files in a folder are preferred to JSON.
        config: only Parquet files in a folder of that name; where none is, any.

    Raises:
        ConfigError: where none is found, or a file cannot be read.
    """
    place = existing(input)
    if place.is_file():
        if place.suffix == ".parquet":
            return read_rows([place], required, optional)
        return read_records(place)
    named = next((place / name for name in names if (place / name).is_file()), None)
    if (tables_first or named is None) and any(file.suffix == ".parquet" for file in place.files()):
        return read_rows(find_tables(place, config=config), required, optional)
    return read_records(find_file(place) if named is None else named)


def joined(parts: Sequence[Records]) -> Records:
    """The records of several files, one after the other."""

    def each() -> Iterator[Any]:
        for part in parts:
            yield from part

    return Counted(each(), sum(length_hint(part) for part in parts))


def folder_of_file(input: str | Path) -> Location:
    """The folder that a benchmark's paths are relative to."""
    place = existing(input)
    return place.parent if place.is_file() else place


def picture_of(value: object, images: Images, name: str) -> bytes:
    """An image's bytes: of a column of the Hugging Face kind, or of a path that may start in `images/`.

    Raises:
        RecordError: for a value of another form, or an image that is missing.
    """
    if isinstance(value, str) and value:
        return images.read(value, f"images/{safe_path(value)}")
    return image_of(value, images, name)
