"""WildVision-Battle: people's votes between two models' answers in the WildVision arena.

`WildVision/wildvision-battle`: Parquet. `conversation_a` and `conversation_b` are whole conversations, `winner` says which model won. Only
the last answers are compared, so that all turns before them must be the same: where the models' earlier answers differ the record
is skipped as "conversations differ". Votes for none ("tie", "tie (bothbad)") are skipped as "tie". No strength.
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
from datamodules.sources.turns import kept, messages_of, pair_sample, until_answer
from mrm.errors import RecordError
from mrm.preference import PreferenceSample

NAME = "wildvision_battle"
CARD = Card("WildVision/wildvision-battle", "ODC-BY", "some 11,000 votes", "image-text")
EXTRAS = ("question_id", "model_a", "model_b", "winner", "language", "turn", "domain", "judge")


def read(input: str | Path, *, language: str | None = None) -> Iterator[Item]:
    """Reads the Parquet files.

    Args:
        input: the folder, or one file.
        language: only conversations in it, as the field `language` names it ("English"); the others are skipped by name.
    """
    rows = read_rows(find_tables(input), ("conversation_a", "conversation_b", "winner", "image"), EXTRAS)
    images = Images(folder_of(input))
    items = parse_each(rows, numbered_key(NAME, "question_id"), parse_record, images=images, language=language)
    return Counted(items, length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images, language: str | None = None) -> PreferenceSample:
    """One vote as a pair.

    Raises:
        RecordError: "tie", "conversations differ", "other language"; for a missing field, an unknown winner, or a broken rule of
            the record.
    """
    if language is not None and record.get("language") != language:
        raise RecordError(
            "other language", f"record {key!r}: language is {record.get('language')!r}, not {language!r}."
        )
    winner = get_field(record, "winner", str)
    if winner.startswith("tie"):
        raise RecordError(TIE, f"record {key!r}: winner is {winner!r}.")
    if winner not in ("model_a", "model_b"):
        raise surprise("winner", winner, "model_a, model_b, or one that begins with tie")
    prompt, answer_a = until_answer(messages_of(record, "conversation_a"), "conversation_a")
    other, answer_b = until_answer(messages_of(record, "conversation_b"), "conversation_b")
    if prompt != other:
        raise RecordError("conversations differ", f"record {key!r}: the two models' turns before the last differ.")
    picture = image_of(get_field(record, "image", object), images, "image")
    chosen, rejected = (answer_a, answer_b) if winner == "model_a" else (answer_b, answer_a)
    return pair_sample(key, NAME, prompt, [picture], chosen, rejected, meta=kept(record, *EXTRAS))
