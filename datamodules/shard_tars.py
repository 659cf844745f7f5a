"""Writing tars of samples one after the other, each with its size and digest; equal samples give equal bytes.

What belongs in a sample's members is decided here too. A whole directory with manifest and index is left to `shards.py`
and `prepare.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import webdataset

from datamodules.tarscan import MANIFEST_NAME
from mrm.errors import RecordError
from mrm.preference import PreferenceSample

Members = list[tuple[str, bytes]]  # (extension, bytes), the record first
_BLOCK = 512  # tar's unit
_PAX_KEY = 80  # longer names may take two more blocks a member


@dataclass(frozen=True)
class ShardInfo:
    """A finished shard: file name, number of samples, size in bytes, sha256 in hex."""

    name: str
    samples: int
    bytes: int
    sha256: str


class ShardTars:
    """Writes `shard-000000.tar`, `shard-000001.tar`, ... in a directory.

    Args:
        directory: an existing one.
        max_bytes: bytes a shard at most; a larger sample gets a shard of its own.
        max_samples: samples a shard at most; None for no limit.
        first: the first shard's number.
    """

    def __init__(self, directory: Path, *, max_bytes: int, max_samples: int | None = None, first: int = 0) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_samples = max_samples
        self._number = first
        self._samples = 0
        self._file: _Hashing | None = None
        self._tar: Any = None

    def has_room(self, key: str, members: Members) -> bool:
        """Whether a sample may be written before the open shard is closed; True where none is open."""
        if self._tar is None:
            return True
        if self._max_samples is not None and self._samples >= self._max_samples:
            return False
        blocks = 3 if len(key) > _PAX_KEY else 1
        size = sum(blocks * _BLOCK + -(-len(data) // _BLOCK) * _BLOCK for _, data in members)
        return self._tar.tarstream.offset + size <= self._max_bytes

    def write(self, key: str, members: Members) -> None:
        """Adds a sample to the open shard, or to a new one."""
        if self._tar is None:
            self._file = _Hashing(self._directory / f"shard-{self._number:06d}.tar")
            # PAX only for keys beyond 100 characters; time and owner fixed, so that equal input gives equal digests
            self._tar = webdataset.TarWriter(
                self._file, encoder=False, mtime=0, user="mrm", group="mrm", format="PAX_FORMAT", compress=False
            )
        for extension, data in members:  # one call each: a single call would sort the images before the record
            self._tar.write({"__key__": key, extension: data})
        self._samples += 1

    def close(self) -> ShardInfo | None:
        """Ends the open shard and sees to it that it is on the disk; None where none is open."""
        if self._tar is None:
            return None
        assert self._file is not None
        self._tar.close()
        self._file.close()
        info = ShardInfo(self._file.path.name, self._samples, self._file.size, self._file.digest.hexdigest())
        self._file = self._tar = None
        self._samples = 0
        self._number += 1
        return info

    def discard(self) -> None:
        """Removes the open shard, where there is one: it will be written again."""
        if self._tar is None:
            return
        assert self._file is not None
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._tar.close()
            self._file.close()
        self._file.path.unlink(missing_ok=True)
        self._file = self._tar = None


class _Hashing:
    """A file that knows its digest without being read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.digest = hashlib.sha256()
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


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


def members_of(sample: PreferenceSample) -> Members:
    """What a sample's part of a shard holds.

    Raises:
        RecordError: "meta not json" or "unknown image format".
    """
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


def duplicate_key(key: str) -> RecordError:
    """The error for a key that stands twice in a data set."""
    return RecordError(
        "duplicate key", f"sample {key!r}: the key was already written; keys must be unique in a data set."
    )


def write_manifest(directory: Path, shards: Iterable[ShardInfo]) -> None:
    """Writes `manifest.json` beside the shards."""
    shards = list(shards)
    listed = {"format": 1, "samples": sum(s.samples for s in shards), "shards": [asdict(s) for s in shards]}
    (directory / MANIFEST_NAME).write_text(json.dumps(listed, indent=1) + "\n")
