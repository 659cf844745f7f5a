"""What `mrm.score` reads: the plain format (see `datamodules.sources.jsonl`), where a record may go without a preference.

To rank candidates (best of N) is to have responses and no pair yet: `{"prompt": ..., "responses": [...]}`, one or more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Counted, Skipped, get_field, parse_each
from datamodules.sources.jsonl import key_by, parse_record
from datamodules.sources.records import read_records
from mrm.errors import RecordError
from mrm.preference import Message, Pair, PreferenceSample


@dataclass(frozen=True)
class Candidates:
    """A prompt and responses to score. `pairs`: the preferences that the record gives; may be empty."""

    key: str
    prompt: tuple[Message, ...]
    images: tuple[bytes, ...]
    responses: tuple[str, ...]
    pairs: tuple[Pair, ...]


def read_candidates(path: Path) -> Iterator[Candidates | Skipped]:
    """The records of a .jsonl or .json file; one that breaks a rule comes out as `Skipped`.

    Raises:
        ConfigError: for a file that cannot be opened, or a JSON list that isn't valid JSON.
    """
    records = read_records(path)
    items = parse_each(records, key_by(path.stem), parse_candidates, source=path.stem, folder=path.parent)
    return Counted(items, length_hint(records))


def parse_candidates(record: dict[str, Any], **rest: Any) -> Candidates:
    """One record; `rest` as of `parse_record`, which it is read by.

    Raises:
        RecordError: for a record that breaks a rule.
    """
    if record.keys() & {"chosen", "rejected"} or record.get("pairs", []) != []:
        sample = parse_record(record, **rest)
        return _candidates(sample, sample.responses, sample.pairs)
    responses = get_field(record, "responses", list)
    if not responses:
        raise RecordError(
            "too few responses", f"record {rest['key']!r}: `responses` is empty; there is nothing to score."
        )
    # A sample has a preference: the record is checked as one whose first response beats a made-up one, not scored.
    made_up, pair = f"not {responses[0]}", {"chosen": 0, "rejected": len(responses)}
    sample = parse_record({**record, "responses": [*responses, made_up], "pairs": [pair]}, **rest)
    return _candidates(sample, sample.responses[:-1], ())


def _candidates(sample: PreferenceSample, responses: tuple[str, ...], pairs: tuple[Pair, ...]) -> Candidates:
    return Candidates(sample.key, sample.prompt, sample.images, responses, pairs)
