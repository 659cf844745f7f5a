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

import webdataset

from datamodules.index import Index
from datamodules.tarscan import MANIFEST_NAME, file_digest, local_directory, short_digest, verify_shards
from mrm.errors import RecordError, ShardError
from mrm.preference import PreferenceSample

__all__ = ["ShardWriter", "read_record", "read_sample", "sniff_extension", "verify_shards"]

log = logging.getLogger(__name__)


def sniff_extension(data: bytes) -> str | None:
    """The file extension that the first bytes of an image call for; None for anything unknown."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for magic, extension in (
        (b"\xff\xd8\xff", "jpg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM", "bmp"),
        (b"II*\x00", "tiff"),
        (b"MM\x00*", "tiff"),
    ):
        if data.startswith(magic):
            return extension
    return None


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
        self.max_samples = max_samples
        self.max_bytes = max_bytes
        self.samples = 0
        self._keys: set[str] = set()
        self._shards: list[tuple[str, int]] = []  # (name, samples) of the closed ones
        self._file: BinaryIO | None = None
        self._tar: webdataset.TarWriter | None = None
        self._in_shard = 0
        self._check_free()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{self.directory.name}.partial-"
        for left in self.directory.parent.glob(f"{prefix}*"):
            log.warning("%s was left by an unfinished run; delete it if none is writing there now.", left)
        self._partial = self.directory.parent / f"{prefix}{uuid.uuid4().hex[:8]}"
        self._partial.mkdir()

    def write(self, sample: PreferenceSample) -> None:
        """Adds one sample.

        Raises:
            RecordError: "duplicate key", "unknown image format" or "meta not json"; then nothing of it is written.
        """
        if sample.key in self._keys:
            raise RecordError(
                "duplicate key",
                f"sample {sample.key!r}: the key was already written; keys must be unique in a data set.",
            )
        members = _members(sample)
        size = sum(len(data) for _, data in members)
        if self._tar is not None:
            assert self._file is not None
            if self._in_shard >= self.max_samples or self._file.tell() + size > self.max_bytes:
                self._close_shard()
        if self._tar is None:
            self._open_shard()
        assert self._tar is not None
        for extension, data in members:  # one call each: a single call would sort the images before the record
            self._tar.write({"__key__": sample.key, extension: data})
        self._keys.add(sample.key)
        self._in_shard += 1
        self.samples += 1

    def close(self) -> None:
        """Ends the last shard, writes manifest and index, and gives the directory its name."""
        if self._tar is not None:
            self._close_shard()
        if not self.samples:
            self.abort()
            raise ShardError(f"{self.directory}: no sample was written; look at the reasons why all were skipped.")
        try:
            shards = [
                {
                    "name": name,
                    "samples": n,
                    "bytes": (self._partial / name).stat().st_size,
                    "sha256": file_digest(self._partial / name),
                }
                for name, n in self._shards
            ]
            text = json.dumps({"format": 1, "samples": self.samples, "shards": shards}, indent=1)
            (self._partial / MANIFEST_NAME).write_text(text + "\n")
            Index.build(self._partial)
            self._check_free()
            os.rename(self._partial, self.directory)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Removes what was written."""
        if self._tar is not None:
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

    def _open_shard(self) -> None:
        self._file = (self._partial / f"shard-{len(self._shards):06d}.tar").open("wb")
        # PAX only for keys beyond 100 characters; time and owner fixed, so that equal input gives equal digests
        self._tar = webdataset.TarWriter(
            self._file, encoder=False, mtime=0, user="mrm", group="mrm", format="PAX_FORMAT", compress=False
        )

    def _close_shard(self) -> None:
        assert self._tar is not None and self._file is not None
        self._tar.close()
        self._file.close()
        self._shards.append((Path(self._file.name).name, self._in_shard))
        self._file = self._tar = None
        self._in_shard = 0


def _members(sample: PreferenceSample) -> list[tuple[str, bytes]]:
    """(extension, bytes) of a sample's members, the record first."""
    try:
        record = json.dumps(sample.to_json(), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise RecordError(
            "meta not json", f"sample {sample.key!r}: cannot be written as JSON: {error}; mend its text or meta."
        ) from error
    members = [("json", record)]
    for number, data in enumerate(sample.images):
        extension = sniff_extension(data)
        if extension is None:
            raise RecordError(
                "unknown image format",
                f"sample {sample.key!r}: image {number} starts with {data[:8]!r}: no jpg, png, webp, gif, bmp or tiff.",
            )
        members.append((f"{number}.{extension}", data))
    return members


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
