"""What passes between the stages: a prompt, its images by name, and the responses that it has so far.

Images are named by digest and path, not carried along: a stage reads them when it asks about them. Those that came as
bytes are kept once each in the work folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mrm.construction.draws import uniform
from mrm.errors import RecordError
from mrm.preference import Message

FOLDER = "images"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image: its path, absolute or within the work folder, and the sha256 of its bytes in hex."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Response:
    """A response: its text, and the name of the model that gave it ("given" where the input brought it)."""

    text: str
    model: str


@dataclass(frozen=True)
class PromptRecord:
    """A prompt on its way to becoming a preference sample.

    Args:
        key, source, prompt, meta: as of `mrm.preference.PreferenceSample`.
        images: in the prompt's order.
        reference: a reference answer, which may be wrong; None where there is none.
        responses: what there is to judge; distinct texts, none before the stage `respond` has given some.
    """

    key: str
    source: str
    prompt: tuple[Message, ...]
    images: tuple[ImageRef, ...] = ()
    reference: str | None = None
    responses: tuple[Response, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "key": self.key,
            "source": self.source,
            "prompt": [asdict(message) for message in self.prompt],
            "images": [asdict(image) for image in self.images],
            "reference": self.reference,
            "responses": [asdict(response) for response in self.responses],
            "meta": dict(self.meta),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PromptRecord:
        """The record that `to_json` gave."""
        return cls(
            record["key"],
            record["source"],
            tuple(Message(**message) for message in record["prompt"]),
            tuple(ImageRef(**image) for image in record["images"]),
            record["reference"],
            tuple(Response(**response) for response in record["responses"]),
            record["meta"],
        )


def distinct(responses: Sequence[Response]) -> tuple[Response, ...]:
    """The responses without those whose text, but for space around it, an earlier one has; empty ones are left out too.

    Half of a surrogate pair, which some models write and no file can hold as UTF-8, becomes a question mark.
    """
    found: dict[str, Response] = {}
    for response in responses:
        sound = replace(response, text=response.text.encode("utf-8", "replace").decode("utf-8"))
        if text := sound.text.strip():
            found.setdefault(text, sound)
    return tuple(found.values())


def shuffled(key: str, responses: Sequence[Response]) -> tuple[Response, ...]:
    """The responses in an order drawn by the key: that of the models would say something about quality."""
    return tuple(sorted(responses, key=lambda response: uniform("order", key, response.text)))


class ImageStore:
    """The images of a work folder.

    Args:
        work: the folder.
    """

    def __init__(self, work: Path) -> None:
        self._work = work

    def keep(self, data: bytes) -> ImageRef:
        """Writes an image that came as bytes, unless it is there already."""
        digest = hashlib.sha256(data).hexdigest()
        inside = f"{FOLDER}/{digest[:2]}/{digest}"
        path = self._work / inside
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{digest}.{os.getpid()}")
            temporary.write_bytes(data)
            temporary.replace(path)
        return ImageRef(inside, digest)

    def read(self, image: ImageRef) -> bytes:
        """The bytes of an image.

        Raises:
            RecordError: if it is no longer there, or another one.
        """
        path = self._work / image.path  # an absolute path stays what it is
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RecordError(
                "image missing", f"image {path}: {error.strerror}; put it back, or begin anew."
            ) from error
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise RecordError("image changed", f"image {path}: is another one than at the start; put it back.")
        return data


def refer(path: Path, data: bytes) -> ImageRef:
    """An image that stays where it is."""
    return ImageRef(str(path.absolute()), hashlib.sha256(data).hexdigest())
