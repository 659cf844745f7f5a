"""Building the index of a directory: from its tars, whole or damaged, or from rows that are known already.

What the index is, and reading it, stands in `index.py`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from datamodules.index import INDEX_NAME, Index, index_from_table
from datamodules.index_doubles import first_double
from datamodules.index_table import IndexWriter, read_index, rows_of, shard_rows
from datamodules.ordered_pool import OrderedPool
from datamodules.tarscan import (
    MANIFEST_NAME,
    ScannedSample,
    local_directory,
    manifest_digests,
    scan_shard,
    shard_paths,
    verify_shards,
)
from datamodules.tarwalk import Fault
from mrm.errors import ShardError


def build_index(
    directory: str | os.PathLike[str],
    *,
    workers: int = 1,
    faults: list[Fault] | None = None,
    keep: Callable[[ScannedSample], bool] = lambda scanned: True,
) -> Index:
    """Scans every tar of a directory and writes its `index.parquet`.

    Args:
        directory: a folder of tars.
        workers: processes that scan, each a tar at a time; one with `faults`.
        faults: where damaged samples and refused shards go, so that the rest can be used; None raises them.
        keep: with `faults`, whether a sample comes into the index.

    Raises:
        ShardError: naming the shard that is cut, altered against the manifest, or breaks a rule of `scan_shard`;
            with `faults` only where nothing is left.
    """
    root = local_directory(directory)
    files = shard_paths(root)
    if faults is not None:
        return write_index(root, _whole_rows(files, faults, keep))
    expected: dict[str, str] = {}
    if (root / MANIFEST_NAME).exists():
        verify_shards(root)
        expected = manifest_digests(root)
    tasks = [(file, expected.get(file.name)) for file in files]
    with OrderedPool(shard_rows, workers) as pool:
        return write_index(
            root, ((file, rows) for (file, _), rows in pool.map(tasks, lambda task: task, chunk_items=1))
        )


def write_index(root: Path, shards: Iterable[tuple[Path, pa.Table | ShardError]]) -> Index:
    """Writes the `index.parquet` of a directory from each shard's rows, see `index_table.shard_rows`.

    Raises:
        ShardError: one that stands in place of rows; or if there is no sample, or a key stands twice.
    """
    files = shard_paths(root)
    partial = root / f".{INDEX_NAME}.{uuid.uuid4().hex}"
    try:
        with IndexWriter(partial, {file.name: file.stat().st_size for file in files}) as writer:
            for file, rows in shards:
                if isinstance(rows, ShardError):
                    raise rows
                writer.write(file.name, rows)
        if not writer.rows:
            raise ShardError(f"{root}: no sample in its {len(files)} shard(s); prepare the data set again.")
        table, metadata = read_index(partial)
        index = index_from_table(table, files, root.name, metadata)
        if (double := first_double(index.key_hash, index.keys)) is not None:
            first, second = (files[index.shard[row]] for row in double)
            raise ShardError(
                f"{second}: duplicate key {index.keys[double[0]]!r}, also in {first.name}; keys must be unique over"
                " all shards."
            )
        os.replace(partial, root / INDEX_NAME)
        return index
    finally:
        partial.unlink(missing_ok=True)


def _whole_rows(
    files: Sequence[Path], faults: list[Fault], keep: Callable[[ScannedSample], bool]
) -> Iterator[tuple[Path, pa.Table]]:
    """Each shard's rows without what is damaged, which is named; a shard that is refused as a whole gives none."""
    where: dict[str, str] = {}

    def is_kept(scanned: ScannedSample, file: Path) -> bool:
        key = scanned.sample.key
        if key in where:
            text = f"{file}: duplicate key {key!r}, also in {where[key]}; keys must be unique over all shards."
            faults.append(Fault(str(file), key, "duplicate key", text))
            return False
        if not keep(scanned):
            return False
        where[key] = file.name
        return True

    for file in files:
        before = len(faults)
        try:
            # A shard is refused before its first sample comes, so that none of them needs to be held.
            rows = rows_of(scanned for scanned in scan_shard(file, faults) if is_kept(scanned, file))
        except ShardError as error:
            faults[before:] = [Fault(str(file), file.name, "refused shard", str(error))]
            continue
        yield file, rows
