"""Shards: WebDataset tars of preference samples, written once, read by offset.

`ShardWriter` makes a directory of `shard-000000.tar`, ..., `manifest.json` and `index.parquet`; it appears under its
name only when it is whole. `read_sample` reads one row with `os.pread`. Images are kept as published, nothing is
decoded.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from datamodules.index import Index
from datamodules.shard_tars import (
    ShardInfo,
    ShardTars,
    duplicate_key,
    members_of,
    sniff_extension,
    write_manifest,
)
from datamodules.tarscan import local_directory, short_digest, verify_shards
from mrm.errors import RecordError, ShardError
from mrm.preference import PreferenceSample

__all__ = ["ShardWriter", "read_record", "read_sample", "sniff_extension", "verify_shards"]

log = logging.getLogger(__name__)


class ShardWriter:
    """Writes samples to a new directory of shards; equal samples give equal bytes.

    Use as a context manager: the directory appears when the block ends well, and not at all otherwise.

    Args:
        directory: the directory to make; it must not exist, or be empty.
        max_samples: samples a shard at most.
        max_bytes: bytes a shard at most; a larger sample gets a shard of its own.

    Raises:
        ShardError: if the directory already holds something, or nothing was written.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, max_samples: int = 1000, max_bytes: int = 256 * 2**20
    ) -> None:
        self.directory = local_directory(directory).absolute()
        self.samples = 0
        self._keys: set[str] = set()
        self._shards: list[ShardInfo] = []  # the closed ones
        self._check_free()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{self.directory.name}.partial-"
        for left in self.directory.parent.glob(f"{prefix}*"):
            log.warning("%s was left by an unfinished run; delete it if none is writing there now.", left)
        self._partial = self.directory.parent / f"{prefix}{uuid.uuid4().hex[:8]}"
        self._partial.mkdir()
        self._tars = ShardTars(self._partial, max_bytes=max_bytes, max_samples=max_samples)

    def write(self, sample: PreferenceSample) -> None:
        """Adds one sample.

        Raises:
            RecordError: "duplicate key", "unknown image format" or "meta not json"; then nothing of it is written.
        """
        if sample.key in self._keys:
            raise duplicate_key(sample.key)
        members = members_of(sample)
        if not self._tars.has_room(sample.key, members):
            self._close_shard()
        self._tars.write(sample.key, members)
        self._keys.add(sample.key)
        self.samples += 1

    def close(self) -> None:
        """Ends the last shard, writes manifest and index, and gives the directory its name."""
        self._close_shard()
        if not self.samples:
            self.abort()
            raise ShardError(f"{self.directory}: no sample was written; look at the reasons why all were skipped.")
        try:
            write_manifest(self._partial, self._shards)
            Index.build(self._partial)
            self._check_free()
            os.rename(self._partial, self.directory)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Removes what was written."""
        self._close_shard()
        shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _check_free(self) -> None:
        if self.directory.exists() and (not self.directory.is_dir() or any(self.directory.iterdir())):
            raise ShardError(
                f"{self.directory}: already exists and is not empty; choose another directory or delete it first."
            )

    def _close_shard(self) -> None:
        if (shard := self._tars.close()) is not None:
            self._shards.append(shard)


_MEND = "the shard was altered after it was indexed: copy it again or rebuild the index."


def read_sample(index: Index, row: int) -> PreferenceSample:
    """Reads one sample by its byte offsets.

    Raises:
        ShardError: naming key and shard, if the bytes there are not the sample that the index says.
    """
    key, path = index.keys[row], index.shard_files[index.shard[row]]
    record = read_record(index, row)
    which = slice(index.image_start[row], index.image_start[row + 1])
    places = zip(index.image_offset[which], index.image_length[which], strict=True)
    try:
        images = [_read(path, *place) for place in places]
        sample = PreferenceSample.from_json(record, images)
    except (OSError, EOFError, RecordError) as error:
        raise ShardError(f"{path}: sample {key!r} cannot be read ({error}); {_MEND}") from error
    for number, (data, digest) in enumerate(zip(images, index.image_digest[which], strict=True)):
        if int(short_digest(data), 16) != digest:
            raise ShardError(f"{path}: image {number} of sample {key!r} has other bytes than were indexed; {_MEND}")
    return sample


def read_record(index: Index, row: int) -> dict[str, Any]:
    """Reads one sample's JSON alone, without its images.

    Raises:
        ShardError: as `read_sample`.
    """
    key, path = index.keys[row], index.shard_files[index.shard[row]]
    try:
        data = _read(path, index.json_offset[row], index.json_length[row])
        record = json.loads(data)
    except (OSError, EOFError, ValueError) as error:
        raise ShardError(f"{path}: sample {key!r} cannot be read ({error}); {_MEND}") from error
    if not isinstance(record, dict) or record.get("key") != key:
        found = record.get("key") if isinstance(record, dict) else record
        raise ShardError(f"{path}: found sample {found!r} where the index says {key!r}; {_MEND}")
    if int(short_digest(data), 16) != index.json_digest[row]:
        raise ShardError(f"{path}: the record of sample {key!r} has other bytes than were indexed; {_MEND}")
    return record


def _read(path: Path, offset: int, length: int) -> bytes:
    status = os.stat(path)
    data = os.pread(_open(path, status.st_ino, status.st_mtime_ns).fileno(), int(length), int(offset))
    if len(data) != length:
        raise EOFError(f"{len(data)} of {length} bytes at {offset}")
    return data


@functools.lru_cache(maxsize=64)  # a data set may have more shards than a process may open files; evicted ones close
def _open(path: Path, inode: int, mtime: int) -> BinaryIO:
    return path.open("rb", buffering=0)
