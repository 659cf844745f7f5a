"""MJ-Bench text-to-image preferences: `captions.json` and `images/` beside it (github.com/MJ-Bench/MJ-Bench, MIT).

`label_0` is 1 where image_0 is the better one, 0 where image_1 is. In the published files image_0 always is:
the sides are therefore balanced afterwards (see `mrm.construction.reformulation`). Strength is unknown.
The published list of captions names images that some copies of the folder lack: those records are skipped as
"image not in this copy", which unlike a missing file elsewhere is to be expected.
Known shortcut: the edited image was encoded again as a whole, so that its compression alone gives it away.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Counted, Item, get_field, parse_each, read_image, read_records, safe_key
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError, RecordError

NAME = "mj_bench"
NOT_IN_COPY = "image not in this copy"


def read(input: Path) -> Iterator[Item]:
    """Reads the folder of captions and images.

    Args:
        input: the folder.
    """
    folder = Path(input)
    if not (folder / "captions.json").is_file():
        raise ConfigError(f"input: {folder} is no MJ-Bench folder; it must hold captions.json and images/.")
    records = read_records(folder / "captions.json")

    def key_of(number: int, record: dict[str, Any]) -> str:
        return safe_key(NAME, f"{number:05d}-{Path(str(record.get('image_0'))).stem}")

    return Counted(parse_each(records, key_of, parse_record, folder=folder / "images"), length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, folder: Path) -> T2IPreference:
    """One record as a preference between its two images.

    Raises:
        RecordError: for a missing image or field, or a label other than 0 and 1.
    """
    label = get_field(record, "label_0", int)
    if label not in (0, 1):
        raise RecordError(
            "no preference", f"record {key!r}: label_0 is {label!r}; 1 prefers image_0 and 0 prefers image_1."
        )
    names = [get_field(record, name, str) for name in ("image_0", "image_1")]
    better, worse = names if label == 1 else names[::-1]
    return T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "caption", str),
        preferred=_read_image(better, folder),
        other=_read_image(worse, folder),
        meta={"preferred_image": better, "other_image": worse},
    )


def _read_image(name: str, folder: Path) -> bytes:
    try:
        return read_image(name, folder)
    except RecordError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise RecordError(NOT_IN_COPY, str(error)) from error
        raise
