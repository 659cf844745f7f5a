"""JSON lists and JSON Lines, read a record at a time.

A JSON list is decoded as its text comes in, so that a file of any length needs the memory of its longest record.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from os import PathLike
from typing import Any, BinaryIO

from datamodules.sources.base import Counted, Records, Skipped
from datamodules.sources.location import Location, existing
from mrm.errors import ConfigError

BOM = b"\xef\xbb\xbf"  # written by some editors at the start of a file
BLOCK = 1 << 16  # bytes read at a time
SAMPLED = 1 << 20  # bytes of a longer file from which the number of records is estimated
MAX_RECORD = 1 << 27  # characters: a longer record is a file that is broken, such as a string that never ends
# How files begin that are no text, what they are, and what to do.
OTHER_FORMATS = (
    (b"PAR1", "a Parquet file", "give it the ending .parquet and a source that reads Parquet, or convert it"),
    (b"\x1f\x8b", "packed with gzip", "unpack it"),
    (b"PK\x03\x04", "a zip file", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it"),
    (b"\xfd7zXZ\0", "packed with xz", "unpack it"),
    (b"BZh", "packed with bzip2", "unpack it"),
)
SPACE = re.compile(r"[ \t\r\n]*")


def find_file(input: str | PathLike[str] | Location) -> Location:
    """The one .json or .jsonl file that `input` is or holds.

    Raises:
        ConfigError: where there is none, or several in the folder.
    """
    location = existing(input)
    if location.is_file():
        return location
    found = [c for c in location.children() if c.suffix in (".json", ".jsonl") and c.name != "dataset_info.json"]
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:10]) or "none"
        raise ConfigError(
            f"input: {location} must hold exactly one .json or .jsonl file, found {names}; name the file itself."
        )
    return found[0]


def find_named(input: str | PathLike[str] | Location, *names: str) -> Location:
    """The first of the named files in the folder `input`, or `input` itself where it is a file.

    Raises:
        ConfigError: where there is none; lists the names.
    """
    location = existing(input)
    if location.is_file():
        return location
    for name in names:
        if (location / name).is_file():
            return location / name
    raise ConfigError(f"input: {location} holds none of {', '.join(names)}; give the dataset's folder or the file.")


def read_records(input: str | PathLike[str] | Location) -> Records:
    """The objects of a JSON list or of a JSON Lines file, each with its place (`name:line` or `name[index]`).

    A broken line, or an entry that isn't an object, comes out as `Skipped`. The number of records is estimated from the
    beginning of a file that is longer than a megabyte.

    Raises:
        ConfigError: for a file that cannot be opened, or is packed or a Parquet file; while reading, for a JSON list that isn't valid JSON: what comes
            after the fault cannot be told apart.
    """
    path = Location.of(input)
    try:
        with path.open() as stream:
            sample = stream.read(SAMPLED)
            longer = len(sample) == SAMPLED and stream.read(1) != b""
            size = path.size() if longer else len(sample)
    except Exception as error:  # each file system has errors of its own
        raise ConfigError(f"input: {path} cannot be read: {error}.") from error
    for magic, found, mend in OTHER_FORMATS:
        if sample.startswith(magic):
            raise ConfigError(f"input: {path} is {found}, not a JSON list or JSON Lines; {mend}.")
    if sample.removeprefix(BOM).lstrip().startswith(b"["):
        total = _count_entries(sample)
        items = _list_records(path)
    else:
        total = sample.count(b"\n") + (not longer and not sample.endswith(b"\n") and sample.strip() != b"")
        items = _lines(path)
    return Counted(items, round(total * size / len(sample)) if longer else total)


def read_lines(stream: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    """The objects of JSON Lines from an open file, each with its place."""
    for number, line in enumerate(_split(stream, name), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            yield place, as_record(place, json.loads(line.decode("utf-8-sig")))
        except (ValueError, RecursionError) as error:
            yield place, Skipped(place, "not JSON", f"{place}: not a line of JSON: {error}.")


def _split(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a stream, of which only `read` is used: remote files know little more.

    Raises:
        ConfigError: for a line without an end.
    """
    parts: list[bytes] = []
    length = 0
    while block := stream.read(BLOCK):
        head, *others = block.split(b"\n")
        parts.append(head)
        length += len(head)
        for begun in others:
            yield b"".join(parts)
            parts, length = [begun], len(begun)
        if length > MAX_RECORD:
            raise ConfigError(f"input: {name} has a line longer than {MAX_RECORD} bytes; it is no JSON Lines file.")
    yield b"".join(parts)


def as_record(place: str, entry: object) -> dict[str, Any] | Skipped:
    """The entry if it is an object."""
    if isinstance(entry, dict):
        return entry
    return Skipped(place, "not a record", f"{place}: {type(entry).__name__} instead of a JSON object.")


def _lines(path: Location) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    with path.open() as stream:
        yield from read_lines(stream, path.name)


def _list_records(path: Location) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    number = 0
    with path.open() as stream:
        try:
            for entry in _list_entries(iter(lambda: stream.read(BLOCK), b"")):
                place = f"{path.name}[{number}]"
                yield place, as_record(place, entry)
                number += 1
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", error)  # without the position, which is one in a part of the text
            raise ConfigError(
                f"input: {path} is not a valid JSON list: {problem}, after {number} entries; fetch or write the file again."
            ) from error


class _Text:
    """The undecoded rest of a list: what was read and not used, and more on demand."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text = ""
        self.at = 0
        self.ended = False

    def more(self) -> bool:
        """Reads about as much again as is unused, so that a long record is not tried at every block."""
        if self.ended:
            return False
        self.text, self.at = self.text[self.at :], 0
        wanted = len(self.text) + 1
        parts: list[str] = []
        while wanted > 0 and not self.ended:
            block = next(self._blocks, b"")
            self.ended = not block
            parts.append(self._decoder.decode(block, final=self.ended))
            wanted -= len(parts[-1])
        self.text += "".join(parts)
        return True

    def next_character(self) -> str:
        """The next one that isn't white space, without using it up; empty at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""


def _list_entries(blocks: Iterator[bytes]) -> Iterator[Any]:
    """The entries of a list.

    Raises:
        ValueError, RecursionError: where the text ends early or breaks the grammar.
    """
    text = _Text(blocks)
    text.next_character()
    text.at += 1  # the caller has seen that it is a bracket
    if text.next_character() == "]":
        text.at += 1
    else:
        yield from _entries_until_bracket(text)
    if rest := text.next_character():
        raise ValueError(f"there is {rest!r} after its end")


def _count_entries(sample: bytes) -> int:
    """How many whole entries the beginning of a list holds."""
    count = 0
    try:
        for _ in _list_entries(iter([sample])):
            count += 1
    except (ValueError, RecursionError):  # the sample ends somewhere; faults are told when they are read
        pass
    return count


def _entries_until_bracket(text: _Text) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    while True:
        text.next_character()
        try:
            entry, end = decode(text.text, text.at)
            after = SPACE.match(text.text, end).end()  # type: ignore[union-attr]
            if after == len(text.text) or text.text[after] not in ",]":  # a number may go on in the next block
                raise json.JSONDecodeError("',' or ']' expected", text.text, after)
        except json.JSONDecodeError:
            if len(text.text) - text.at > MAX_RECORD:
                raise ValueError(f"an entry longer than {MAX_RECORD} characters") from None
            if not text.more():
                raise
            continue
        text.at = after + 1
        yield entry
        if text.text[after] == "]":
            return
