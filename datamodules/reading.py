"""Reading samples by index: an `os.pread` a member, held against the checksums of the index.

Nothing is read that is not asked for, in any order; file handles belong to the process that reads. What comes back is
what was indexed, byte for byte, or an error that names key and shard. A process checks each sample the first time that
it reads it, and again when its shard's file changes. Checked is zlib's crc32, which takes a third of sha256's time and
finds damage, not forgery: for that, a manifest holds the sha256 of whole shards. Images are not decoded here.
"""

from __future__ import annotations

import json
import os
import weakref
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datamodules.index import Index
from datamodules.remote import RemoteShard
from mrm.errors import ShardError
from mrm.preference import PreferenceSample

_MEND = "the shard was altered after it was indexed: copy it again or rebuild the index."


def read_sample(index: Index, row: int) -> PreferenceSample:
    """Reads one sample by its byte offsets.

    Raises:
        ShardError: naming key and shard, if the bytes there are not the sample that the index says.
    """
    text, *images = read_members(index, row)
    checked = _checked(index)
    if checked.rows[row]:
        return PreferenceSample.from_checked_json(json.loads(text), images)
    record = _record(index, row, text)  # the bytes that were indexed, and were held against the rules then
    for number, data in enumerate(images):
        if zlib.crc32(data) != index.image_crc[index.image_start[row] + number]:
            raise ShardError(
                f"{_shard(index, row)}: image {number} of sample {index.keys[row]!r} has other bytes than were indexed;"
                f" {_MEND}"
            )
    checked.rows[row] = True
    return PreferenceSample.from_checked_json(record, images)


def read_record(index: Index, row: int) -> dict[str, Any]:
    """Reads one sample's JSON alone, without its images.

    Raises:
        ShardError: as `read_sample`.
    """
    place = int(index.json_offset[row]), int(index.json_length[row])
    return _record(index, row, _read(index, row, [place])[0])


def read_members(index: Index, row: int) -> list[bytes]:
    """The bytes of one sample's record and of its images, as they lie in the shard, not held against any checksum.

    Raises:
        ShardError: if the shard cannot be read or ends before them.
    """
    first, last = index.image_start[row], index.image_start[row + 1]
    offsets, lengths = index.image_offset[first:last].tolist(), index.image_length[first:last].tolist()
    places = [(int(index.json_offset[row]), int(index.json_length[row])), *zip(offsets, lengths, strict=True)]
    return _read(index, row, places)


class _Checked:
    """Which rows of an index this process has checked, and of which file each shard was."""

    def __init__(self, index: Index) -> None:
        self.rows = np.zeros(len(index), bool)
        self._files: dict[int, tuple[int, int]] = {}

    def see(self, index: Index, shard: int, file: tuple[int, int]) -> None:
        """Forgets a shard's rows when its file is another one (inode and time of change)."""
        if self._files.setdefault(shard, file) != file:
            self._files[shard] = file
            self.rows[index.shard == shard] = False


_CHECKED: weakref.WeakKeyDictionary[Index, _Checked] = weakref.WeakKeyDictionary()


def _checked(index: Index) -> _Checked:
    found = _CHECKED.get(index)
    if found is None:
        found = _CHECKED[index] = _Checked(index)
    return found


def _record(index: Index, row: int, text: bytes) -> dict[str, Any]:
    """The record that `text` holds, if it is the one indexed."""
    key = index.keys[row]
    if zlib.crc32(text) == index.json_crc[row]:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(index, row, error) from error
        if isinstance(record, dict) and record.get("key") == key:
            return record
    raise ShardError(f"{_shard(index, row)}: {_found(text, key)}; {_MEND}")


def _found(text: bytes, key: str) -> str:
    """What stands where the record of `key` should."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"sample {key!r} cannot be read ({error})"
    found = record.get("key") if isinstance(record, dict) else record
    if found != key:
        return f"found sample {str(found)[:100]!r} where the index says {key!r}"
    return f"the record of sample {key!r} has other bytes than were indexed"


def _shard(index: Index, row: int) -> Path | RemoteShard:
    return index.shard_files[index.shard[row]]


def _unreadable(index: Index, row: int, error: Exception) -> ShardError:
    return ShardError(f"{_shard(index, row)}: sample {index.keys[row]!r} cannot be read ({error}); {_MEND}")


def _read(index: Index, row: int, places: list[tuple[int, int]]) -> list[bytes]:
    """The bytes at some (offset, length) of the row's shard."""
    shard = _shard(index, row)
    try:
        file, version, size = _opened(shard)
        _checked(index).see(index, int(index.shard[row]), version)
        for offset, length in places:  # no buffer for what is not there
            if offset < 0 or length < 0 or offset + length > size:
                raise EOFError(f"{length} bytes at {offset} of {size}")
        found = [os.pread(file, length, offset) for offset, length in places]
        if [len(data) for data in found] != [length for _, length in places]:
            raise EOFError("it ended while it was read")
    except (OSError, EOFError) as error:
        raise _unreadable(index, row, error) from error
    return found


def _opened(shard: Path | RemoteShard) -> tuple[int, tuple[int, int], int]:
    """File number, version and size of a shard; one that was replaced is opened again."""
    while True:
        path = shard.local() if isinstance(shard, RemoteShard) else shard
        try:
            status = os.stat(path)
            version = status.st_ino, status.st_mtime_ns
            return _open(path, *version).fileno(), version, status.st_size
        except FileNotFoundError:
            if not isinstance(shard, RemoteShard):
                raise  # else another process needed its room just now: it is fetched again


_OPEN: OrderedDict[tuple[Path, int, int], BinaryIO] = OrderedDict()
_MOST_OPEN = 256  # a data set may have more shards than a process may open files


def _open(path: Path, inode: int, mtime: int) -> BinaryIO:
    key = path, inode, mtime
    if key not in _OPEN:
        # A removed file takes its room on the disk until it is closed: a cache that evicts would not shrink.
        for old in [old for old, file in _OPEN.items() if not os.fstat(file.fileno()).st_nlink]:
            _OPEN.pop(old).close()
        while len(_OPEN) >= _MOST_OPEN:
            _OPEN.popitem(last=False)[1].close()
        _OPEN[key] = path.open("rb", buffering=0)
    _OPEN.move_to_end(key)
    return _OPEN[key]
