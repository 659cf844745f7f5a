"""Questions and images of one benchmark record, whatever its fields are called and however deep they lie.

A question is the text of one of `QUESTION_FIELDS`, or of a person's turns where any field holds a conversation; text in parts
(`[{"type": "text", "text": ...}, ...]` or `[["text", ...], ...]`) is joined. An image is, at any depth, encoded bytes,
`{"bytes": ...}`, a `data:` address, or a path that ends as an image's does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datamodules.fingerprints import image_digest
from datamodules.shard_tars import sniff_extension

QUESTION_FIELDS = (
    "question",
    "query",
    "prompt",
    "prompt_text",
    "prompt_content",
    "instruction",
    "problem",
    "caption",
    "text",
)
PERSON = ("user", "human")
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_PATH_CHARS = 400  # a longer text that ends in .jpg is no path
_DEPTH = 3  # objects within objects that may be records: {"data": {"pairs": [...]}}
_PARTS = ("text", "image", "image_url", "video", "video_url", "audio")  # types of a content's parts
_OUTER = ""  # the field that holds what stands around a record
Place = tuple[str, Mapping[str, Any]]  # a record, and where it stands


def records_within(place: str, record: Mapping[str, Any], depth: int = _DEPTH) -> Iterator[Place]:
    """The record itself or, where it has no question but objects within it have, those, each with what stands around it.

    Args:
        place: where the record stands.
        record: as published.
        depth: how deep objects are looked for.
    """
    asking: dict[str, list[Place]] = {}
    if depth and not any(questions_in(record)):
        inner = {field: objects_in(place, {field: value}) for field, value in record.items()}
        asking = {field: found for field, found in inner.items() if any(_asks(each, depth - 1) for _, each in found)}
    if not asking:
        yield place, record
        return
    around = {field: value for field, value in record.items() if field not in asking}
    for found in asking.values():
        for inner_place, each in found:
            yield from records_within(inner_place, {**each, _OUTER: around}, depth - 1)


def objects_in(place: str, record: Mapping[str, Any]) -> list[Place]:
    """The objects directly in a record's fields, or in lists in them, that may be records: no turns, parts of a text, images."""
    found: list[Place] = []
    for field, value in record.items():
        if _may_be_record(value):
            found.append((f"{place}.{field}", value))
        elif isinstance(value, list) and all(map(_may_be_record, value)):
            found += [(f"{place}.{field}[{number}]", each) for number, each in enumerate(value)]
    return found


def questions_in(record: Mapping[str, Any]) -> Iterator[str]:
    """The questions of a record itself, as published."""
    for field, value in record.items():
        if isinstance(value, list) and (turns := [turn for turn in value if _is_turn(turn)]):
            for turn in turns:
                if str(turn.get("from", turn.get("role"))).lower() in PERSON:
                    yield from _texts(turn.get("value", turn.get("content")))
        elif str(field).lower() in QUESTION_FIELDS:
            yield from _texts(value)


def images_in(record: Mapping[str, Any], folder: Path, seen: set[Path]) -> list[tuple[str, bytes | None]]:
    """What to know each image of a record by, and its bytes where they are to be had; in the record's order.

    Args:
        record: as published.
        folder: what paths are relative to.
        seen: gets the files that were read.
    """
    found = []
    left: list[Any] = [record]
    while left:  # no recursion: JSON may be nested as deep as its parser allows
        value = left.pop()
        if isinstance(value, Mapping) and "bytes" not in value:
            left.extend(reversed(value.values()))
        elif isinstance(value, list):
            left.extend(reversed(value))
        else:
            name, data = _image(value, folder, seen)
            if name is not None:
                found.append((name, data))
    return found


def _asks(record: Mapping[str, Any], depth: int) -> bool:
    """Whether it, or an object within it, holds a question."""
    if any(questions_in(record)):
        return True
    return depth > 0 and any(_asks(each, depth - 1) for _, each in objects_in("", record))


def _may_be_record(value: object) -> bool:
    if not isinstance(value, Mapping) or _is_turn(value) or "bytes" in value:
        return False
    return not (isinstance(value.get("type"), str) and value["type"] in _PARTS)


def _is_turn(value: object) -> bool:
    return isinstance(value, Mapping) and (("from" in value and "value" in value) or "role" in value)


def _texts(content: Any) -> list[str]:
    """The texts of a content: one where it comes in parts, each where it is a list of texts."""
    if isinstance(content, str):
        return [content] if content.strip() else []
    if not isinstance(content, list):
        return []
    if all(isinstance(part, str) for part in content):
        return [part for part in content if part.strip()]
    text = " ".join(filter(None, map(_part_text, content)))
    return [text] if text else []


def _part_text(part: Any) -> str | None:
    """The text of a part: a string, {"text": ...} or ["text", ...]."""
    if isinstance(part, list):
        part = {"text": part[1]} if len(part) == 2 and part[0] == "text" else None
    text = part.get("text") if isinstance(part, Mapping) else part
    return text if isinstance(text, str) else None


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
