"""Decoding images from bytes that nobody vouches for.

The size is read from the header and checked before anything is decoded. What a person would see is what comes out: EXIF
orientation applied, transparency over white, the first frame of an animation, 16-bit greys scaled to 8.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mrm.errors import RecordError

UNDECODABLE = "image does not decode"
# The formats that shards hold (JPEG includes MPO). A closed list also keeps Pillow from starting other programs (EPS calls Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_IMAGE_PIXELS = 178_956_970  # where Pillow takes an image for a decompression bomb: 512 MiB decoded as RGB
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262  # the tags BitsPerSample and PhotometricInterpretation
_WHITE_IS_ZERO = 0  # of the latter
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's Orientation
_EXIF_FIELDS = (
    "exif",
    "Raw profile type exif",
    "xmp",
    "XML:com.adobe.xmp",
)  # where Pillow keeps what tells the orientation
MAX_ASPECT_RATIO = 200  # Qwen-VL's image processors refuse anything longer


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decodes an image to RGB.

    Args:
        data: the encoded image.
        name: what to call it in a message.
        max_pixels: width x height at most.

    Raises:
        RecordError: "image does not decode", "image too large", "image too narrow" or "image range unknown".
    """
    try:
        with warnings.catch_warnings():
            # The limit below is the one that counts; Pillow warns at half of its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size, name, max_pixels)
                image.load()
                tags = getattr(image, "tag_v2", {})
                bits, white_is_zero = tags.get(_TIFF_BITS, (16,))[0], tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
                return _to_rgb(_to_8_bits(_upright(image), bits, white_is_zero, name))
    except RecordError:
        raise
    except Image.DecompressionBombError as error:
        raise RecordError("image too large", f"{name}: {error}") from error
    except UnidentifiedImageError as error:  # whose message holds an address in memory, other in every run
        formats = ", ".join(FORMATS)
        raise RecordError(
            UNDECODABLE, f"{name} does not decode ({len(data)} bytes): it is none of {formats}; fetch it again."
        ) from error
    except Exception as error:  # Pillow's decoders raise whatever they like: OSError, SyntaxError, struct.error, ...
        raise RecordError(
            UNDECODABLE, f"{name} does not decode ({len(data)} bytes): {error}; fetch it again."
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """The image as EXIF's orientation says; unturned where its EXIF block is damaged, which takes nothing from the picture."""
    if image.format == "JPEG" and image.info.keys().isdisjoint(_EXIF_FIELDS):
        return image  # most pictures of a training set; asking Pillow takes 1 % of the time of decoding
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # SyntaxError, struct.error, ValueError, ...: whatever Pillow stumbles over
        turn = None
    turned = image if turn is None else image.transpose(turn)
    for field in _EXIF_FIELDS:  # else whoever obeys them would turn it once more
        turned.info.pop(field, None)
    return turned


def _to_8_bits(image: Image.Image, bits: int, white_is_zero: bool, name: str) -> Image.Image:
    """Greys of more than 8 bits scaled down; Pillow would clip them, and make nearly everything white.

    Args:
        image: any image.
        bits: how many of a 16-bit grey are used: TIFF knows 12, too.
        white_is_zero: whether the greys are inverted, as TIFF may have them; Pillow sees to that for 8 bits alone.
        name: what to call it in a message.
    """
    if image.mode in ("I", "F"):
        raise RecordError(
            "image range unknown",
            f"{name} has signed, 32-bit or float pixels, whose black and white nobody knows; save it with 8 or 16 bits.",
        )
    if not image.mode.startswith("I;16"):
        return image
    grey = np.asarray(image)
    light = (1 << bits) - 1 - grey if white_is_zero else grey
    scaled = Image.fromarray((light >> (bits - 8)).astype(np.uint8))
    if (see_through := image.info.get("transparency")) is not None:  # the one grey that stands for transparency
        scaled.putalpha(Image.fromarray((grey != see_through).astype(np.uint8) * 255))
    return scaled


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise RecordError(
            "image too large",
            f"{name} is {width} x {height} pixels, {max_pixels} are allowed; scale it down or raise max_image_pixels.",
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise RecordError(
            "image too narrow", f"{name} is {width} x {height}; at most 1 to {MAX_ASPECT_RATIO} is allowed."
        )
