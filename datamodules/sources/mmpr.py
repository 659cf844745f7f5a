"""MMPR, versions 1, 1.1 and 1.2: pairs by right and wrong answers, and by continuations written without the image.

`OpenGVLab/MMPR`, `MMPR-v1.1`, `MMPR-v1.2`: `meta.json` names the parts ({"root", "annotation", "length", ...}), their JSON Lines
are in `annotations.zip` (or the folder `annotations`), the images in `images.zip`, its pieces `images.zip_aa`, ..., or the
folder `images`. `root` and `annotation` are paths on their author's machine: of the first what follows `images/` counts, of the
second the file's name. A record has `image` (a path, a list of paths or none), `question`, `chosen`, `rejected`. No strength.
`repeat_time` is left to mixture weights.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from datamodules.sources.archives import ZipImages, find_zips
from datamodules.sources.base import DAMAGED, Card, Counted, Item, Skipped, get_field, parse_each, safe_key
from datamodules.sources.images import Images, record_images, safe_path
from datamodules.sources.location import Location, existing
from datamodules.sources.records import read_lines
from datamodules.sources.turns import pair_sample
from mrm.errors import ConfigError
from mrm.preference import PreferenceSample

NAME = "mmpr"
CARD = Card("OpenGVLab/MMPR, MMPR-v1.1, MMPR-v1.2", "MIT", "some 3 million pairs", "image-text")
BELOW = re.compile(r"(?:^|/)MMPR[^/]*/images(?=/|$)")
Opener = Callable[[], AbstractContextManager[BinaryIO]]


def read(input: str | Path, *, part: str | None = None, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the parts that meta.json names.

    Args:
        input: the folder.
        part: only the part of that name; all by default.
        media_dir: what holds the images instead of `images` or `images.zip`.
    """
    folder = existing(input)
    parts = _read_meta(folder / "meta.json")
    if part is not None and part not in parts:
        raise ConfigError(f"part: meta.json names no {part!r}; it names {', '.join(sorted(parts)[:10])}, ...")
    chosen = parts if part is None else {part: parts[part]}
    lengths = [entry.get("length") for entry in chosen.values()]
    total = sum(length for length in lengths if isinstance(length, int))
    return Counted(_items(chosen, _find_annotations(folder), Images(folder, media_dir)), total)


def _read_meta(path: Location) -> dict[str, dict[str, Any]]:
    try:
        with path.open() as stream:
            parts = json.loads(stream.read().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"input: there is no {path}; give the folder that holds meta.json.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"input: {path} cannot be read: {error}; fetch it again.") from error
    for name, entry in parts.items() if isinstance(parts, dict) else [("it", parts)]:
        wrong = not isinstance(entry, dict) or [
            field for field in ("root", "annotation") if not isinstance(entry.get(field), str)
        ]
        if wrong:
            raise ConfigError(
                f"input: {path}: {name} must be an object with `root` and `annotation`, found {entry!r:.200}."
            )
    return parts


def _find_annotations(folder: Location) -> dict[str, Opener]:
    """How to open each file of JSON Lines, by its name."""
    found: dict[str, Opener] = {}
    for name, files in find_zips(folder.children()):
        if name.startswith("annotations"):
            archive = ZipImages(files, name)
            for member in archive.names():
                if member.endswith(".jsonl"):
                    found[PurePosixPath(member).name] = lambda archive=archive, member=member: archive.open(member)
    if (folder / "annotations").is_dir():
        found |= {file.name: file.open for file in (folder / "annotations").files()}
    if not found:
        raise ConfigError(f"input: {folder} holds neither annotations.zip nor a folder annotations.")
    return found


def _items(parts: dict[str, dict[str, Any]], annotations: dict[str, Opener], images: Images) -> Iterator[Item]:
    for name, entry in parts.items():
        file = PurePosixPath(entry["annotation"].replace("\\", "/")).name
        if file not in annotations:
            yield Skipped(name, "annotations missing", f"part {name!r}: there is no {file} among the annotations.")
            continue
        records = Counted(_records(annotations[file], file, entry.get("length")), 0)

        def key_of(number: int, _: dict[str, Any], name: str = name) -> str:
            return safe_key(NAME, f"{name}-{number:07d}")

        yield from parse_each(records, key_of, parse_record, images=images, root=below_images(entry["root"]), part=name)


def _records(open_file: Opener, file: str, length: object) -> Iterator[tuple[str, dict[str, Any] | Skipped]]:
    """The lines of a part; what a damaged file loses is told line by line, as far as the number of lines is known."""
    number = 0
    try:
        with open_file() as stream:
            for item in read_lines(stream, file):
                number += 1
                yield item
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        for lost in range(number, max(length if isinstance(length, int) else 0, number + 1)):
            yield file, Skipped(f"{file}:{lost + 1}", DAMAGED, f"{file}: cannot be read: {error}; fetch it again.")


def below_images(root: str) -> str:
    """A part's folder below `images/`, with a slash at its end, or nothing."""
    match = BELOW.search(root)
    return f"{(root[match.end() :] if match else root).strip('/')}/".lstrip("/")


def parse_record(record: dict[str, Any], *, key: str, images: Images, root: str, part: str) -> PreferenceSample:
    """One line as a pair.

    Args:
        record: the JSON object.
        key: its key.
        images: where the images lie.
        root: the part's folder below `images/`, with a slash at its end, or nothing.
        part: the part's name.

    Raises:
        RecordError: for a missing field or image, or a broken rule of the record.
    """
    paths = record_images(record.get("image"))
    places = [f"{root}{safe_path(path)}" for path in paths]
    pictures = [images.read(f"images/{place}", place) for place in places]
    return pair_sample(
        key,
        NAME,
        get_field(record, "question", str),
        pictures,
        get_field(record, "chosen", str),
        get_field(record, "rejected", str),
        meta={"part": part, "images": paths},
    )
