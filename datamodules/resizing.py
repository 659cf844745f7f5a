"""Images written at the model's resolution, so that training decodes and shrinks less.

An image larger than the budget gets the very size that the model's image processor would bring it to: encoding it later
finds nothing to shrink and gives the same number of image tokens. Smaller images keep their bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from mrm.errors import ConfigError

_QUALITY = 95  # of a JPEG that was one before; without chroma subsampling
TargetSize = Callable[[int, int], tuple[int, int]]  # (width, height) -> (width, height)


@dataclass(frozen=True)
class Resizing:
    """How large images are written. Picklable.

    Args:
        max_pixels: width x height of an image that keeps its bytes.
        target_size: the size that the model's image processor brings an image to at that budget.
        resample: Pillow's number of the processor's filter.
    """

    max_pixels: int
    target_size: TargetSize
    resample: int = Image.Resampling.BICUBIC

    def smaller(self, image: Image.Image, data: bytes) -> bytes | None:
        """The image encoded at the model's size, or None where its bytes should be kept.

        They are kept within the budget, and where the processor's rule is not stable: an extremely long image would be
        shrunk once more, to fewer tokens, when it is read again.

        Args:
            image: RGB, upright.
            data: the bytes that it was decoded from.
        """
        if image.width * image.height <= self.max_pixels:
            return None
        width, height = self.target_size(*image.size)
        if width * height >= image.width * image.height or self.target_size(width, height) != (width, height):
            return None
        resized = image.resize((width, height), Image.Resampling(self.resample))
        buffer = io.BytesIO()
        if _is_lossy(data):
            resized.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
        else:
            resized.save(buffer, "PNG")
        return buffer.getvalue()


def resizing_for(backbone: str, max_pixels: int) -> Resizing:
    """The rule of a backbone's image processor at a budget.

    Args:
        backbone: "tiny", a folder, or a name on the Hugging Face hub.
        max_pixels: as the model's `max_pixels_train` or `max_pixels_score`.

    Raises:
        ConfigError: for a backbone that cannot be read or is of an unknown family.
    """
    from mrm.model.backbones import model_type, resolve  # PyTorch: the other settings do without
    from mrm.model.families import get_family

    try:
        path = resolve(backbone)
        family = get_family(model_type(path))
        processor = family.at_resolution(family.load_image_processor(path), max_pixels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"backbone: the image processor of {backbone!r} cannot be read: {error}") from error
    return Resizing(max_pixels, partial(_target_size, family, processor), int(processor.resample))


def _target_size(family: Any, processor: Any, width: int, height: int) -> tuple[int, int]:
    return family.target_size(processor, width, height)


def _is_lossy(data: bytes) -> bool:
    """Whether the bytes are a JPEG or a lossy WebP; what was written without loss stays without."""
    return data.startswith(b"\xff\xd8\xff") or (data[8:12] == b"WEBP" and b"VP8 " in data[12:64])
