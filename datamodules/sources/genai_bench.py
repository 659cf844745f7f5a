"""GenAI-Bench (TIGER-Lab), image generation: votes between two models' images of a prompt, from an arena.

`TIGER-Lab/GenAI-Bench`, config `image_generation`: Parquet with `prompt`, `left_image`, `right_image`, `left_model`, `right_model`,
`vote_type` (leftvote, rightvote, tievote, bothbad_vote). Votes for none are skipped as "tie". One vote: no strength. It is a
test set. (`BaiqiL/GenAI-Bench` is another dataset of that name.)
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import TIE, Card, Counted, Item, get_field, numbered_key, parse_each, surprise
from datamodules.sources.images import Images, image_of
from datamodules.sources.location import folder_of
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError, RecordError

NAME = "genai_bench"
CARD = Card("TIGER-Lab/GenAI-Bench (image_generation)", "CC BY 4.0", "1,735 votes, a test set", "text-to-image")
TIES = ("tievote", "bothbad_vote", "tie", "bothbad")
SIDES = {"leftvote": 0, "rightvote": 1}


def read(input: str | Path, *, split: str | None = None) -> Iterator[Item]:
    """Reads the Parquet files of the config image_generation.

    Args:
        input: the dataset's folder, or one file.
        split: only files of that split (test, test_v1; in older copies train, train_v1). Needed where a folder holds several:
            they share votes.
    """
    files = find_tables(input, config="image_generation")
    splits = sorted({file.stem.partition("-")[0] for file in files})
    if split is not None:
        files = [file for file in files if file.stem.partition("-")[0] == split]
    if not files or (split is None and len(splits) > 1):
        raise ConfigError(f"split: give one of {', '.join(splits)}, which {input} holds.")
    rows = read_rows(files, ("prompt", "left_image", "right_image", "vote_type"), ("left_model", "right_model"))
    images = Images(folder_of(input))
    return Counted(parse_each(rows, numbered_key(NAME), parse_record, images=images), length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> T2IPreference:
    """One vote as a preference.

    Raises:
        RecordError: "tie"; for a missing field or image, or an unknown vote.
    """
    vote = get_field(record, "vote_type", str)
    if vote in TIES:
        raise RecordError(TIE, f"record {key!r}: vote_type is {vote!r}.")
    if vote not in SIDES:
        raise surprise("vote_type", vote, f"one of {', '.join((*SIDES, *TIES))}")
    better = SIDES[vote]
    pictures = [image_of(get_field(record, name, object), images, name) for name in ("left_image", "right_image")]
    return T2IPreference(
        key=key,
        source=NAME,
        caption=get_field(record, "prompt", str),
        preferred=pictures[better],
        other=pictures[1 - better],
        meta=kept(record, "left_model", "right_model", "vote_type"),
    )
