"""What every reader shares: the protocol, skipped records, and reading JSON records and image files.

A source is a function `read(input, *, option=default, ...)` that returns an iterator. Its keyword-only parameters,
with their types and defaults, are the options that `datamodules.prepare` accepts; a source without input gives
`input` the default None. It yields, for each published record, one of
- `PreferenceSample`, written as it is,
- `T2IPreference`, for which `prepare` picks the side and writes the reformulated sample,
- `Skipped`, counted and named.
Images are handed on as published bytes; `prepare` checks that they decode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample, make_key

IMAGE_MISSING = "image missing"
BOM = b"\xef\xbb\xbf"  # written by some editors at the start of a file


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that cannot be used: its name, a short reason fit for counting, and the full explanation."""

    key: str
    reason: str
    detail: str


Item = PreferenceSample | T2IPreference | Skipped
T = TypeVar("T")


Source = Callable[..., Iterator[Item]]  # read(input, *, options), as described above


class Counted(Iterator[T]):
    """Items whose number is known beforehand, for progress bars (`operator.length_hint`)."""

    def __init__(self, items: Iterable[T], total: int) -> None:
        self._items = iter(items)
        self._left = total

    def __next__(self) -> T:
        item = next(self._items)
        self._left -= 1
        return item

    def __length_hint__(self) -> int:
        return max(self._left, 0)


Records = Counted[tuple[str, dict[str, Any] | Skipped]]  # each with its place in the file


def parse_each(
    records: Records, key_of: Callable[[int, dict[str, Any]], Any], parse: Callable[..., T], **rest: Any
) -> Iterator[T | Skipped]:
    """What `parse(record, key=..., **rest)` makes of each record, or a `Skipped` that tells its place and what is wrong.

    Args:
        records: those of one file.
        key_of: a record's key, by its number and itself.
        parse: raises RecordError where a record breaks a rule.
        rest: handed to `parse`.
    """
    for number, (place, record) in enumerate(records):
        if isinstance(record, Skipped):
            yield record
            continue
        key = key_of(number, record)
        try:
            yield parse(record, key=key, **rest)
        except RecordError as error:
            yield Skipped(str(key), error.reason, f"{place}: {error}")


def safe_key(name: str, identity: object) -> str:
    """A valid key for a published identity. Where characters had to go, a hash keeps different ones apart."""
    plain = f"{name}-{identity}"
    key = make_key(plain)
    if key == plain:
        return key
    return f"{key[:190]}-{hashlib.sha256(plain.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def get_field(record: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A required field of a record.

    Raises:
        RecordError: where it is missing or not of that kind.
    """
    if name not in record:
        raise RecordError("missing field", f"no field {name!r}; the record has {sorted(map(str, record))}.")
    value = record[name]
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(k.__name__ for k in kinds)
        raise RecordError("malformed field", f"field {name!r} is {type(value).__name__}, it must be {wanted}.")
    return value


def read_image(path: object, folder: Path) -> bytes:
    """The bytes of an image file; `path` is relative to `folder` or absolute.

    Raises:
        RecordError: where there is no such file, or the path isn't one.
    """
    if not isinstance(path, str) or not path:
        raise RecordError("malformed field", f"an image must be given as a path, found {path!r}.")
    if "://" in path or path.startswith("data:"):
        raise RecordError("remote image", f"image {path[:80]!r} is an address; download it and give a local path.")
    file = folder / path
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise RecordError(IMAGE_MISSING, f"image {path!r}: there is no file {file}.") from error
    except (OSError, ValueError) as error:  # a folder, no permission, a null character in the name
        raise RecordError(IMAGE_MISSING, f"image {path!r}: {file} cannot be read: {error}.") from error


def find_file(input: Path) -> Path:
    """The one .json or .jsonl file that `input` is or holds.

    Raises:
        ConfigError: where there is none, or several in the folder.
    """
    if input.is_file():
        return input
    if not input.is_dir():
        raise ConfigError(f"input: there is no file or folder {input}.")
    found = sorted(p for p in input.iterdir() if p.suffix in (".json", ".jsonl") and p.name != "dataset_info.json")
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:10]) or "none"
        raise ConfigError(
            f"input: {input} must hold exactly one .json or .jsonl file, found {names}; name the file itself."
        )
    return found[0]


def read_records(path: Path) -> Records:
    """The objects of a JSON list or of a JSON Lines file, each with its place (`name:line` or `name[index]`).

    A broken line, or an entry that isn't an object, comes out as `Skipped`.

    Raises:
        ConfigError: for a file that cannot be opened, or a JSON list that isn't valid JSON.
    """
    try:
        with path.open("rb") as stream:
            is_list = stream.read(4096).removeprefix(BOM).lstrip().startswith(b"[")
            if not is_list:
                stream.seek(0)
                total = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b"")) + 1
                return Counted(_lines(path), total)
        entries = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"input: {path} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"input: {path} is not a valid JSON list: {error}; write the file again.") from error
    places = (f"{path.name}[{number}]" for number in range(len(entries)))
    return Counted(
        ((place, _as_record(place, entry)) for place, entry in zip(places, entries, strict=True)), len(entries)
    )


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{path.name}:{number}"
            try:
                yield place, _as_record(place, json.loads(line.decode("utf-8-sig")))
            except (ValueError, RecursionError) as error:
                yield place, Skipped(place, "not JSON", f"{place}: not a line of JSON: {error}.")


def _as_record(place: str, entry: object) -> dict[str, Any] | Skipped:
    if isinstance(entry, dict):
        return entry
    return Skipped(place, "not a record", f"{place}: {type(entry).__name__} instead of a JSON object.")
