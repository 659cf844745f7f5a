"""Questions and images of benchmark files, whatever their fields are called, to keep training data clear of them.

Read are JSON lists, JSON Lines and Parquet files, folders of them with image files, and folders of shards. A question is
the text of one of `QUESTION_FIELDS`, or of a person's turns where the field holds a conversation. An image is, in any
field, encoded bytes, `{"bytes": ...}`, a `data:` address, or a path that ends as an image's does, relative to the file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.fingerprints import image_digest
from datamodules.index import INDEX_NAME, Index
from datamodules.shard_tars import sniff_extension
from datamodules.shards import read_sample
from datamodules.sources.base import Skipped
from datamodules.sources.records import read_records
from mrm.errors import ConfigError
from mrm.preference import PreferenceSample

QUESTION_FIELDS = ("question", "query", "prompt", "prompt_text", "instruction", "problem", "caption", "text")
TURN_FIELDS = ("conversations", "messages", "prompt")
PERSON = ("user", "human")
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FILE_ENDINGS = (".json", ".jsonl", ".parquet")
ID_FIELDS = ("id", "ID", "pair_id", "idx", "key")
_PATH_CHARS = 400  # a longer text that ends in .jpg is no path


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
    found = False
    fields: set[str] = set()
    for place, record in records:
        item = _item(path, place, record, seen)
        found = found or bool(item.questions or item.image_names or item.missing)
        fields |= set(map(str, record))
        yield item
    if not found:
        raise ConfigError(
            f"decontaminate: {path} holds no question ({', '.join(QUESTION_FIELDS)}) and no image; its fields are "
            f"{', '.join(sorted(fields)) or 'none'}."
        )


def _json_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, record in read_records(path):
        if isinstance(record, Skipped):
            raise ConfigError(f"decontaminate: {path}: {record.detail} Mend it: what is not read would be trained on.")
        yield place, record


def _parquet_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
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
    images: list[bytes] = []
    image_names: list[str] = []
    missing = 0
    for value in _leaves(record):
        name, data = _image(value, path.parent, seen)
        if name is None:
            continue
        image_names.append(name)
        if data is None:
            missing += 1
        else:
            images.append(data)
    name = f"{place} ({names[0]})" if names else place
    return BenchmarkItem(name, str(path), tuple(_questions(record)), tuple(images), tuple(image_names), missing)


def _questions(record: Mapping[str, Any]) -> Iterator[str]:
    lower = {str(field).lower(): value for field, value in record.items()}
    for field in QUESTION_FIELDS:
        if isinstance(lower.get(field), str):
            yield lower[field]
    for field in TURN_FIELDS:
        turns = lower.get(field)
        for turn in turns if isinstance(turns, list) else []:
            if isinstance(turn, Mapping) and turn.get("from", turn.get("role")) in PERSON:
                text = turn.get("value", turn.get("content"))
                if isinstance(text, str):
                    yield text


def _leaves(value: Any) -> Iterator[Any]:
    """Values that may be images: of a record's fields and of lists in them."""
    for entry in value.values() if isinstance(value, Mapping) else value:
        if isinstance(entry, list):
            yield from _leaves(entry)
        else:
            yield entry


def _image(value: Any, folder: Path, seen: set[Path]) -> tuple[str | None, bytes | None]:
    """(what to know an image by, its bytes where they are to be had); (None, None) for anything else."""
    if isinstance(value, Mapping) and "bytes" in value:
        if value["bytes"] is None:
            return _image(value.get("path"), folder, seen)
        value = value["bytes"]
    if isinstance(value, bytes):
        return (image_digest(value).hex(), value) if sniff_extension(value) else (None, None)
    if not isinstance(value, str):
        return None, None
    if value.startswith("data:image/"):
        try:
            data = base64.b64decode(value.partition(",")[2], validate=True)
        except binascii.Error:
            return value[:_PATH_CHARS], None
        return image_digest(data).hex(), data
    if len(value) > _PATH_CHARS or "\n" in value or not value.lower().endswith(IMAGE_ENDINGS):
        return None, None
    try:
        data = (folder / value).read_bytes()
    except (OSError, ValueError):
        return value, None
    seen.add((folder / value).resolve())
    return image_digest(data).hex(), data
