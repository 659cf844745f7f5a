"""What a WebDataset tar holds: a scan that trusts nothing, and the manifest that stands beside the shards.

A scan names every sample of one tar with the byte range of each member, so that samples can later be read with
`os.pread`. Where members stand is found by `tarwalk.py`. Members are JSON and images only: nothing else is opened, decoded or unpickled. Building the index is left to
`index.py`, writing to `shards.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from datamodules.tarwalk import Fault, Member, walk
from mrm.errors import RecordError, ShardError
from mrm.images import FORMATS
from mrm.preference import PreferenceSample

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff")
MANIFEST_NAME = "manifest.json"
SHARD_PATTERN = "*.tar"
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|(^|[/\\\\])\.\.([/\\\\]|$)|^pipe:|[|`$;<>\\\\\x00-\x1f]")
_MEMBER = re.compile(r"(?P<key>[^./]+)\.(?:(?P<number>[0-9]{1,6})\.)?(?P<extension>[A-Za-z0-9]+)")


@dataclass(frozen=True)
class ScannedImage:
    """One image member: bytes in the tar, extension, size in pixels (0 x 0 where the header is unreadable), digest, crc32."""

    offset: int
    length: int
    extension: str
    width: int
    height: int
    digest: str
    crc: int


@dataclass(frozen=True)
class ScannedSample:
    """One sample of a tar: the validated record, where its JSON lies, and its images in order."""

    sample: PreferenceSample
    json_offset: int
    json_length: int
    json_digest: str
    json_crc: int
    images: tuple[ScannedImage, ...]


@dataclass
class _Open:
    """The members of one key gathered so far."""

    key: str
    record: Member | None = None
    images: dict[int, tuple[Member, str]] = field(default_factory=dict)
    problem: str | None = None  # the first


def local_directory(directory: str | os.PathLike[str]) -> Path:
    """The directory as a Path.

    Raises:
        ShardError: for a URL: only reading by index takes one.
    """
    if "://" in os.fspath(directory) or os.fspath(directory).startswith("pipe:"):
        raise ShardError(
            f"{os.fspath(directory)}: remote shards can only be read, and pipe: never; copy the data set to a local directory."
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


def folder_digest(folder: Path) -> str:
    """The sha256, in hex, of the names and contents of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [f"{path.relative_to(folder)}\0{file_digest(path)}" for path in files]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()


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


def scan_shard(path: Path, faults: list[Fault] | None = None) -> Iterator[ScannedSample]:
    """Every sample of one tar, in the order of their first members; those of one sample may lie apart.

    Only names and places of the tar's members are held, and the bytes of one sample at a time.

    Args:
        path: the tar.
        faults: where what is damaged goes, so that the rest can be used; None raises it.

    Raises:
        ShardError: naming the tar, for a member that is neither JSON nor an image, a link, or a name outside the shard;
            without `faults` also for a cut or broken archive, a duplicate
            key, or a record that breaks a rule.
    """
    found: dict[str, _Open] = {}
    with path.open("rb") as file:
        for member in walk(path, file, faults):
            key, number, extension = _split_name(path, member)
            _add(path, found.setdefault(key, _Open(key)), member, number, extension)
        for current in found.values():
            yield from _finish(path, file, current, faults)


def _split_name(path: Path, member: Member) -> tuple[str, int | None, str]:
    """(key, image number or None, lower-case extension) of a member's name; folders within the tar mean nothing."""
    if _OUTSIDE.search(member.name):
        raise ShardError(
            f"{path}: member {member.name!r} is refused: its name leads out of the shard or into a shell; nobody writes"
            " such a name by accident, so nothing of this tar is used."
        )
    match = _MEMBER.fullmatch(member.name.rpartition("/")[2])
    extension = match["extension"].lower() if match else ""
    if match is None or extension not in ("json", *IMAGE_EXTENSIONS) or (extension == "json" and match["number"]):
        raise ShardError(
            f"{path}: member {member.name!r} is refused; a shard may hold only KEY.json and images KEY.NUMBER.EXTENSION"
            f" with extension {', '.join(IMAGE_EXTENSIONS)} (keys hold no dot)."
        )
    return match["key"], None if match["number"] is None else int(match["number"]), extension


def _add(path: Path, current: _Open, member: Member, number: int | None, extension: str) -> None:
    if extension == "json":
        if current.record is not None:
            current.problem = current.problem or (
                f"{path}: key {current.key!r} is a duplicate: {member.name!r} stands there twice; write each sample once."
            )
        current.record = member
        return
    place = number or 0
    if place in current.images:
        current.problem = current.problem or (
            f"{path}: key {current.key!r} has two images number {place}; number them 0, 1, ... in the prompt's order."
        )
    current.images[place] = (member, extension)


def _finish(path: Path, file: BinaryIO, current: _Open, faults: list[Fault] | None) -> Iterator[ScannedSample]:
    """The sample of one key, or its fault."""
    try:
        yield _sample(path, file, current)
    except ShardError as error:
        if faults is None:
            raise
        faults.append(Fault(str(path), current.key, "damaged sample", str(error)))


def _sample(path: Path, file: BinaryIO, current: _Open) -> ScannedSample:
    if current.problem is not None:
        raise ShardError(current.problem)
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
    except (RecordError, ValueError, OverflowError, RecursionError) as error:
        raise ShardError(f"{path}: {current.key}.json is not a valid sample: {error}") from error
    if sample.key != current.key:
        raise ShardError(f"{path}: {current.key}.json says its key is {sample.key!r}; both must be the same.")
    images = tuple(
        ScannedImage(member.offset, member.size, extension, *_image_size(content), *_checksums(content))
        for (member, extension), content in zip(members, data, strict=True)
    )
    return ScannedSample(sample, current.record.offset, current.record.size, *_checksums(text), images)


def _read(file: BinaryIO, member: Member) -> bytes:
    return os.pread(file.fileno(), member.size, member.offset)


def _checksums(data: bytes) -> tuple[str, int]:
    """What tells contents apart for good, and what is looked at whenever they are read: three times as fast."""
    return short_digest(data), zlib.crc32(data)


def short_digest(data: bytes) -> str:
    """The first 64 bits of the sha256, in hex: enough to tell all images of a data set apart."""
    return hashlib.sha256(data).hexdigest()[:16]


def _image_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header; (0, 0) if there is none: decoding will count and name the sample later."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size warnings: nothing is decoded here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except Exception:  # Pillow's readers raise whatever they like: OSError, SyntaxError, struct.error, ...
        return 0, 0
