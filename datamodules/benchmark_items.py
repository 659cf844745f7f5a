"""Items of benchmark files, to keep training data clear of their questions and images.

Read are JSON lists, JSON Lines and Parquet files, folders of them with image files, and folders of shards; a JSON file that is
one object (`{"pairs": [...]}`, `{"1": {...}, "2": {...}}`) holds the objects within it. `benchmark_fields` says what of a record is a
question or an image. How many records of a file hold no question, or no image, is warned of.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.benchmark_fields import (
    IMAGE_ENDINGS,
    QUESTION_FIELDS,
    Place,
    images_in,
    objects_in,
    questions_in,
    records_within,
)
from datamodules.index import INDEX_NAME, Index
from datamodules.shards import read_sample
from datamodules.sources.base import Skipped
from datamodules.sources.records import BOM, read_records
from mrm.errors import ConfigError
from mrm.preference import PreferenceSample

FILE_ENDINGS = (".json", ".jsonl", ".parquet")
ID_FIELDS = ("id", "ID", "pair_id", "idx", "key")
_PEEKED = 400  # bytes of a file that tell whether it begins with an object

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkItem:
    """One item of a benchmark.

    Args:
        name: file, place and id.
        file: what it stands in.
        questions: its texts as published.
        images: encoded bytes.
        image_names: what tells its images apart from other items': digests, or paths where the images are missing.
        missing: images that it names and that are not there.
    """

    name: str
    file: str
    questions: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    image_names: tuple[str, ...] = ()
    missing: int = 0


def read_benchmark(path: Path) -> Iterator[BenchmarkItem]:
    """Every item of a benchmark's file or folder.

    Raises:
        ConfigError: where there is nothing, a file cannot be read whole (what is not read would be trained on), or one
            holds neither questions nor images.
    """
    if path.is_file():
        yield from _read_file(path, set())
    elif (path / INDEX_NAME).is_file():
        yield from _read_shards(path)
    elif path.is_dir():
        yield from _read_folder(path)
    else:
        raise ConfigError(f"decontaminate: there is no file or folder {path}.")


def questions_of(sample: PreferenceSample) -> tuple[str, ...]:
    """What a sample asks: every turn of the user and, of a text-to-image pair, the caption."""
    caption = sample.meta.get("caption")
    turns = [message.content for message in sample.prompt if message.role == "user"]
    return (*turns, caption) if isinstance(caption, str) else tuple(turns)


def _read_folder(folder: Path) -> Iterator[BenchmarkItem]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    records = [p for p in files if p.suffix.lower() in FILE_ENDINGS]
    images = [p for p in files if p.suffix.lower() in IMAGE_ENDINGS]
    if not records and not images:
        raise ConfigError(f"decontaminate: {folder} holds no {', '.join(FILE_ENDINGS)} file, no image and no shards.")
    seen: set[Path] = set()
    for file in records:
        yield from _read_file(file, seen)
    for file in images:
        if file.resolve() not in seen:
            yield BenchmarkItem(str(file.relative_to(folder.parent)), str(file), images=(file.read_bytes(),))


def _read_shards(folder: Path) -> Iterator[BenchmarkItem]:
    index = Index.load(folder)
    for row in range(len(index)):
        sample = read_sample(index, row)
        which = slice(index.image_start[row], index.image_start[row + 1])
        names = tuple(f"{value:016x}" for value in index.image_digest[which].tolist())
        yield BenchmarkItem(f"{folder.name}/{sample.key}", str(folder), questions_of(sample), sample.images, names)


def _read_file(path: Path, seen: set[Path]) -> Iterator[BenchmarkItem]:
    records = _parquet_records(path) if path.suffix.lower() == ".parquet" else _json_records(path)
    number = without_question = without_image = 0
    fields: set[str] = set()
    for place, record in records:
        for inner_place, inner in records_within(place, record):
            item = _item(path, inner_place, inner, seen)
            number += 1
            without_question += not item.questions
            without_image += not item.image_names
            fields |= set(map(str, inner))
            yield item
    if number == without_question == without_image:
        raise ConfigError(
            f"decontaminate: {path} holds no question ({', '.join(QUESTION_FIELDS)}) and no image; its fields are "
            f"{', '.join(sorted(fields)) or 'none'}."
        )
    for count, what in ((without_question, "question"), (without_image, "image")):
        if count:
            log.warning("decontaminate: %s: %d of %d records hold no %s.", path, count, number, what)


def _json_records(path: Path) -> Iterator[Place]:
    if (whole := _one_object(path)) is not None:
        inner = [] if any(questions_in(whole)) else objects_in(path.name, whole)
        yield from inner or [(path.name, whole)]
        return
    for place, record in read_records(path):
        if isinstance(record, Skipped):
            raise ConfigError(f"decontaminate: {path}: {record.detail} Mend it: what is not read would be trained on.")
        yield place, record


def _one_object(path: Path) -> Mapping[str, Any] | None:
    """What a .json file holds that is one object; None for lists and lines."""
    if path.suffix.lower() != ".json":
        return None
    with path.open("rb") as stream:
        if not stream.read(_PEEKED).removeprefix(BOM).lstrip().startswith(b"{"):
            return None
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):  # JSON Lines by another name, or broken: told where it is read
        return None


def _parquet_records(path: Path) -> Iterator[Place]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for record in batch.to_pylist():
                    yield f"{path.name}[{number}]", record
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"decontaminate: {path} cannot be read: {error}.") from error


def _item(path: Path, place: str, record: Mapping[str, Any], seen: set[Path]) -> BenchmarkItem:
    names = [f"{field} {record[field]}" for field in ID_FIELDS if isinstance(record.get(field), (str, int))][:1]
    pictures = images_in(record, path.parent, seen)
    images = tuple(data for _, data in pictures if data is not None)
    return BenchmarkItem(
        name=f"{place} ({names[0]})" if names else place,
        file=str(path),
        questions=tuple(questions_in(record)),
        images=images,
        image_names=tuple(name for name, _ in pictures),
        missing=len(pictures) - len(images),
    )
