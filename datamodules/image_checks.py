"""What is done to a record's images, in whichever process: decode each once, look for it in benchmarks, shrink it."""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.contamination import IMAGE
from datamodules.fingerprints import ImageMatcher, image_digest
from datamodules.resizing import Resizing
from mrm.errors import RecordError
from mrm.images import decode_image


@dataclass(frozen=True)
class ImageTask:
    """The images of one record: its key and their encoded bytes."""

    key: str
    images: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.images))


@dataclass(frozen=True)
class ImageReport:
    """What came of them.

    Args:
        digests: of each image's bytes as published.
        smaller: each image's new bytes; None where it keeps its own.
        problem: why the record cannot be used.
    """

    digests: tuple[bytes, ...] = ()
    smaller: tuple[bytes | None, ...] = ()
    problem: RecordError | None = None


@dataclass(frozen=True)
class ImageChecks:
    """The checks of one run. Picklable.

    Args:
        max_image_pixels: width x height at most.
        benchmarks: finds images that must not be trained on.
        resizing: how large images are written.
    """

    max_image_pixels: int
    benchmarks: ImageMatcher | None = None
    resizing: Resizing | None = None

    def __call__(self, task: ImageTask) -> ImageReport:
        smaller = []
        try:
            for number, data in enumerate(task.images):
                smaller.append(self._check(data, f"sample {task.key!r}: image {number}"))
        except RecordError as error:
            return ImageReport(problem=error)
        return ImageReport(tuple(map(image_digest, task.images)), tuple(smaller))

    def _check(self, data: bytes, name: str) -> bytes | None:
        image = decode_image(data, name=name, max_pixels=self.max_image_pixels)
        if self.benchmarks is not None and (found := self.benchmarks.find(data, image)) is not None:
            raise RecordError(IMAGE, f"{name} {found}.")
        return None if self.resizing is None else self.resizing.smaller(image, data)
