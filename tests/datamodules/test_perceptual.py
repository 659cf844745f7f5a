"""The perceptual hash: what it overlooks, what it tells apart, and the nearest of many."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from datamodules.perceptual import nearest, perceptual_hash


def scene(seed: int, size: int = 256) -> Image.Image:
    """Coloured shapes on a light ground."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), (230, 235, 240))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, w, h = (int(v * size) for v in rng.random(4) * (0.8, 0.8, 0.4, 0.4))
        draw.ellipse((x, y, x + w + 8, y + h + 8), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def bits(a: Image.Image, b: Image.Image) -> int:
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("seed", range(5))
def test_perceptual_hash_copies_are_near_and_others_far(seed):
    image = scene(seed)
    for copy in (
        image.resize((128, 128)),
        image.resize((400, 300)),
        as_jpeg(image, 40),
        ImageEnhance.Brightness(image).enhance(0.9),
    ):
        assert bits(image, copy) <= 4
    assert bits(image, scene(seed + 100)) > 12


def test_perceptual_hash_half_the_bits_are_set():
    # the 8 x 8 frequencies against their own median: 32 lie above it
    assert perceptual_hash(scene(0)).bit_count() == 32


@pytest.mark.parametrize("colour", ["white", "black", (17, 40, 200)])
def test_perceptual_hash_image_without_a_pattern_has_none(colour):
    assert perceptual_hash(Image.new("RGB", (64, 64), colour)) is None


def test_nearest_counts_differing_bits():
    hashes = np.array([0b1111, 0b0001, 1 << 63], dtype=np.uint64)
    assert nearest(hashes, 0b0011) == (1, 1)
    assert nearest(hashes, (1 << 63) | (1 << 40)) == (2, 1)
    assert nearest(np.zeros(0, np.uint64), 5) is None
