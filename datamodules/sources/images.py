"""Finding the images that records name: in folders, in zip files, or within the record itself.

A published path is followed only within the dataset's own folder and zip files: one that is absolute, has a `..` or is an
address is refused as "unsafe path" or "remote image". Only in the formats that are meant for one's own files
(`read_image`) may a path be absolute or lead out of the folder.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Any

from datamodules.sources.archives import MAX_FILE_BYTES, ZipImages, find_zips
from datamodules.sources.base import IMAGE_MISSING, surprise
from datamodules.sources.location import Location, existing
from mrm.errors import ConfigError, RecordError

UNSAFE = "unsafe path"
PACKED = re.compile(r"\.(tar|tgz)(\.|$)")
NO_IMAGES = ("annotations",)  # zips that hold something else


class Images:
    """The images of one dataset.

    Args:
        folder: where they, or zip files with them, lie. Zip files are opened when a path isn't found in the folder.
        media_dir: a folder or a zip file to look in instead.

    Raises:
        ConfigError: where `media_dir` isn't there.
    """

    def __init__(self, folder: Location, media_dir: str | None = None) -> None:
        self._folder: Location | None = folder
        self._zips: list[ZipImages] | None = None
        self._packed: list[str] = []
        if media_dir is not None:
            place = _media_dir(media_dir)
            self._folder = place if place.is_dir() else None
            if self._folder is None:
                self._zips = [ZipImages([place], place.name)]

    def read(self, path: object, *others: str) -> bytes:
        """The bytes of an image.

        Args:
            path: relative, as published. The folder's or zip's own name may stand before it.
            others: where the same image may lie instead.

        Raises:
            RecordError: for an unsafe path, or an image that is missing or can't be read.
        """
        places = [safe_path(path), *map(safe_path, others)]
        for inside in places:
            if not inside:
                raise RecordError(IMAGE_MISSING, f"image {path!r} is a folder.")
            if self._folder is not None:
                own, _, rest = inside.partition("/")
                for name in (inside, rest if own == self._folder.name else ""):
                    if name and (data := _read_file(self._folder / name, path)) is not None:
                        return data
        for archive in self._archives():
            for inside in places:
                if (name := archive.find(inside)) is not None:
                    return archive.read(name)
        where = ", ".join([*map(str, filter(None, [self._folder])), *(archive.name for archive in self._archives())])
        packed = f"; unpack {self._packed[0]}, which cannot be read out of order" if self._packed else ""
        raise RecordError(IMAGE_MISSING, f"image {path!r}: it is not in {where}{packed}.") from FileNotFoundError(
            places[0]
        )

    def within(self, path: object, *others: str) -> list[str]:
        """The paths of all files directly in a folder, sorted: the frames of a video.

        Args:
            path: relative, as published.
            others: where the same folder may lie instead.

        Raises:
            RecordError: for an unsafe path, or where there is no such folder.
        """
        for inside in [safe_path(path).rstrip("/"), *map(safe_path, others)]:
            if self._folder is not None and (place := self._folder / inside).is_dir():
                found = [f"{inside}/{child.name}" for child in place.children() if child.is_file()]
            else:
                found = next((names for archive in self._archives() if (names := archive.within(inside))), [])
            if found:
                return sorted(found, key=_by_number)
        raise RecordError(IMAGE_MISSING, f"folder {path!r}: there is none, or nothing in it.")

    def _archives(self) -> list[ZipImages]:
        if self._zips is None:
            children = self._folder.children() if self._folder is not None and self._folder.is_dir() else []
            self._packed = [child.name for child in children if PACKED.search(child.name)]
            named = [(name, parts) for name, parts in find_zips(children) if not name.startswith(NO_IMAGES)]
            self._zips = [ZipImages(parts, name) for name, parts in named]
        return self._zips


def safe_path(path: object) -> str:
    """The path, if it is relative and stays where it starts; `./` and doubled slashes are taken out.

    Raises:
        RecordError: for anything else.
    """
    if not isinstance(path, str) or not path:
        raise RecordError("malformed field", f"an image must be given as a path, found {repr(path)[:80]}.")
    _refuse_address(path)
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\", "~")) or path[1:2] == ":" or ".." in parts or "\0" in path:
        raise RecordError(
            UNSAFE, f"image {path[:80]!r}: a path must be relative and may not lead out of the dataset's folder."
        )
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def path_after(path: str, folder: str) -> str:
    """What follows a folder's name in a path that was absolute on its author's machine; the path itself without it."""
    before, found, after = f"/{path}".rpartition(f"/{folder}/")
    return after if found else path


def image_of(value: object, images: Images, name: str) -> bytes:
    """An image column's value as bytes.

    Args:
        value: {"bytes", "path"} of the Hugging Face kind, bytes, or a list of one of these.
        images: where an image that is given by its path only lies.
        name: the column's name.

    Raises:
        RecordError: for a value of another form, or an image that is missing.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and {"bytes", "path"} & value.keys():
        data = value.get("bytes")
        value = images.read(value.get("path")) if data is None and value.get("path") else data
    if not isinstance(value, bytes) or not value:
        raise surprise(name, value, "an image with bytes or a path")
    return value


def from_base64(text: str, name: str) -> bytes:
    """An image written as base64, with or without `data:image/...;base64,` before it.

    Raises:
        RecordError: where it isn't.
    """
    try:
        return base64.b64decode(text.rpartition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise surprise(name, text, "an image in base64") from error


def read_image(path: object, folder: Location | Path) -> bytes:
    """The bytes of an image of one's own; `path` is relative to `folder` or, on this machine, absolute. Bytes are the image itself.

    Raises:
        RecordError: where there is no such file, or the path isn't one.
    """
    if isinstance(path, bytes):  # no file's record has them: a program's
        return path
    if not isinstance(path, str) or not path:
        raise RecordError("malformed field", f"an image must be given as a path, found {path!r}.")
    _refuse_address(path)
    place = Location.of(folder)
    if not place.is_local:
        path = safe_path(path)
    file = Location(place.fs, os.path.join(place.path, path)) if place.is_local else place / path
    data = _read_file(file, path)
    if data is None:
        raise RecordError(IMAGE_MISSING, f"image {path!r}: there is no file {file}.") from FileNotFoundError(path)
    return data


def _read_file(file: Location, path: object) -> bytes | None:
    """The file's bytes; None where there is no such file."""
    try:
        with file.open() as stream:
            known = (
                os.fstat(stream.fileno()).st_size if file.is_local else 0
            )  # read(limit) would first allocate the limit
            data = b"" if known > MAX_FILE_BYTES else stream.read(known or MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a folder, no permission, a null character in the name, a remote file system's own
        raise RecordError(IMAGE_MISSING, f"image {path!r}: {file} cannot be read: {error}.") from error
    if max(known, len(data)) > MAX_FILE_BYTES:
        raise RecordError("image too large", f"image {path!r}: more than {MAX_FILE_BYTES} bytes.")
    return data


def _refuse_address(path: str) -> None:
    if "://" in path or path.startswith("data:"):
        raise RecordError("remote image", f"image {path[:80]!r} is an address; download it and give a local path.")


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _media_dir(given: str) -> Location:
    try:
        return existing(given)
    except ConfigError as error:
        raise ConfigError(f"media_dir: {str(error).removeprefix('input: ')}") from error


def record_images(value: Any) -> list[Any]:
    """The paths of a field that holds one path, a list of paths, or nothing."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]
