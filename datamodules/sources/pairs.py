"""What the readers of plain pairs share: a table's row of question, chosen and rejected, and a JSON list beside its images."""

from __future__ import annotations

from collections.abc import Callable
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Counted, Item, get_field, numbered_key, parse_each
from datamodules.sources.images import Images, image_of
from datamodules.sources.records import find_file, read_records
from datamodules.sources.turns import kept, pair_sample
from mrm.preference import PreferenceSample


def row_pair(
    key: str,
    source: str,
    row: dict[str, Any],
    images: Images,
    *,
    texts: dict[str, Any] | None = None,
    extras: tuple[str, ...] = (),
) -> PreferenceSample:
    """A table's row as a pair.

    Args:
        key, source: of the sample.
        row: has the column `image`.
        images: where an image that is given by its path only lies.
        texts: has `question`, `chosen` and `rejected`; the row itself by default.
        extras: columns that go to meta.

    Raises:
        RecordError: for a missing field, or a broken rule of the record.
    """
    said = row if texts is None else texts
    return pair_sample(
        key,
        source,
        get_field(said, "question", str),
        [image_of(get_field(row, "image", object), images, "image")],
        get_field(said, "chosen", str),
        get_field(said, "rejected", str),
        meta=kept(row, *extras),
    )


def read_list(
    input: str | Path, media_dir: str | None, name: str, parse_record: Callable[..., PreferenceSample]
) -> Counted[Item]:
    """A JSON list that is one file, or alone in its folder, with a pair a record.

    Args:
        input: the file or folder.
        media_dir: where the images lie; the file's folder by default.
        name: the source's, which keys begin with.
        parse_record: takes a record, `key` and `images`.
    """
    path = find_file(input)
    records = read_records(path)
    images = Images(path.parent, media_dir)
    return Counted(parse_each(records, numbered_key(name, "id"), parse_record, images=images), length_hint(records))
