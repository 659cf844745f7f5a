"""Rewards of rows that a program holds, by a saved model: the plain format as of `mrm.score`, with images as paths, bytes or base64."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sources.base import safe_key
from datamodules.sources.images import read_image
from mrm.devices import pick_device
from mrm.errors import ConfigError, RecordError
from mrm.images import decode_image
from mrm.model.encoding import EncodedSample
from mrm.model.packing import check_fits
from mrm.model.saving import load_reward_model
from mrm.score import score_batch
from mrm.score_input import Candidates, parse_candidates

Row = Mapping[str, Any]


class RowScorer:
    """A saved model that scores rows.

    Args:
        model: its folder.
        device: auto | cpu | cuda.
        batch_size: rows that are scored together.
        settings: of `mrm.model.saving.load_reward_model`: max_pixels, dtype, attention, row_tokens.

    Raises:
        ConfigError: for a folder that holds no reward model.
    """

    def __init__(self, model: str | Path, *, device: str = "auto", batch_size: int = 16, **settings: Any) -> None:
        self.device, self.batch_size = pick_device(device), batch_size
        self.row_tokens = settings.get("row_tokens")
        loaded, self.encoder = load_reward_model(model, device=self.device.type, **settings)
        self.model = loaded.to(self.device).eval()

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """A line a row, in their order.

        Args:
            rows: `{"prompt", "responses"}`, or with a preference; `images` are paths, bytes, base64 or `data:` addresses.

        Returns:
            `{"key", "rewards": [one a response]}`, with `chosen` and `rejected` where the row has exactly one pair. A row that cannot be
            used has `rewards` None, and says why in `error`.

        Raises:
            ConfigError: where there are rows, and none can be used.
        """
        lines: list[dict[str, Any] | None] = [None] * len(rows)
        batch: list[tuple[int, Candidates, EncodedSample]] = []
        for number, row in enumerate(rows):
            try:
                sample = _parse(row, number)
                encoded = self.encoder.encode(sample)
                check_fits(encoded, self.row_tokens, self.model.layout)
                batch.append((number, sample, encoded))
            except RecordError as error:
                lines[number] = {"key": str(row.get("key", _key(number))), "rewards": None, "error": str(error)}
            if len(batch) == self.batch_size:
                self._score(batch, lines)
                batch = []
        if batch:
            self._score(batch, lines)
        done = [line for line in lines if line is not None]
        if done and all(line["rewards"] is None for line in done):
            raise ConfigError(f"none of the {len(done)} rows can be used; the first: {done[0]['error']}")
        return done

    def _score(
        self, batch: Sequence[tuple[int, Candidates, EncodedSample]], lines: list[dict[str, Any] | None]
    ) -> None:
        samples = [(sample, encoded) for _, sample, encoded in batch]
        scored = score_batch(self.model, self.encoder, samples, row_tokens=self.row_tokens, device=self.device)
        for (number, _, _), line in zip(batch, scored, strict=True):
            if not np.isfinite(line["rewards"]).all():
                line = {"key": line["key"], "rewards": None, "error": f"the rewards are {line['rewards']}."}
            lines[number] = line


def _parse(row: Row, number: int) -> Candidates:
    """One row as what is scored."""
    record = {str(name): plain for name, value in row.items() if (plain := _plain(value)) is not None}
    images = record.get("images", [])
    if not isinstance(images, list):
        raise RecordError("malformed field", f"row {number}: `images` is {type(images).__name__}, it must be a list.")
    record["images"] = [image_bytes(image) for image in images]
    return parse_candidates(record, key=_key(number), source="rows", folder=Path.cwd())


def _key(number: int) -> str:
    return safe_key("row", number)


def _plain(value: Any) -> Any:
    """What tables hold as what JSON holds: arrays as lists, numbers of NumPy as Python's, a missing value as None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def image_bytes(image: Any) -> bytes:
    """An image's encoded bytes.

    Args:
        image: the bytes; a path; base64, with or without `data:...;base64,` before it.

    Raises:
        RecordError: for what is none of these.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if not isinstance(image, str) or not image:
        raise RecordError("malformed field", f"an image must be bytes, a path or base64, found {type(image).__name__}.")
    try:
        if image.startswith("data:"):
            return base64.b64decode(image.partition(",")[2], validate=True)
        if _is_file(image):
            return read_image(image, Path.cwd())
        data = base64.b64decode(image, validate=True)
        decode_image(data, name="it")  # a path that is not there may be all letters, too
        return data
    except (ValueError, RecordError) as error:  # of base64; of an image
        raise RecordError(
            "image missing", f"image {image[:80]!r}: there is no such file, and as base64 it holds no image ({error})."
        ) from error


def _is_file(text: str) -> bool:
    try:
        return os.path.isfile(text)
    except ValueError:  # a null character
        return False
