"""Where data lies: a local path, or a URL that fsspec can open (`s3://`, `https://`, `hf://`, `memory://`, ...).

A `Location` is made from what a person typed, never from data: a path found in a record is joined to one by the readers
of `images.py`, which decide what may be reached. Opening streams: nothing is fetched before it is read.
"""

from __future__ import annotations

import os
import posixpath
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.zip import ZipFileSystem

from mrm.errors import ConfigError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
LOCAL = fsspec.filesystem("file")
REMOTE_BLOCK = (
    1 << 18
)  # bytes fetched at a time: about an image, so that random access does not fetch megabytes for each


PREPARED = "prepared.json"  # stands in every folder of shards


def is_url(text: object) -> bool:
    """Whether it is an address rather than a local path. One letter before the colon is a Windows drive."""
    return isinstance(text, str) and URL.match(text) is not None


def join(root: str, inside: str) -> str | Path:
    """A path below a root, either of which may be a URL; `~` of a local root is told."""
    if is_url(inside):
        return inside
    if is_url(root):
        return f"{root.rstrip('/')}/{inside}"
    return Path(root).expanduser() / inside


@dataclass(frozen=True)
class Location:
    """A file or folder in a file system.

    Args:
        fs: the fsspec file system.
        path: the path within it, with forward slashes.
    """

    fs: Any
    path: str

    @classmethod
    def of(cls, given: str | os.PathLike[str] | Location) -> Location:
        """The location of a path or URL.

        Raises:
            ConfigError: for a URL of an unknown kind, or one whose package isn't installed.
        """
        if isinstance(given, Location):
            return given
        text = os.fspath(given)
        if not is_url(text):
            return cls(LOCAL, LOCAL._strip_protocol(os.path.abspath(text)))
        try:
            fs, path = fsspec.core.url_to_fs(text)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"input: {text} cannot be opened: {error}.") from error
        return cls(fs, path)

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @property
    def name(self) -> str:
        return posixpath.basename(self.path.rstrip("/"))

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> Location:
        return Location(self.fs, posixpath.dirname(self.path.rstrip("/")))

    def __truediv__(self, inside: str) -> Location:
        return Location(self.fs, f"{self.path.rstrip('/')}/{inside}")

    def __str__(self) -> str:
        return self.path if self.is_local else str(self.fs.unstrip_protocol(self.path))

    def is_file(self) -> bool:
        return bool(self.fs.isfile(self.path))

    def is_dir(self) -> bool:
        return bool(self.fs.isdir(self.path))

    def size(self) -> int:
        """Bytes of a file; 0 where the file system does not tell."""
        return int(self.fs.size(self.path) or 0)

    def open(self) -> BinaryIO:
        """The file, opened to read bytes.

        Raises:
            OSError: where it cannot be; remote file systems raise errors of their own, too.
        """
        if self.is_local:  # a quarter of the time that fsspec takes, which counts for a million small images
            return open(self.path, "rb")
        return self.fs.open(self.path, "rb", block_size=REMOTE_BLOCK)

    def children(self) -> list[Location]:
        """The files and folders directly within a folder, by name; hidden ones left out."""
        found = (Location(self.fs, path.rstrip("/")) for path in self.fs.ls(self.path, detail=False))
        return sorted((each for each in found if not each.name.startswith(".")), key=lambda each: each.name)

    def files(self) -> list[Location]:
        """All files within a folder and its folders, by path; hidden ones, and what `prepare` wrote there, left out."""
        start = len(self.path.rstrip("/"))
        found = sorted(path for path in self.fs.find(self.path) if "/." not in path[start:])
        made = [path.removesuffix(PREPARED) for path in found if path.endswith(f"/{PREPARED}")]
        inside = tuple(folder for folder in made if len(folder.rstrip("/")) > start)
        return [Location(self.fs, path) for path in found if not path.startswith(inside)]

    def relative(self, file: Location) -> str:
        """The path of a file within this folder."""
        return file.path[len(self.path.rstrip("/")) :].lstrip("/")


def existing(given: str | os.PathLike[str] | Location) -> Location:
    """The location, if something is there.

    Raises:
        ConfigError: where there is nothing, or nobody can tell.
    """
    location = Location.of(given)
    try:
        found = location.is_file() or location.is_dir()
    except Exception as error:  # each file system has its own: no network, no permission, a bad name
        raise ConfigError(f"input: {location} cannot be reached: {error}.") from error
    if not found:
        raise ConfigError(f"input: there is no file or folder {location}.")
    return location


def inside_zip(file: Location) -> Location:
    """A zip file as a folder, for data that was published with its lists inside.

    Raises:
        ConfigError: where it is cut off or no zip file.
    """
    try:
        return Location(ZipFileSystem(file.open()), "")
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ConfigError(f"input: {file} is no whole zip file: {error}; fetch it again.") from error


def folder_of(given: str | os.PathLike[str] | Location) -> Location:
    """The folder, or the one that the file is in.

    Raises:
        ConfigError: where there is nothing.
    """
    location = existing(given)
    return location.parent if location.is_file() else location
