"""R1-Reward-RL: comparisons of two answers that were hard for GPT-4o, collected from several preference sets.

`yifanzhang114/R1-Reward-RL`: Parquet. `message` is a judge's prompt (a JSON string of a chat) that shows both responses below
`#### [Response 1]:` and `#### [Response 2]:`; `answer` is `["<answer>2</answer>"]`; `image` is the image in base64. The path within
`message` is one on its author's machine and is not followed. No strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import Card, Counted, Item, get_field, get_json, numbered_key, parse_each, surprise
from datamodules.sources.comparisons import parse_comparison, parse_verdict, shows_comparison
from datamodules.sources.images import Images, from_base64, image_of
from datamodules.sources.location import folder_of
from datamodules.sources.tables import find_tables, read_rows
from datamodules.sources.turns import pair_sample
from mrm.errors import RecordError
from mrm.preference import IMAGE_MARKER, PreferenceSample

NAME = "r1_reward_rl"
CARD = Card("yifanzhang114/R1-Reward-RL", "not stated", "17,261 pairs, 3 GB", "image-text")


def read(input: str | Path) -> Iterator[Item]:
    """Reads the Parquet files.

    Args:
        input: the folder, or one file.
    """
    rows = read_rows(find_tables(input, split="train"), ("question", "message", "answer", "image"))
    images = Images(folder_of(input))
    return Counted(parse_each(rows, numbered_key(NAME), parse_record, images=images), length_hint(rows))


def parse_record(record: dict[str, Any], *, key: str, images: Images) -> PreferenceSample:
    """One row as a pair.

    Raises:
        RecordError: for a missing field, a prompt or verdict of another form, or a broken rule of the record.
    """
    shown, first, second = parse_comparison(_prompt_text(get_json(record, "message", list)))
    answer = get_field(record, "answer", (list, str))
    answer = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    if not isinstance(answer, str):
        raise surprise("answer", answer, "one string such as '<answer>2</answer>'")
    preferred = parse_verdict(answer)
    if preferred is None:
        raise RecordError("tie", f"answer {answer!r} prefers none.")
    image = get_field(record, "image", object)
    picture = from_base64(image, "image") if isinstance(image, str) else image_of(image, images, "image")
    chosen, rejected = (first, second) if preferred == 0 else (second, first)
    question = _question(get_field(record, "question", str), shown)
    return pair_sample(key, NAME, question, [picture], chosen, rejected, meta={"preferred": preferred + 1})


def _question(given: str, shown: str) -> str:
    """What was asked.

    Args:
        given: the field `question`.
        shown: what the judge's prompt shows as the question.

    Raises:
        RecordError: where the field holds a judge's prompt of an unknown form.
    """
    asked = given.replace(IMAGE_MARKER, "").strip()
    if shows_comparison(asked):
        try:
            asked = parse_comparison(asked)[0]
        except RecordError as error:
            raise RecordError(error.reason, f"field 'question' holds a judge's prompt: {error}") from error
    return shown if not asked or shown and shown in asked else asked


def _prompt_text(chat: list[Any]) -> str:
    """The texts of the user's turns."""
    parts: list[str] = []
    for turn in chat:
        content = get_field(turn, "content", (str, list)) if isinstance(turn, dict) else None
        if content is None or turn.get("role") == "assistant":
            continue
        entries = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts = [entry.get("text") for entry in entries if isinstance(entry, dict) and entry.get("type") == "text"]
        parts += [text for text in texts if isinstance(text, str)]
    return "\n".join(parts)
