"""Image checks: every format of the shards passes, cut and oversized ones don't."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mrm.errors import RecordError
from mrm.images import UNDECODABLE, decode_image


def encoded(kind: str, size=(40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def reason_of(data: bytes, **options) -> str:
    with pytest.raises(RecordError, match="picture") as error:
        decode_image(data, name="picture", **options)
    return error.value.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_decode_image_whole_passes_and_half_does_not(kind):
    data = encoded(kind)
    decode_image(data, name="picture")
    assert reason_of(data[: len(data) // 2]) == UNDECODABLE


@pytest.mark.parametrize("data", [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_decode_image_no_image_does_not_decode(data):
    assert reason_of(data) == UNDECODABLE


def test_decode_image_over_limit_is_too_large():
    assert reason_of(encoded("PNG"), max_pixels=1199) == "image too large"
    decode_image(encoded("PNG"), name="picture", max_pixels=1200)


def test_decode_image_huge_header_is_refused_before_decoding():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert reason_of(bomb) == "image too large"


def test_decode_image_thread_of_an_image_is_too_narrow():
    assert reason_of(encoded("PNG", (201, 1))) == "image too narrow"
    decode_image(encoded("PNG", (200, 1)), name="picture")


def test_decode_image_transparency_is_over_white():
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue(), name="picture").getpixel((0, 0)) == (255, 255, 255)


def test_decode_image_exif_orientation_is_applied():
    image, exif, buffer = Image.new("RGB", (40, 30)), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue(), name="picture").size == (30, 40)


RAMP = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)


def saved(pixels: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "order"), [("PNG", "<"), ("TIFF", "<"), ("TIFF", ">")])
def test_decode_image_16_bits_are_scaled(kind, order):
    image = decode_image(saved(RAMP.astype(f"{order}u2"), kind), name="picture")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image)[..., 0], RAMP // 256)


def test_decode_image_16_bits_transparent_grey_is_over_white():
    image = decode_image(saved(RAMP, "PNG", transparency=int(RAMP[0, 1])), name="picture")
    assert image.getpixel((1, 0)) == (255, 255, 255)
    assert image.getpixel((2, 0)) == (RAMP[0, 2] // 256,) * 3


def test_decode_image_12_bits_in_tiff_are_scaled():
    data = saved(np.full((8, 8), 0x7777, np.uint16), "TIFF")
    bits = struct.pack("<HHI", 258, 3, 1)  # the tag, a short, one of them
    data = data.replace(bits + struct.pack("<H", 16), bits + struct.pack("<H", 12))
    assert decode_image(data, name="picture").getpixel((0, 0)) == (0x77, 0x77, 0x77)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_decode_image_of_unknown_range_is_refused(kind):
    assert reason_of(saved(np.ones((8, 8), kind), "TIFF")) == "image range unknown"


def written(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_image_every_orientation_in_every_format_stands_upright(kind, orientation):
    """A picture with one red corner, stored so that the tag brings that corner to the upper left."""
    upright = Image.new("RGB", (48, 32), (0, 0, 255))
    upright.paste((255, 0, 0), (0, 0, 16, 16))
    turn = Image.Transpose
    inverse = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE}
    inverse |= {6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    stored = upright.transpose(inverse[orientation]) if orientation in inverse else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(written(stored, kind, exif=exif), name="picture")
    assert image.size == (48, 32)
    assert image.getpixel((6, 6))[0] > 200 and image.getpixel((40, 26))[2] > 200


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_decode_image_cmyk_keeps_its_colours(kind):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow ink: red
    red, green, blue = decode_image(written(image, kind), name="picture").getpixel((8, 8))
    assert red > 230 and green < 25 and blue < 25


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_decode_image_palette_gives_its_colours(kind):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    assert decode_image(written(image, kind), name="picture").getpixel((0, 0)) == (10, 200, 30)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_decode_image_transparent_palette_colour_is_white(kind):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    image.putpixel((0, 0), 0)
    decoded = decode_image(written(image, kind, transparency=1), name="picture")
    assert decoded.getpixel((1, 1)) == (255, 255, 255) and decoded.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_decode_image_half_transparent_red_is_pink(kind, options):
    data = written(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), kind, **options)
    assert decode_image(data, name="picture").getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("mode", ["LA", "1", "L"])
def test_decode_image_grey_kinds_become_rgb(mode):
    image = Image.new(mode, (4, 4), {"LA": (100, 255), "1": 1, "L": 100}[mode])
    expected = (255,) * 3 if mode == "1" else (100,) * 3
    assert decode_image(written(image, "PNG"), name="picture").getpixel((0, 0)) == expected


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_decode_image_animation_is_its_first_frame(kind, options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = written(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    decoded = decode_image(data, name="picture")
    assert decoded.getpixel((4, 4)) == (255, 0, 0)
    assert decoded.resize((4, 4)).size == (4, 4) and np.asarray(decoded).shape == (8, 8, 3)


def test_decode_image_16_bit_colours_are_scaled():
    raw = b"".join(b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0) * 4 for _ in range(4))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    assert decode_image(data, name="picture").getpixel((0, 0)) == (255, 128, 0)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "JPEG", "PNG"])
def test_decode_image_large_header_is_refused_without_decoding(kind, monkeypatch):
    from PIL import ImageFile, WebPImagePlugin

    data = encoded(kind, (300, 200))

    def never(self, *args):
        raise AssertionError("decoded")

    for owner in (ImageFile.ImageFile, WebPImagePlugin.WebPImageFile):
        monkeypatch.setattr(owner, "load", never)
    assert reason_of(data, max_pixels=59_999) == "image too large"


def test_decode_image_16_bits_where_white_is_zero_are_not_a_negative():
    data = saved(RAMP, "TIFF")
    photometric = struct.pack("<HHI", 262, 3, 1)  # the tag, a short, one of them
    assert data.count(photometric + struct.pack("<H", 1)) == 1
    data = data.replace(photometric + struct.pack("<H", 1), photometric + struct.pack("<H", 0))
    np.testing.assert_array_equal(np.asarray(decode_image(data, name="picture"))[..., 0], (65535 - RAMP) // 256)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", [b"Exif\0\0no TIFF header", b"Exif\0\0MM"])
def test_decode_image_with_a_damaged_exif_block_is_kept_unturned(kind, block):
    assert decode_image(written(Image.new("RGB", (40, 30)), kind, exif=block), name="picture").size == (40, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_decode_image_turned_once_is_not_turned_again(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(written(Image.new("RGB", (40, 30)), kind, exif=exif), name="picture")
    assert ImageOps.exif_transpose(image).size == image.size == (30, 40)
