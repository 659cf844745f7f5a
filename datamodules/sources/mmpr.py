"""MMPR, versions 1, 1.1 and 1.2: pairs by right and wrong answers, and by continuations written without the image.

`OpenGVLab/MMPR`, `MMPR-v1.1`, `MMPR-v1.2`: `meta.json` names the parts ({"root", "annotation", "length", ...}), their JSON Lines
are in `annotations.zip` (or the folder `annotations`), the images in `images.zip`, its pieces `images.zip_aa`, ..., or the
folder `images`. `root` and `annotation` are paths on their author's machine: of the first what follows `images/` counts, of the
second the file's name and, where several have it, as many of the folders above it as tell them apart. A record has `image` (a path, a
list of paths or none), `question`, `chosen`, `rejected`. No strength. `repeat_time` is left to mixture weights.
"""

from __future__ import annotations

import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from datamodules.sources.archives import ZipImages, find_zips
from datamodules.sources.base import DAMAGED, Card, Counted, Item, Skipped, get_field, parse_each, safe_key
from datamodules.sources.images import Images, path_after, record_images, safe_path
from datamodules.sources.location import Location, existing
from datamodules.sources.records import read_lines
from datamodules.sources.turns import pair_sample
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample

NAME = "mmpr"
CARD = Card("OpenGVLab/MMPR, MMPR-v1.1, MMPR-v1.2", "MIT", "some 3 million pairs", "image-text")
FOLDER = "annotations"
BELOW = re.compile(r"(?:^|/)MMPR[^/]*/images(?=/|$)")
Opener = Callable[[], AbstractContextManager[BinaryIO]]


def read(input: str | Path, *, subset: str | None = None, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the parts that meta.json names.

    Args:
        input: the folder.
        subset: only the part of that name; all by default.
        media_dir: what holds the images instead of `images` or `images.zip`.
    """
    folder = existing(input)
    parts = _read_meta(folder / "meta.json")
    if subset is not None and subset not in parts:
        raise ConfigError(f"subset: meta.json names no {subset!r}; it names {', '.join(sorted(parts)[:10])}, ...")
    chosen = parts if subset is None else {subset: parts[subset]}
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
    """How to open each file of JSON Lines, by its path from `annotations/` on; of two zips with the same path also by the zip."""
    found: dict[str, Opener] = {}
    for name, files in find_zips(folder.children()):
        if name.startswith(FOLDER):
            archive = ZipImages(files, name)
            for member in archive.names():
                if member.endswith(".jsonl"):
                    path = f"{FOLDER}/{path_after(member, FOLDER)}"
                    path = f"{name}/{path}" if path in found else path
                    found[path] = lambda archive=archive, member=member: archive.open(member)
    if (place := folder / FOLDER).is_dir():
        found |= {f"{FOLDER}/{place.relative(file)}": file.open for file in place.files()}
    if not found:
        raise ConfigError(f"input: {folder} holds neither annotations.zip nor a folder annotations.")
    return found


def annotation_of(published: str, paths: Iterable[str]) -> str:
    """The file that meta.json means: of those of its name the one whose folders agree furthest, then the one with the fewest.

    Args:
        published: a path on its author's machine.
        paths: those that are there.

    Raises:
        RecordError: "annotations missing", or "annotations ambiguous" where several fit equally well.
    """
    wanted = PurePosixPath(published.replace("\\", "/")).parts[::-1]

    def fit(path: str) -> tuple[int, int]:
        parts = PurePosixPath(path).parts[::-1]
        agreeing = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(wanted, parts, strict=False))
        return sum(1 for _ in agreeing), -len(parts)

    fitting = sorted((path for path in paths if wanted and PurePosixPath(path).name == wanted[0]), key=fit)
    if not fitting:
        raise RecordError("annotations missing", f"there is no {wanted[0] if wanted else published!r} among them.")
    if len(fitting) > 1 and fit(fitting[-1]) == fit(fitting[-2]):
        raise RecordError("annotations ambiguous", f"{published!r} may be {fitting[-2]} or {fitting[-1]}.")
    return fitting[-1]


def _items(parts: dict[str, dict[str, Any]], annotations: dict[str, Opener], images: Images) -> Iterator[Item]:
    for name, entry in parts.items():
        try:
            file = annotation_of(entry["annotation"], annotations)
        except RecordError as error:
            yield Skipped(name, error.reason, f"part {name!r}: {error}")
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
