"""What tells that two images are the same: their bytes, their pixels, and how they look."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from datamodules.digests import digest
from datamodules.perceptual import nearest, perceptual_hash
from mrm.errors import RecordError
from mrm.images import decode_image


@dataclass(frozen=True)
class Fingerprint:
    """An image's digests, of its bytes and of its decoded pixels, and its perceptual hash; None where it has none."""

    data: bytes
    pixels: bytes | None = None
    look: int | None = None


def fingerprint_of(data: bytes, image: Image.Image | None) -> Fingerprint:
    """The fingerprint of encoded bytes and, where they decode, of the upright RGB image in them."""
    if image is None:
        return Fingerprint(image_digest(data))
    size = f"{image.width}x{image.height}".encode()
    return Fingerprint(image_digest(data), digest(size, image.tobytes()), perceptual_hash(image))


def fingerprint(data: bytes) -> Fingerprint:
    """The fingerprint of encoded bytes; of the bytes alone where they do not decode."""
    try:
        return fingerprint_of(data, decode_image(data, name="image"))
    except RecordError:
        return fingerprint_of(data, None)


def image_digest(data: bytes) -> bytes:
    """128 bits of BLAKE2b over an image's bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass
class ImageMatcher:
    """Finds an image among those of benchmarks. Picklable.

    Args:
        distance: bits, of 64, in which perceptual hashes may differ; a negative one compares bytes and pixels alone.
        names: one an image.
    """

    distance: int
    names: list[str] = field(default_factory=list)
    _exact: dict[bytes, int] = field(default_factory=dict)
    _looks: Sequence[int] | np.ndarray = field(default_factory=list)  # uint64 [B] once complete
    _named: list[int] = field(default_factory=list)  # [B] into `names`

    @classmethod
    def of(cls, images: Sequence[tuple[str, Fingerprint]], distance: int) -> ImageMatcher:
        """A matcher of named fingerprints."""
        made = cls(distance)
        looks = []
        for number, (name, found) in enumerate(images):
            made.names.append(name)
            for exact in (found.data, found.pixels):
                if exact is not None:
                    made._exact.setdefault(exact, number)
            if found.look is not None:
                looks.append(found.look)
                made._named.append(number)
        made._looks = np.array(looks, dtype=np.uint64)
        return made

    def find(self, data: bytes, image: Image.Image) -> str | None:
        """How an image occurs among the benchmarks' images, and as which; None where it does not.

        Args:
            data: encoded bytes.
            image: what they decode to, RGB.
        """
        wanted = fingerprint_of(data, image)
        for what, exact in (("bytes", wanted.data), ("pixels", wanted.pixels)):
            if exact in self._exact:
                return f"has the {what} of {self.names[self._exact[exact]]}"
        assert isinstance(self._looks, np.ndarray)
        if wanted.look is None or (found := nearest(self._looks, wanted.look)) is None or found[1] > self.distance:
            return None
        return f"looks like {self.names[self._named[found[0]]]} ({found[1]} of 64 bits differ)"
