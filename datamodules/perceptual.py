"""A hash of how an image looks: copies that were scaled or encoded again have nearly the same bits.

The pHash of Zauner (2010) as the `imagehash` package computes it: 32 x 32 greys, their cosine transform, and which of its
8 x 8 lowest frequencies lie above their median. Measured on 423 drawings of a mathematics set, 89,253 pairs of different ones:
none within 4 bits, 3 within 6 (the simpler difference hash: 5 and 11); within 4 bits of its original were 92 % of copies at half
the size and JPEG quality 75, 3/4 and 90, or 1 and 50.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

BITS = 64
_SIDE, _LOW = 32, 8
_FLAT = 2.0  # standard deviation of the greys, of 255, below which an image has no pattern to compare
_K = np.arange(_SIDE)
_COSINES = np.cos(np.pi * (2 * _K[None] + 1) * _K[:_LOW, None] / (2 * _SIDE))  # [8, 32]: the lowest rows of a DCT-II


def perceptual_hash(image: Image.Image) -> int | None:
    """64 bits of an RGB image's pattern; None for an image of (nearly) one grey, which has none.

    Args:
        image: RGB.
    """
    reduced = image if min(image.size) < 4 * _SIDE else image.reduce(min(image.size) // (2 * _SIDE))
    small = reduced.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    greys = np.asarray(small, dtype=np.float64)
    if greys.std() < _FLAT:
        return None
    low = (_COSINES @ greys @ _COSINES.T).ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def nearest(hashes: npt.NDArray[np.uint64], wanted: int) -> tuple[int, int] | None:
    """The nearest hash and how many bits differ: (number, bits); None where there are no hashes.

    Args:
        hashes: uint64 [B].
        wanted: 64 bits.
    """
    if not len(hashes):
        return None
    bits = np.bitwise_count(hashes ^ np.uint64(wanted))
    number = int(bits.argmin())
    return number, int(bits[number])
