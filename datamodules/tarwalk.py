"""Walking the headers of a tar that nobody vouches for.

Python's `tarfile` ends silently at a broken header and can be sent backwards by a negative size, hence a walk of its own:
strictly forward, every byte either a member's, its padding or the archive's end. What is damaged is named, and the walk
goes on with the next whole header. Only plain files come out; what they may be called is left to `tarscan.py`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mrm.errors import ShardError

BLOCK = 512  # tar's unit: headers, and the zero block that ends an archive
_LONGEST_EXTRA = 2**16  # bytes of a header that only tells about the next one: room for any name
_PAX = re.compile(rb"(\d{1,6}) (path|size)=")
_MEND = "the file is cut off or broken: copy it again or prepare the data set again."


@dataclass(frozen=True)
class Member:
    """A plain file in a tar: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Fault:
    """What of a shard cannot be used.

    Args:
        shard: the tar.
        what: key of the sample, or the byte where nobody knows whose it was.
        reason: short and stable, for counting.
        message: the whole story.
    """

    shard: str
    what: str
    reason: str
    message: str


class _Damage(ValueError):
    """A header that cannot be followed; `args[0]` says why."""


def walk(path: Path, file: BinaryIO, faults: list[Fault] | None = None) -> Iterator[Member]:
    """The plain files of a tar, in order.

    Args:
        path: the tar, for messages.
        file: the same, open for reading.
        faults: where damage goes; None raises it.

    Raises:
        ShardError: for links, devices and other members that are no plain file; without `faults` for damage, too.
    """
    size = os.fstat(file.fileno()).st_size
    at: int | None = 0
    while at is not None:
        start = at
        try:
            for member in _walk_on(path, file, size, at):
                at = -(-(member.offset + member.size) // BLOCK) * BLOCK
                yield member
            return
        except _Damage as damage:
            reason, where, text = damage.args
            if faults is None:
                raise ShardError(f"{path}: {text}; {_MEND}") from damage
            faults.append(Fault(str(path), f"byte {where}", reason, f"{path}: {text}"))
            at = _next_header(file, size, max(where, start) + BLOCK)


def _walk_on(path: Path, file: BinaryIO, size: int, at: int) -> Iterator[Member]:
    told: dict[str, str] = {}  # by a header about the next one
    announced = False
    while True:
        block = os.pread(file.fileno(), BLOCK, at)
        if len(block) == BLOCK and not any(block):
            # Nobody writes such a shard, but zeros are what a disk gives back for what it lost.
            if not at:
                raise _Damage("no member", at, "it holds no member")
            if announced:
                raise _Damage("no member", at, f"it ends at byte {at}, where a member was announced")
            _check_end(file, size, at)
            return
        info = _header(block, at, size)
        data = at + BLOCK
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            if info.size > _LONGEST_EXTRA:
                raise _Damage("broken header", at, f"the header at byte {at} announces a name of {info.size} bytes")
            announced = info.type != tarfile.XGLTYPE
            told |= _told(info.type, os.pread(file.fileno(), info.size, data), at)
            at = data + _padded(info.size)
            continue
        name, length = told.get("path", info.name), int(told.get("size", info.size))
        told, announced = {}, False
        if info.type != tarfile.DIRTYPE:
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
                raise ShardError(f"{path}: member {name!r} is not a plain file; a shard may hold only JSON and images.")
            if data + length > size:
                text = f"cut in the middle of {name!r} (needs {data + length} bytes, found {size})"
                raise _Damage("cut off", at, text)
            yield Member(name, data, length)
        at = data + _padded(length)


def _header(block: bytes, at: int, size: int) -> tarfile.TarInfo:
    if len(block) < BLOCK:
        raise _Damage("cut off", at, f"no end-of-archive mark after byte {at} of {size}")
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")  # checks the header's sum
    except (tarfile.HeaderError, ValueError) as error:
        # A whole sequence of members may end here without the mark of an end: then this is something else's start.
        text = f"no header and no end-of-archive mark at byte {at}: not a readable tar ({error})"
        raise _Damage("broken header", at, text) from error
    if info.size < 0:
        raise _Damage("broken header", at, f"the header at byte {at} announces {info.size} bytes")
    return info


def _told(kind: bytes, data: bytes, at: int) -> dict[str, str]:
    """What a PAX or GNU header says of the next member; all but its name and size has no meaning here."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found = {}
    while data:
        end = data.find(b" ")
        try:
            length = int(data[: max(end, 0)])
        except ValueError:
            length = 0
        if not end + 1 < length <= len(data):
            raise _Damage("broken header", at, f"the extended header at byte {at} is damaged")
        if match := _PAX.match(data):
            found[match[2].decode()] = data[match.end() : length - 1].decode("utf-8", "surrogateescape")
        data = data[length:]
    if not re.fullmatch(r"\d{1,18}", found.get("size", "0")):
        raise _Damage("broken header", at, f"the extended header at byte {at} is damaged")
    return found


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _next_header(file: BinaryIO, size: int, at: int) -> int | None:
    """Where the next whole header stands, on a block's border; None where there is none."""
    for start in range(_padded(at), size - BLOCK + 1, BLOCK):
        block = os.pread(file.fileno(), BLOCK, start)
        if block[257:262] == b"ustar":
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                return start
            except (tarfile.HeaderError, ValueError):
                continue
    return None


def _check_end(file: BinaryIO, size: int, at: int) -> None:
    """Only zeros may follow an archive's end: what else stands there would be lost without a word."""
    for start in range(at, size, 2**20):
        chunk = os.pread(file.fileno(), 2**20, start)
        if data := chunk.lstrip(b"\0"):
            where = start + len(chunk) - len(data)
            text = (
                f"something follows the archive's end, at byte {where}; were tars joined by `cat`, keep each in a file of"
                " its own"
            )
            raise _Damage("joined", where // BLOCK * BLOCK - BLOCK, text)
