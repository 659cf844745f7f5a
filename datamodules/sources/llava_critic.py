"""LLaVA-Critic: GPT-4o's comparisons and grades of two answers about an image, as a judge's training data.

`lmms-lab/llava-critic-113k` (Parquet, folders `pairwise` and `pointwise`) or its copy `CodeGoat24/LLaVA-Critic-113k`
(`pairwise/train_data.json`, ... and an image folder). The pairwise human turn shows `Question: [...]`, `Response 1: [...]` (or A, or
`The first response`) and `Response 2: [...]`; the other turn ends in the verdict. Verdicts of a tie are skipped as "tie", prompts and verdicts of
another form by name. No strength.

Of the pointwise part, whose card does not tell its forms, records that grade two answers are read (`graded.py`, after another project's loader of
the published files): strength is the gap of scores / 9, or 1 for `A>>B` and 0.5 for `A>B`. Those that score one answer alone make no pair and
are skipped as "unparsed prompt".
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import TIE, Card, Counted, Item, Records, numbered_key, parse_each, surprise
from datamodules.sources.comparisons import parse_comparison, parse_verdict
from datamodules.sources.graded import parse_graded
from datamodules.sources.images import Images, image_of, record_images
from datamodules.sources.location import existing, folder_of
from datamodules.sources.records import read_records
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import kept, messages_of, pair_sample, until_answer
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample

NAME = "llava_critic"
CARD = Card(
    "lmms-lab/llava-critic-113k",
    "Apache 2.0",
    "40,154 comparisons; 72,782 pointwise records",
    "image-text",
    "pointwise: gap of scores / 9",
)
CONFIGS = ("pairwise", "pointwise")


def read(input: str | Path, *, config: str = "pairwise", media_dir: str | None = None) -> Iterator[Item]:
    """Reads the Parquet files of a part, or its JSON list.

    Args:
        input: the dataset's folder, the part's folder, or one file.
        config: pairwise, or pointwise for records that grade two answers.
        media_dir: a folder or zip file of images, for the JSON list; its folder by default.
    """
    if config not in CONFIGS:
        raise ConfigError(f"config: {config!r} is none of {', '.join(CONFIGS)}.")
    place = existing(input)
    listed = next((f for f in (place / f"{config}/train_data.json", place / "train_data.json") if f.is_file()), None)
    if place.suffix == ".json":
        listed = place
    records: Records
    if listed is not None:
        records = read_records(listed)
        images = Images(listed.parent, media_dir)
    else:
        records = read_rows(find_tables(place, config=config), ("conversations", "image"), ("id", "source"))
        images = Images(folder_of(place), media_dir)
    parse, keys = (parse_record, NAME) if config == "pairwise" else (parse_grades, f"{NAME}-{config}")
    return Counted(parse_each(records, numbered_key(keys, "id"), parse, images=images), length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One record as a pair.

    Raises:
        RecordError: "tie"; for a missing field, a prompt or verdict of another form, or a broken rule of the record.
    """
    prompt, verdict = _prompt_and_verdict(record)
    question, first, second = parse_comparison(prompt)
    preferred = parse_verdict(verdict)
    if preferred is None:
        raise RecordError(TIE, f"record {key!r}: the verdict prefers none.")
    return _pair(record, key, images, question, (first, second), preferred, None)


def parse_grades(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One pointwise record that grades two answers, as a pair.

    Raises:
        RecordError: "tie"; for a missing field, a prompt or grades of another form, or a broken rule of the record.
    """
    question, first, second, gap = parse_graded(*_prompt_and_verdict(record))
    if gap == 0:
        raise RecordError(TIE, f"record {key!r}: both answers have the same grade.")
    return _pair(record, key, images, question, (first, second), int(gap < 0), abs(gap))


def _prompt_and_verdict(record: dict[str, Any]) -> tuple[str, str]:
    turns, verdict = until_answer(messages_of(record, "conversations"), "conversations")
    return "\n".join(turn.content for turn in turns if turn.role == "user"), verdict


def _pair(
    record: dict[str, Any],
    key: str,
    images: Images,
    question: str,
    answers: tuple[str, str],
    preferred: int,
    strength: float | None,
) -> PreferenceSample:
    return pair_sample(
        key,
        NAME,
        question,
        pictures_of(record, images),
        answers[preferred],
        answers[1 - preferred],
        strength=strength,
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
