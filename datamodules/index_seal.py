"""The seal of `index.parquet`: the file's own sha256, which stands inside it and goes wherever the file is copied.

It covers every byte: data, headers of pages, footer. Its own 64 characters, in the footer's metadata, count as zeros.
Checksums of pages, which Parquet has, leave out headers and footer; a file beside this one would be lost in copying.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

SEAL = "seal"  # the name in the metadata
_MARK, _ZEROS = b"sealed by sha256:", b"0" * 64
UNSEALED = (_MARK + _ZEROS).decode()  # what stands in the metadata until the file is written
_PIECE = 2**20  # bytes that are held at a time


def seal(path: str | os.PathLike[str]) -> None:
    """Puts its seal into a Parquet file whose metadata hold `UNSEALED`."""
    with open(path, "r+b") as file:
        place = _place(file)
        assert place is not None, "the metadata hold no room for the seal"
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def is_sealed(file: Any) -> bool:
    """Whether a Parquet file holds a seal at all; False for what is no Parquet file."""
    return _place(file) is not None


def seal_holds(file: Any) -> bool:
    """Whether a sealed file has the bytes that were sealed.

    Args:
        file: an open file of Python's or Arrow's; where it stands afterwards is left open.
    """
    place = _place(file)
    if place is None:
        return False
    file.seek(place)
    return bool(file.read(len(_ZEROS)) == _digest(file, place))


def _place(file: Any) -> int | None:
    """Where the seal's characters begin."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(8)[:4], "little")  # of the footer, which ends before these eight bytes
    start = size - 8 - length
    if start < 0:
        return None
    file.seek(start)
    footer = file.read(length)
    place = footer.rfind(_MARK)
    return None if place < 0 or place + len(UNSEALED) > length else start + place + len(_MARK)


def _digest(file: Any, place: int) -> bytes:
    """sha256 in hex of the whole file, zeros in the seal's place."""
    digest = hashlib.sha256()
    file.seek(0)
    _add(digest, file, place)
    digest.update(_ZEROS)
    file.seek(place + len(_ZEROS))
    _add(digest, file, None)
    return digest.hexdigest().encode()


def _add(digest: Any, file: Any, length: int | None) -> None:
    """Adds so many bytes from where the file stands, or all that are left."""
    while length != 0 and (piece := file.read(_PIECE if length is None else min(_PIECE, length))):
        digest.update(piece)
        length = None if length is None else length - len(piece)
