"""Images in zip files, read where they lie: one file, or the parts of one that was published in pieces.

A zip's list of members is read once; after that each image is one read at its place. Nothing is unpacked.
"""

from __future__ import annotations

import bisect
import functools
import io
import itertools
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from datamodules.sources.location import Location
from mrm.errors import ConfigError, RecordError
from mrm.images import UNDECODABLE

MAX_FILE_BYTES = 1 << 28  # of an image as stored; what a zip holds may be much larger than the zip
PART = re.compile(r"(?P<whole>.+\.zip)(?:[._-](?:part[._-]?)?(?P<part>[a-z]{1,3}|\d{1,4}))?", re.IGNORECASE)
OTHERS = re.compile(r"^__MACOSX/|(^|/)(\._[^/]*|\.DS_Store)$")  # what macOS puts beside what was packed


class JoinedFile(io.RawIOBase):
    """Several files read as one, in order."""

    def __init__(self, parts: Sequence[Location]) -> None:
        self._files: list[BinaryIO] = [part.open() for part in parts]
        self._ends = list(itertools.accumulate(part.size() for part in parts))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        if start + offset < 0:
            raise OSError("seek before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        number = bisect.bisect_right(self._ends, self._at)
        if number == len(self._files):
            return 0
        start = self._ends[number - 1] if number else 0
        self._files[number].seek(self._at - start)
        data = self._files[number].read(min(len(buffer), self._ends[number] - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


class ZipImages:
    """The members of one zip file.

    Args:
        parts: the file, or its pieces in order.
        name: its name without the ending of a piece, such as `images.zip`.

    Raises:
        ConfigError: where the file is cut off or no zip file.
    """

    def __init__(self, parts: Sequence[Location], name: str) -> None:
        self.name = name
        try:
            raw = parts[0].open() if len(parts) == 1 else io.BufferedReader(JoinedFile(parts))
            self._zip = zipfile.ZipFile(raw)
        except Exception as error:  # BadZipFile, a remote file's own, or that of a server that only sends whole files
            shown = f"{parts[0]}{f' and {len(parts) - 1} more parts' if len(parts) > 1 else ''}"
            mend = "fetch it again" if len(parts) == 1 else "see that all parts are there, or fetch them again"
            raise ConfigError(f"input: {shown} is no whole zip file: {error}; {mend}.") from error
        self._members = {name: info for name, info in self._zip.NameToInfo.items() if not OTHERS.search(name)}
        top = next(iter(self._members), "").partition("/")[0]
        self._top = top if all(name.startswith(f"{top}/") for name in self._members) else None
        self._own = re.sub(r"\.zip$", "", name, flags=re.IGNORECASE)

    def find(self, path: str) -> str | None:
        """The member that a path means: of that name, in the one folder that holds everything, or without the zip's own name."""
        return next((name for name in self._meanings(path) if name in self._members and not name.endswith("/")), None)

    def within(self, folder: str) -> list[str]:
        """The members directly in the folder that a path means."""
        return next((self._folders[name] for name in self._meanings(folder) if name in self._folders), [])

    def names(self) -> Iterable[str]:
        """All members' names."""
        return self._members.keys()

    def _meanings(self, path: str) -> list[str]:
        own, _, inside = path.partition("/")
        return [path, *([f"{self._top}/{path}"] if self._top else []), *([inside] if own == self._own else [])]

    @functools.cached_property
    def _folders(self) -> dict[str, list[str]]:
        folders: dict[str, list[str]] = {}
        for name in self._members:
            if not name.endswith("/"):
                folders.setdefault(name.rpartition("/")[0], []).append(name)
        return folders

    def open(self, name: str) -> BinaryIO:
        """A member as a stream."""
        return self._zip.open(name)  # type: ignore[return-value]

    def read(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            RecordError: where it is too large, damaged, encrypted or packed in a way that Python does not know.
        """
        member = self._members[name]
        if member.file_size > MAX_FILE_BYTES:
            raise RecordError(
                "image too large",
                f"{self.name}: member {name!r} is {member.file_size} bytes, {MAX_FILE_BYTES} are allowed.",
            )
        try:
            return self._zip.read(member)
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError for a password, a remote file's own
            raise RecordError(
                UNDECODABLE, f"{self.name}: member {name!r} cannot be read: {error}; fetch it again."
            ) from error


def find_zips(files: Iterable[Location]) -> list[tuple[str, list[Location]]]:
    """The zip files among some files, by name: each with its parts in order, or whole where both are there.

    Raises:
        ConfigError: where the first part, or one in the middle, is missing.
    """
    groups: dict[str, dict[str, Location]] = {}
    for file in files:
        if match := PART.fullmatch(file.name):
            groups.setdefault(match["whole"], {})[match["part"] or ""] = file
    found = []
    for name, parts in sorted(groups.items()):
        if "" in parts:
            found.append((name, [parts[""]]))
            continue
        order = sorted(parts, key=_ordinal)
        gaps = [after for before, after in itertools.pairwise(order) if _ordinal(after) != _ordinal(before) + 1]
        if gaps or _ordinal(order[0]) > (1 if order[0].isdigit() else 0):  # numbers begin at 0 or 1, letters at a
            raise ConfigError(
                f"input: the part before {parts[(gaps or order)[0]]} is missing; fetch all parts of {name}."
            )
        found.append((name, [parts[part] for part in order]))
    return found


def _ordinal(part: str) -> int:
    """aa, ab, ..., ba or 00, 01, ...: the number of a part."""
    if part.isdigit():
        return int(part)
    value = 0
    for letter in part.lower():
        value = value * 26 + ord(letter) - ord("a")
    return value
