"""Samples, images and data sets made on the spot."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.index import Index
from datamodules.shards import ShardWriter
from mrm.errors import RecordError
from mrm.model.encoding import EncodedSample
from mrm.preference import Message, Pair, PreferenceSample


def make_image(number: int = 0, kind: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def make_sample(
    key: str,
    *,
    images: Iterable[bytes] | None = None,
    responses: int = 2,
    pairs: Iterable[Pair] | None = None,
    source: str = "made",
    meta: dict | None = None,
) -> PreferenceSample:
    """A sample of one image, two responses and one pair of strength 0.5, unless told otherwise."""
    data = (make_image(),) if images is None else tuple(images)
    return PreferenceSample(
        key=key,
        source=source,
        prompt=(Message("user", "<image>" * len(data) + f"What is in {key}?"),),
        images=data,
        responses=tuple(f"answer {number} to {key}" for number in range(responses)),
        pairs=(Pair(0, 1, 0.5),) if pairs is None else tuple(pairs),
        meta=meta or {},
    )


def make_dataset(
    directory: Path, samples: Iterable[PreferenceSample] | int, *, prefix: str = "k", **options: int
) -> Index:
    """Writes samples (or that many plain ones) to shards, and loads the index."""
    if isinstance(samples, int):
        samples = [make_sample(f"{prefix}{number}", images=(), source=prefix) for number in range(samples)]
    with ShardWriter(directory, **options) as writer:
        for sample in samples:
            writer.write(sample)
    return Index.load(directory)


class ToyEncoder:
    """Stands in for `mrm.model.encoding.Encoder`: characters are tokens; images only have to decode."""

    pad_id = 0
    max_pixels = 1 << 20
    filler = None

    def encode(self, sample: PreferenceSample) -> EncodedSample:
        for data in sample.images:
            try:
                Image.open(io.BytesIO(data)).load()
            except OSError as error:
                raise RecordError("image does not decode", f"sample {sample.key!r}: {error}") from error
        prefix = np.frombuffer(sample.prompt[-1].content.encode(), np.uint8).astype(np.int64)
        return EncodedSample(
            key=sample.key,
            prefix_ids=prefix,
            prefix_positions=np.tile(np.arange(len(prefix)), (3, 1)),
            response_ids=tuple(np.frombuffer(r.encode(), np.uint8).astype(np.int64) for r in sample.responses),
            response_start=len(prefix),
            pixel_values=None,
            image_grid_thw=np.zeros((0, 3), np.int64),
            cut_tokens=0,
        )
