"""LLaVA-Critic, the pairwise part: GPT-4o's comparisons of two answers about an image, as a judge's training data.

`lmms-lab/llava-critic-113k` (Parquet, folder `pairwise`) or its copy `CodeGoat24/LLaVA-Critic-113k` (`pairwise/train_data.json` and an
image folder). The human turn shows `Question: [...]`, `Response 1: [...]` (or A, or `The first response`) and `Response 2: [...]`; the
other turn ends in the verdict. Verdicts of a tie are skipped as "tie", prompts and verdicts of another form by name. No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import TIE, Card, Counted, Item, Records, numbered_key, parse_each, surprise
from datamodules.sources.comparisons import parse_comparison, parse_verdict
from datamodules.sources.images import Images, image_of, record_images
from datamodules.sources.location import existing, folder_of
from datamodules.sources.records import read_records
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept, messages_of, pair_sample, until_answer
from mrm.errors import RecordError
from mrm.preference import PreferenceSample

NAME = "llava_critic"
CARD = Card("lmms-lab/llava-critic-113k (pairwise)", "Apache 2.0", "40,154 comparisons", "image-text")


def read(input: str | Path, *, media_dir: str | None = None) -> Iterator[Item]:
    """Reads the Parquet files of the pairwise part, or its JSON list.

    Args:
        input: the dataset's folder, the folder `pairwise`, or one file.
        media_dir: a folder or zip file of images, for the JSON list; its folder by default.
    """
    place = existing(input)
    listed = next((f for f in (place / "pairwise/train_data.json", place / "train_data.json") if f.is_file()), None)
    if place.suffix == ".json":
        listed = place
    records: Records
    if listed is not None:
        records = read_records(listed)
        images = Images(listed.parent, media_dir)
    else:
        records = read_rows(find_tables(place, config="pairwise"), ("conversations", "image"), ("id", "source"))
        images = Images(folder_of(place), media_dir)
    return Counted(parse_each(records, numbered_key(NAME, "id"), parse_record, images=images), length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One record as a pair.

    Raises:
        RecordError: "tie"; for a missing field, a prompt or verdict of another form, or a broken rule of the record.
    """
    turns, verdict = until_answer(messages_of(record, "conversations"), "conversations")
    question, first, second = parse_comparison("\n".join(turn.content for turn in turns if turn.role == "user"))
    preferred = parse_verdict(verdict)
    if preferred is None:
        raise RecordError(TIE, f"record {key!r}: the verdict prefers none.")
    chosen, rejected = (first, second) if preferred == 0 else (second, first)
    pictures = pictures_of(record, images)
    return pair_sample(
        key,
        NAME,
        question,
        pictures,
        chosen,
        rejected,
        meta={**kept(record, "id", "source"), "preferred": preferred + 1},
    )


def pictures_of(record: dict[str, Any], images: Images) -> list[bytes]:
    """The images of a record, whose field is `images` or `image`: paths, or columns of the Hugging Face kind.

    Raises:
        RecordError: where one is missing, or there is none.
    """
    given = record_images(record.get("images") or record.get("image"))
    if not given:
        raise surprise("image", record.get("image"), "a path, a list of paths, or an image")
    return [images.read(each) if isinstance(each, str) else image_of(each, images, "image") for each in given]
