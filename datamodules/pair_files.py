"""A pool of pairs in one file of LLaMA-Factory's ranking format: named, read for scoring, and written back as it was.

A record is a pair, and keeps its number and all its columns, those that nobody here knows too: curation only lets chosen and
rejected change places, or leaves the record out. Images are read for scoring and for shards alone. A record that cannot be a
pair keeps its place and is named.

Dimension letters: P records, each of them a pair and a sample of two responses.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datamodules.distinct import DistinctBuilder, DistinctResponses, prompt_digest
from datamodules.ledger import Array, Ledger
from datamodules.loader import SampleEncoder
from datamodules.sources.base import Skipped, safe_key
from datamodules.sources.images import safe_path
from datamodules.sources.llama_factory import COLUMNS, parse_record
from datamodules.sources.location import Location
from datamodules.sources.records import find_file, read_records
from datamodules.texts import Texts
from mrm.errors import ConfigError, RecordError
from mrm.model.packing import NO_EDGES, RewardBatch, Unreadable, check_fits, collate
from mrm.preference import PreferenceSample

PROMPTS = ("conversations", "messages", "instruction")  # a record has one of them
_KNOWN = frozenset(COLUMNS)
_BLOCK = 1 << 20
_HERE = re.compile(r"/(?:\.?/)+")  # parts of a path that lead nowhere; `..` may follow a link and stays
Record = dict[str, Any]


class PairFile:
    """The pairs of a file.

    Args:
        input: a .json or .jsonl file, or a folder that holds exactly one; a path or a URL.
        media_dir: where relative image paths start; the file's own folder by default.

    Attributes:
        place: the file.
        name: `source` of its pairs and beginning of their keys.
        keys: Texts [P], unique: of the records' `id` or number, and of both where an `id` stands twice.
        problems: key -> why the record is no pair.
        doubles: records whose `id` stood before.
        unknown_columns: column -> records, of columns that are kept and not read.
        fingerprint: digest of the file's bytes.

    Raises:
        ConfigError: for a file that cannot be read, is no list of records, or holds none.
    """

    form = "llama_factory"

    def __init__(self, input: str | os.PathLike[str], *, media_dir: str | None = None) -> None:
        self.place = find_file(os.fspath(input))
        self.folder = self.place.parent if media_dir is None else Location.of(media_dir)
        if media_dir is not None and not self.folder.is_dir():
            raise ConfigError(f"media_dir: there is no folder {self.folder}.")
        self.name = self.place.stem
        self.problems: dict[str, str] = {}
        self.unknown_columns: Counter[str] = Counter()
        self.doubles = 0
        self.fingerprint = _digest(self.place)
        self.keys = Texts.of(list(self._names()))
        if not len(self.keys):
            raise ConfigError(f"input: {self.place} holds no record.")

    def _names(self) -> Iterator[str]:
        seen: set[str] = set()
        for number, (place, record) in enumerate(read_records(self.place)):
            problem = record.detail if isinstance(record, Skipped) else problem_of(record, place)
            found = None if isinstance(record, Skipped) else record.get("id")
            key = safe_key(self.name, found if isinstance(found, (str, int)) else f"{number:07d}")
            if key in seen:
                self.doubles += 1
                key = safe_key(self.name, f"{number:07d}-{found}")
            seen.add(key)
            if problem is not None:
                self.problems[key] = problem
            elif not isinstance(record, Skipped) and (unknown := record.keys() - _KNOWN):
                self.unknown_columns.update(unknown)
            yield key

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_pairs(self) -> int:
        return len(self.keys)

    @property
    def pair_start(self) -> Array:
        return np.arange(len(self) + 1)

    @property
    def pair_sample(self) -> Array:
        return np.arange(len(self))

    @property
    def pair_chosen(self) -> Array:
        return np.zeros(len(self), np.int16)

    @property
    def pair_rejected(self) -> Array:
        return np.ones(len(self), np.int16)

    @property
    def n_responses(self) -> Array:
        return np.full(len(self), 2)

    def opening_ledger(self) -> Ledger:
        """Round 0: all pairs wait; the format has no strength."""
        pairs = len(self)
        return Ledger.opening(
            self.keys,
            np.zeros(pairs, np.int16),
            np.full(pairs, self.name, object),
            np.full(pairs, np.nan, np.float32),
            trusted=np.zeros(pairs, bool),
            admit_open=False,
            index_fingerprint=self.fingerprint,
        )

    def records(self, wanted: Array) -> Iterator[tuple[int, str, Record]]:
        """(number, place, record) of the wanted records, in order.

        Args:
            wanted: bool [P].

        Raises:
            ConfigError: where the file is not what it was when it was opened.
        """
        number = -1
        for number, (place, record) in enumerate(read_records(self.place)):
            if number >= len(self):
                break
            if wanted[number] and not isinstance(record, Skipped):
                yield number, place, record
        if number + 1 != len(self):
            raise ConfigError(f"input: {self.place} had {len(self)} records, and has others now; start again.")

    def samples(self, wanted: Array) -> Iterator[tuple[int, PreferenceSample | RecordError]]:
        """The wanted records as samples, images read; an error where one cannot be."""
        for number, _, record in self.records(wanted):
            try:
                yield number, sample_of(record, key=self.keys[number], source=self.name, folder=self.folder)
            except RecordError as error:
                yield number, error

    def texts(self, wanted: Array) -> Iterator[tuple[int, PreferenceSample | RecordError]]:
        """As `samples`, but no image is read, and each is no bytes: one that is missing or broken is no error."""
        for number, _, record in self.records(wanted):
            try:
                plain = _with_images(record, lambda _: b"")
                yield number, sample_of(plain, key=self.keys[number], source=self.name, folder=self.folder)
            except RecordError as error:
                yield number, error

    def distinct(self, wanted: Array) -> DistinctResponses:
        """What of the wanted bool [P] records has to be scored; response k of record i has number 2 i + k.

        Images are the same where their paths lead to one place; none is read. What cannot be a sample is taken to be like no
        other, and named when it is scored.
        """
        found = DistinctBuilder()
        for number, _, record in self.records(wanted):
            try:
                plain = _with_images(record, lambda image: _image_place(image, self.folder))
                sample = sample_of(plain, key=self.keys[number], source=self.name, folder=self.folder)
            except RecordError:
                found.alone(number)
            else:
                prompt = prompt_digest(sample.images, ((turn.role, turn.content) for turn in sample.prompt))
                found.add(number, 2 * number, prompt, sample.responses)
        return found.build()

    def feed(
        self, rows: Array, responses: Mapping[int, tuple[int, ...]], batch_size: int, max_pixels: int
    ) -> Iterator[tuple[Array, Any]]:
        """(numbers, work) of each batch to score, in the file's order; the work is `dataset`'s.

        Args:
            rows: int64 [n], records to score. responses: row -> which of 0 and 1 to score, where not both are.
            batch_size: records at a time. max_pixels: has no say here.
        """
        wanted = np.zeros(len(self), bool)
        wanted[rows] = True
        records = self.records(wanted)
        while some := list(islice(records, batch_size)):
            numbers = np.array([number for number, _, _ in some])
            yield (
                numbers,
                tuple((self.keys[number], place, record, responses.get(number)) for number, place, record in some),
            )

    def dataset(self, encoder: SampleEncoder, row_tokens: int | None, layout: str) -> Dataset[RewardBatch]:
        return _RecordDataset(self, encoder, row_tokens, layout)


class _RecordDataset(Dataset[RewardBatch]):
    """Packed batches of records; what cannot be read or fits no row is named in the batch, not raised."""

    def __init__(self, pairs: PairFile, encoder: SampleEncoder, row_tokens: int | None, layout: str) -> None:
        self._source, self._folder = pairs.name, pairs.folder
        self._encoder, self._row_tokens, self._layout = encoder, row_tokens, layout

    def __getitem__(self, work: tuple[tuple[str, str, Record, tuple[int, ...] | None], ...]) -> RewardBatch:
        items = []
        for key, place, record, responses in work:
            try:
                sample = sample_of(record, key=key, source=self._source, folder=self._folder)
                encoded = self._encoder.encode(sample)
                if responses is not None:
                    encoded = encoded.with_responses(responses)
                check_fits(encoded, self._row_tokens, self._layout)
                items.append((encoded, NO_EDGES))
            except RecordError as error:
                items.append(Unreadable(key, place, str(error), self._source))
        return collate(items, row_tokens=self._row_tokens, pad_id=self._encoder.pad_id, layout=self._layout)


def problem_of(record: Mapping[str, Any], place: str) -> str | None:
    """Why a record is no pair at all; None where it may be one. Whether it can be scored is for `sample_of` to say."""
    for name in ("chosen", "rejected"):
        if not isinstance(record.get(name), (str, dict)):
            found = f"is {type(record[name]).__name__}" if name in record else "is missing"
            return f"{place}: `{name}` {found}, it must be a message or a text."
    if not any(name in record for name in PROMPTS):
        return f"{place}: neither {', '.join(PROMPTS)}; the record has {sorted(map(str, record))}."
    return None


def sample_of(record: Record, *, key: str, source: str, folder: Location | Path) -> PreferenceSample:
    """A record as a sample of two responses, by the columns that the format knows.

    Raises:
        RecordError: see `sources.llama_factory.parse_record`.
    """
    known = {name: value for name, value in record.items() if name in _KNOWN}
    return parse_record(known, key=key, source=source, folder=folder)


def _with_images(record: Record, change: Callable[[Any], Any]) -> Record:
    """The record with something else for each of its images."""
    images = record.get("images") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list):  # refused with its message when it is parsed
        return record
    return {**record, "images": [change(image) for image in images]}


def _image_place(image: Any, folder: Location) -> Any:
    """Where an image's path leads, as bytes: what tells images apart without reading them.

    What is no path stays, for the reader to take or refuse.

    Raises:
        RecordError: for a path that a remote folder's record may not have.
    """
    if not isinstance(image, str) or not image or "://" in image or image.startswith("data:"):
        return image
    path = image if folder.is_local else safe_path(image)
    return _HERE.sub("/", os.path.join(folder.path, path)).encode("utf-8", "surrogatepass")


def swapped(record: Record) -> Record:
    """The record with chosen and rejected in each other's place; columns and their order stay."""
    return {**record, "chosen": record["rejected"], "rejected": record["chosen"]}


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Writes a JSON list, a record a line; gives their number."""
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(b",\n" if count else b"[\n")
            file.write(_json(record))
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
        file.flush()
        os.fsync(file.fileno())
    return count


def _json(record: Record) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(record).encode()


def _digest(place: Location) -> str:
    digest = hashlib.sha256()
    try:
        with place.open() as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except Exception as error:  # each file system has errors of its own
        raise ConfigError(f"input: {place} cannot be read: {error}.") from error
    return digest.hexdigest()
