"""Parquet files, read a few rows at a time.

Column names are checked when a file is opened: a dataset whose columns are other than known is one clear error, not as
many skipped rows as it has. Rows come as Python values; an image of the Hugging Face kind is {"bytes", "path"}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.sources.base import DAMAGED, Counted, Records, Skipped
from datamodules.sources.location import Location, existing
from mrm.errors import ConfigError

ROWS = 16  # in a batch: with images of megabytes a batch must stay small
BUFFER = 1 << 18  # bytes of a column read at a time, instead of the whole column chunk of a row group
# "train-00000-of-00002", "train_1", "val.parquet"; but "validation_unique-00000" is a split of its own.
SPLIT = re.compile(r"(train|validation|val|test|dev)(_[A-Za-z]\w*)?([-_.]|$)")


def find_tables(
    input: str | PathLike[str] | Location, *, config: str | None = None, split: str | None = None
) -> list[Location]:
    """The Parquet files that `input` is or holds, also in folders within it.

    Args:
        input: a file or folder.
        config: only files within a folder of that name, or of a name that begins with it; where no file is, any.
        split: only files named `SPLIT-...`, `SPLIT_...` or `SPLIT.parquet`, or in a folder of that name. Files named
            after none of the usual splits belong to every split.

    Raises:
        ConfigError: where there is none.
    """
    location = existing(input)
    if location.is_file():
        return [location]
    files = [file for file in location.files() if file.suffix == ".parquet"]
    names = [location.relative(file) for file in files]
    if config is not None and any(_in_folder(name, config) for name in names):
        files = [file for file, name in zip(files, names, strict=True) if _in_folder(name, config)]
    if split is not None:
        files = [file for file in files if _split_of(location.relative(file)) in (None, split)]
    if not files:
        wanted = f" of the split {split!r}" if split and names else ""
        found = f"; found {', '.join(names[:10])}" if names else ""
        raise ConfigError(f"input: {location} holds no .parquet file{wanted}{found}.")
    return files


def read_rows(files: Sequence[Location], required: Sequence[str], optional: Sequence[str] = ()) -> Records:
    """The rows of all files, each with its place (`name row number`); only the named columns are read.

    A row group that cannot be read comes out as a `Skipped` for each of its rows, and the next one is read.

    Raises:
        ConfigError: for a file that is no Parquet file or lacks a required column. All local files are checked at once,
            remote ones as they are reached.
    """
    checked = [file for i, file in enumerate(files) if file.is_local or i == 0]
    total = 0
    for file in checked:
        with _opened(file, required) as table:
            total += table.metadata.num_rows
    return Counted(_rows(files, required, optional), round(total * len(files) / max(len(checked), 1)))


def _rows(
    files: Sequence[Location], required: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    for file in files:
        with _opened(file, required) as table:
            columns = [name for name in (*required, *optional) if name in table.schema_arrow.names]
            first = 0
            for group in range(table.num_row_groups):
                yield from _group_rows(table, group, columns, file.name, first)
                first += table.metadata.row_group(group).num_rows


def _group_rows(
    table: pq.ParquetFile, group: int, columns: list[str], name: str, first: int
) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    number, end = first, first + table.metadata.row_group(group).num_rows
    try:
        for batch in table.iter_batches(batch_size=ROWS, row_groups=[group], columns=columns):
            for row in batch.to_pylist():
                yield f"{name} row {number}", row
                number += 1
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: text that isn't UTF-8
        for lost in range(number, end):
            place = f"{name} row {lost}"
            yield place, Skipped(place, DAMAGED, f"{place}: row group {group} cannot be read: {error}.")


@contextmanager
def _opened(file: Location, required: Sequence[str]) -> Iterator[pq.ParquetFile]:
    try:
        stream = file.open()
    except Exception as error:  # each file system has errors of its own
        raise ConfigError(f"input: {file} cannot be read: {error}.") from error
    with stream:
        try:
            table = pq.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False)
        except Exception as error:  # Arrow's, or that of a server that only sends whole files
            raise ConfigError(f"input: {file} is no whole Parquet file: {error}; fetch it again.") from error
        names = table.schema_arrow.names
        if missing := [name for name in required if name not in names]:
            raise ConfigError(f"input: {file} has no column {', '.join(missing)}; it has {', '.join(names)}.")
        yield table


def _in_folder(name: str, config: str) -> bool:
    return any(part == config or part.startswith((f"{config}-", f"{config}_")) for part in name.split("/")[:-1])


def _split_of(name: str) -> str | None:
    """The split that a file is named after, if it is one of the usual ones or begins like one; the innermost name counts."""
    for part in reversed(name.split("/")):
        if match := SPLIT.match(part):
            return f"{'validation' if match[1] == 'val' else match[1]}{match[2] or ''}"
    return None
