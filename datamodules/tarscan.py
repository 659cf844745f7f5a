"""What a WebDataset tar holds: a scan that trusts nothing, and the manifest that stands beside the shards.

A scan names every sample of one tar with the byte range of each member, so that samples can later be read with
`os.pread`. Python's `tarfile` ends silently at a cut that falls on a header, hence the checks of its own here.
Members are JSON and images only: nothing else is opened, decoded or unpickled. Building the index is left to
`index.py`, writing to `shards.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from mrm.errors import RecordError, ShardError
from mrm.preference import PreferenceSample

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff")
MANIFEST_NAME = "manifest.json"
SHARD_PATTERN = "*.tar"
_BLOCK = 512  # tar's unit: headers, and the zero block that ends an archive
_MEMBER = re.compile(r"(?P<key>[^./]+)\.(?:(?P<number>\d+)\.)?(?P<extension>[A-Za-z0-9]+)")


@dataclass(frozen=True)
class ScannedImage:
    """One image member: bytes in the tar, extension, size in pixels (0 x 0 where the header is unreadable), digest."""

    offset: int
    length: int
    extension: str
    width: int
    height: int
    digest: str


@dataclass(frozen=True)
class ScannedSample:
    """One sample of a tar: the validated record, where its JSON lies, and its images in order."""

    sample: PreferenceSample
    json_offset: int
    json_length: int
    json_digest: str
    images: tuple[ScannedImage, ...]


@dataclass
class _Open:
    """The members of one key gathered so far."""

    key: str
    record: tarfile.TarInfo | None = None
    images: dict[int, tuple[tarfile.TarInfo, str]] = field(default_factory=dict)


def local_directory(directory: str | os.PathLike[str]) -> Path:
    """The directory as a Path.

    Raises:
        ShardError: for a URL: only local shards can be read.
    """
    if "://" in os.fspath(directory) or os.fspath(directory).startswith("pipe:"):
        raise ShardError(
            f"{os.fspath(directory)}: remote shards are not supported; copy the data set to a local directory."
        )
    return Path(directory)


def shard_paths(directory: Path) -> list[Path]:
    """The tars of a directory by name.

    Raises:
        ShardError: if there is no such directory or no tar in it.
    """
    if not directory.is_dir():
        raise ShardError(f"{directory}: no such directory; write one with `python -m datamodules.prepare`.")
    paths = sorted(directory.glob(SHARD_PATTERN))
    if not paths:
        raise ShardError(f"{directory}: no {SHARD_PATTERN} in it; name a directory of shards (uncompressed tars).")
    return paths


def file_digest(path: Path) -> str:
    """The file's sha256, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def verify_shards(directory: str | os.PathLike[str], *, digests: bool = False) -> None:
    """Checks a directory's tars against its manifest: names and sizes, with `digests` also every byte.

    Raises:
        ShardError: naming the shard and the mend, or saying that there is no manifest.
    """
    root = local_directory(directory)
    try:
        entries = json.loads((root / MANIFEST_NAME).read_text())["shards"]
        listed = {entry["name"]: (entry["bytes"], entry["sha256"]) for entry in entries}
    except FileNotFoundError as error:
        raise ShardError(
            f"{root}: no {MANIFEST_NAME}, so its shards cannot be verified; prepare the data set again."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{root / MANIFEST_NAME}: not a manifest ({error!r}); prepare the data set again.") from error
    found = {path.name: path for path in shard_paths(root)}
    if missing := sorted(listed.keys() - found.keys()):
        raise ShardError(
            f"{root / missing[0]}: listed in {MANIFEST_NAME} but missing; copy it again or prepare the data set again."
        )
    if extra := sorted(found.keys() - listed.keys()):
        raise ShardError(
            f"{found[extra[0]]}: not listed in {MANIFEST_NAME}; remove it, or delete manifest and index and rebuild."
        )
    for name, path in found.items():
        size, (expected, digest) = path.stat().st_size, listed[name]
        if size != expected:
            raise ShardError(
                f"{path}: {size} bytes, the manifest says {expected}; the shard is cut off or altered: copy it again."
            )
        if digests:
            check_digest(path, digest)


def manifest_digests(root: Path) -> dict[str, str]:
    """The sha256 of every shard that a directory's manifest lists, by name; `verify_shards` has looked at it before."""
    return {entry["name"]: entry["sha256"] for entry in json.loads((root / MANIFEST_NAME).read_text())["shards"]}


def check_digest(path: Path, expected: str) -> None:
    """Compares a shard's sha256.

    Raises:
        ShardError: where it differs.
    """
    if file_digest(path) != expected:
        raise ShardError(f"{path}: its sha256 differs from the manifest's; the shard was altered: copy it again.")


def scan_shard(path: Path) -> Iterator[ScannedSample]:
    """Every sample of one tar, in the order of their first members; those of one sample may lie apart.

    Only names and places of the tar's members are held, and the bytes of one sample at a time.

    Raises:
        ShardError: naming the tar, for a cut or broken archive, a member that is neither JSON nor an image, a duplicate
            key, or a record that breaks a rule.
    """
    found: dict[str, _Open] = {}
    with path.open("rb") as file:
        for member in _members(path, file):
            key, number, extension = _split_name(path, member)
            _add(path, found.setdefault(key, _Open(key)), member, number, extension)
        for current in found.values():
            yield _finish(path, file, current)


def _members(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The regular members of a tar, and the certainty that none is missing."""
    size = os.fstat(file.fileno()).st_size
    end = 0
    mend = "the file is cut off or broken: copy it again or prepare the data set again."
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if end > size:
                    raise ShardError(
                        f"{path}: cut in the middle of {member.name!r} (needs {end} bytes, found {size}); {mend}"
                    )
                if member.isdir():
                    continue
                if not member.isfile() or member.issparse():
                    raise ShardError(
                        f"{path}: member {member.name!r} is not a plain file; a shard may hold only JSON and images."
                    )
                yield member
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ShardError(f"{path}: not a readable tar ({error}); {mend}") from error
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes a cut between two members for the archive's end
        raise ShardError(f"{path}: no end-of-archive mark after byte {end}; {mend}")
    _check_padding(path, file)


def _check_padding(path: Path, file: BinaryIO) -> None:
    """Only zeros may follow an archive's end: what else stands there would be lost without a word."""
    while chunk := file.read(2**20):
        if data := chunk.lstrip(b"\0"):
            raise ShardError(
                f"{path}: something follows the archive's end, at byte {file.tell() - len(data)}; were tars joined by `cat`,"
                " keep each in a file of its own, else copy the file again."
            )


def _split_name(path: Path, member: tarfile.TarInfo) -> tuple[str, int | None, str]:
    """(key, image number or None, lower-case extension) of a member's name; folders within the tar mean nothing."""
    folder, _, name = member.name.removeprefix("./").rpartition("/")
    if member.name.startswith("/") or ".." in folder.split("/"):
        raise ShardError(f"{path}: member {member.name!r} is refused: its name leads out of the tar; write it anew.")
    match = _MEMBER.fullmatch(name)
    extension = match["extension"].lower() if match else ""
    if match is None or extension not in ("json", *IMAGE_EXTENSIONS) or (extension == "json" and match["number"]):
        raise ShardError(
            f"{path}: member {member.name!r} is refused; a shard may hold only KEY.json and images KEY.NUMBER.EXTENSION"
            f" with extension {', '.join(IMAGE_EXTENSIONS)} (keys hold no dot)."
        )
    return match["key"], None if match["number"] is None else int(match["number"]), extension


def _add(path: Path, current: _Open, member: tarfile.TarInfo, number: int | None, extension: str) -> None:
    if extension == "json":
        if current.record is not None:
            raise ShardError(
                f"{path}: key {current.key!r} is a duplicate: {member.name!r} stands there twice; write each sample once."
            )
        current.record = member
        return
    place = number or 0
    if place in current.images:
        raise ShardError(
            f"{path}: key {current.key!r} has two images number {place}; number them 0, 1, ... in the prompt's order."
        )
    current.images[place] = (member, extension)


def _finish(path: Path, file: BinaryIO, current: _Open) -> ScannedSample:
    if current.record is None:
        raise ShardError(f"{path}: key {current.key!r} has no {current.key}.json; every sample needs its record.")
    if sorted(current.images) != list(range(len(current.images))):
        raise ShardError(
            f"{path}: key {current.key!r} has images number {sorted(current.images)};"
            " number them 0, 1, ... without a gap."
        )
    members = [current.images[number] for number in range(len(current.images))]
    data = [_read(file, member) for member, _ in members]
    text = _read(file, current.record)
    try:
        sample = PreferenceSample.from_json(json.loads(text), data)
    except (RecordError, ValueError) as error:
        raise ShardError(f"{path}: {current.key}.json is not a valid sample: {error}") from error
    if sample.key != current.key:
        raise ShardError(f"{path}: {current.key}.json says its key is {sample.key!r}; both must be the same.")
    images = tuple(
        ScannedImage(member.offset_data, member.size, extension, *_image_size(content), short_digest(content))
        for (member, extension), content in zip(members, data, strict=True)
    )
    return ScannedSample(sample, current.record.offset_data, current.record.size, short_digest(text), images)


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    return os.pread(file.fileno(), member.size, member.offset_data)


def short_digest(data: bytes) -> str:
    """The first 64 bits of the sha256, in hex: enough to notice what was altered."""
    return hashlib.sha256(data).hexdigest()[:16]


def _image_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header; (0, 0) if there is none: decoding will count and name the sample later."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # size warnings: nothing is decoded here
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0
