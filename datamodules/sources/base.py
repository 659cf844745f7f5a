"""What every reader shares: the protocol, skipped records, and checks of fields.

A source is a function `read(input, *, option=default, ...)` that returns an iterator. Its keyword-only parameters,
with their types and defaults, are the options that `datamodules.prepare` accepts; a source without input gives
`input` the default None. It yields, for each published record, one or more of
- `PreferenceSample`, written as it is,
- `T2IPreference`, for which `prepare` picks the side and writes the reformulated sample,
- `Skipped`, counted and named.
Images are handed on as published bytes; `prepare` checks that they decode.
Beside `read` a module has a `CARD`, which the list of sources shows. `records.py` and `tables.py` read JSON and Parquet,
`images.py` finds the images; all of them stream, so that no dataset needs to fit into memory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from mrm.construction.reformulation import T2IPreference
from mrm.errors import RecordError
from mrm.preference import PreferenceSample, make_key

IMAGE_MISSING = "image missing"
DAMAGED = "damaged file"
TIE = "tie"


@dataclass(frozen=True)
class Card:
    """What a person should know about a source before using it.

    Args:
        home: hub id or address.
        licence: as its card says; "not stated" where it does not.
        size: how much there is.
        kind: "image-text" or "text-to-image".
        strength: what it means here; "none" where the dataset has no grades.
    """

    home: str
    licence: str
    size: str
    kind: str
    strength: str = "none"


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
    """Items whose number is known or estimated beforehand, for progress bars (`operator.length_hint`)."""

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

    def parse_one(record: dict[str, Any], **named: Any) -> Iterator[T]:
        yield parse(record, **named)

    return parse_many(records, key_of, parse_one, **rest)


def parse_many(
    records: Records,
    key_of: Callable[[int, dict[str, Any]], Any],
    parse: Callable[..., Iterable[T]],
    **rest: Any,
) -> Iterator[T | Skipped]:
    """The same for a `parse` that makes several items of a record; an error ends that record, not the next."""
    for number, (place, record) in enumerate(records):
        if isinstance(record, Skipped):
            yield record
            continue
        key = key_of(number, record)
        try:
            yield from parse(record, key=key, **rest)
        except RecordError as error:
            named = "" if repr(key) in str(error) else f"record {key!r}: "
            yield Skipped(str(key), error.reason, f"{place}: {named}{error}")


def safe_key(name: str, identity: object) -> str:
    """A valid key for a published identity. Where characters had to go, a hash keeps different ones apart."""
    plain = f"{name}-{identity}"
    key = make_key(plain)
    if key == plain:
        return key
    return f"{key[:190]}-{hashlib.sha256(plain.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def numbered_key(name: str, *fields: str) -> Callable[[int, dict[str, Any]], str]:
    """Keys of a name, a record's number and the first of the fields that it has; ids alone repeat in many sets."""

    def key_of(number: int, record: dict[str, Any]) -> str:
        found = (record.get(field) for field in fields)
        identity = next((str(value) for value in found if isinstance(value, (str, int)) and value != ""), None)
        return safe_key(name, f"{number:07d}" if identity is None else f"{number:07d}-{identity}")

    return key_of


def surprise(name: str, found: object, wanted: str) -> RecordError:
    """The error for a field whose content isn't what is known of the dataset."""
    text = repr(found)
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return RecordError("malformed field", f"field {name!r} is {type(found).__name__} {shown}, it must be {wanted}.")


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
        raise surprise(name, value, " or ".join(k.__name__ for k in kinds))
    return value


def get_json(record: dict[str, Any], name: str, kind: type) -> Any:
    """A required field that holds an object or a list as a string of JSON.

    Raises:
        RecordError: where it is missing or holds anything else.
    """
    text = get_field(record, name, str)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("malformed field", f"field {name!r} is no JSON: {error}.") from error
    if not isinstance(value, kind):
        raise surprise(name, value, f"the JSON of a {kind.__name__}")
    return value


def get_number(record: dict[str, Any], name: str, low: float, high: float) -> float:
    """A required number in [low, high]; a boolean isn't one.

    Raises:
        RecordError: where it is missing, no number or out of range.
    """
    value = get_field(record, name, (int, float))
    if isinstance(value, bool) or not low <= value <= high:  # NaN is not; an int may be too large for math.isfinite
        raise surprise(name, value, f"a number from {low:g} to {high:g}")
    return float(value)


def get_numbers(record: dict[str, Any], name: str, low: float, high: float) -> list[float]:
    """A required list of at least one number, each in [low, high].

    Raises:
        RecordError: where it is missing, no such list, or a number is out of range.
    """
    values = get_field(record, name, list)
    if not values:
        raise surprise(name, values, "a list of at least one number")
    return [get_number({f"{name}[{i}]": value}, f"{name}[{i}]", low, high) for i, value in enumerate(values)]


def all_pairs(n: int) -> Iterator[tuple[int, int]]:
    """Every pair of n things, (0, 1) first."""
    return itertools.combinations(range(n), 2)
