"""Shards: WebDataset tars of preference samples, written once, read by offset.

`ShardWriter` makes a directory of `shard-000000.tar`, ..., `manifest.json` and `index.parquet`; it appears under its
name only when it is whole. Images are kept as published, nothing is decoded. Reading is left to `reading.py`.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from types import TracebackType

from datamodules.index_build import build_index
from datamodules.reading import read_record, read_sample
from datamodules.shard_tars import (
    ShardInfo,
    ShardTars,
    duplicate_key,
    members_of,
    sniff_extension,
    write_manifest,
)
from datamodules.tarscan import local_directory, verify_shards
from mrm.errors import ShardError
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
            build_index(self._partial)
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
