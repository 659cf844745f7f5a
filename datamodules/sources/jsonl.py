"""This project's own plain format, for people with their own data: JSON Lines (or one JSON list).

The short form, a pair:

    {"prompt": "<image>What is it?", "images": ["cat.jpg"], "chosen": "A cat.", "rejected": "A dog.", "strength": 0.6}

The full form, K responses and the preferences among them, by number:

    {"key": "q-17", "source": "mine", "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<image>What is it?"}],
     "images": ["cat.jpg"], "responses": ["A cat.", "A dog.", "An animal."],
     "pairs": [{"chosen": 0, "rejected": 1, "strength": 0.9}, {"chosen": 0, "rejected": 2}], "meta": {"annotator": 3}}

- `prompt`: a string (one user turn) or messages that end in a user turn. `<image>` marks each image's place; the count must match.
- `images`: paths relative to the file, or absolute; may be left out for text-only preferences.
- `strength`: in [0, 1]; left out or null where unknown.
- `key`: unique, of [A-Za-z0-9_-]; made from the file's name and the record's place where it is left out.
- `source`: the file's name where it is left out. `meta`: anything; never read by training.
Any other field is an error, so that a misspelt one is not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import (
    Card,
    Counted,
    Item,
    get_field,
    parse_each,
)
from datamodules.sources.images import read_image
from datamodules.sources.location import Location
from datamodules.sources.records import find_file, read_records
from mrm.errors import RecordError
from mrm.preference import PreferenceSample, make_key

CARD = Card("one's own files, the plain format", "one's own", "any", "image-text", "as given, in [0, 1]")
SHARED_FIELDS = {"key", "source", "prompt", "images", "meta"}
SHORT_FIELDS = SHARED_FIELDS | {"chosen", "rejected", "strength"}
FULL_FIELDS = SHARED_FIELDS | {"responses", "pairs"}


def read(input: str | Path, *, name: str | None = None) -> Iterator[Item]:
    """Reads a file of this project's plain format.

    Args:
        input: a .jsonl or .json file, or a folder that holds exactly one.
        name: `source` of records that give none; the file's name without its ending by default.
    """
    path = find_file(input)
    records = read_records(path)
    name = name or path.stem
    items = parse_each(records, key_by(name), parse_record, source=name, folder=path.parent)
    return Counted(items, length_hint(records))


def key_by(name: str) -> Callable[[int, dict[str, Any]], Any]:
    """How a record gets its key: its own, or one of the name and its number in the file."""
    return lambda number, record: record.get("key", make_key(name, f"{number:07d}"))


def parse_record(record: dict[str, Any], *, key: str, source: str, folder: Location | Path) -> PreferenceSample:
    """One record of either form as a sample.

    Args:
        record: the JSON object.
        key: its key where it gives none.
        source: its source where it gives none.
        folder: where relative image paths start.

    Raises:
        RecordError: for an unknown field, a missing one, or a broken rule of the record.
    """
    short = "chosen" in record or "rejected" in record
    known = SHORT_FIELDS if short else FULL_FIELDS
    unknown = sorted(set(record) - known)
    if unknown:
        raise RecordError(
            "unknown field",
            f"record {key!r}: unknown field {', '.join(unknown)}; allowed are {', '.join(sorted(known))}.",
        )
    prompt = get_field(record, "prompt", (str, list))
    images = get_field(record, "images", list) if record.get("images") is not None else []
    return PreferenceSample.from_json(
        {
            "key": record.get("key", key),
            "source": record.get("source", source),
            "prompt": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt,
            "responses": [get_field(record, "chosen", str), get_field(record, "rejected", str)]
            if short
            else get_field(record, "responses", list),
            "pairs": [{"chosen": 0, "rejected": 1, "strength": record.get("strength")}]
            if short
            else get_field(record, "pairs", list),
            "meta": record.get("meta"),
        },
        [read_image(image, folder) for image in images],
    )
