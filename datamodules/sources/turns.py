"""Conversations as datasets publish them, and the places of images in them.

Published texts mark an image's place with `<image>`, or not at all; the marks must come out as many as the images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.sources.base import get_field
from mrm.errors import RecordError
from mrm.preference import IMAGE_MARKER, Message, Pair, PreferenceSample

TAGS = (("from", "value"), ("role", "content"))
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def message_of(turn: object) -> Message:
    """A turn with the tags from/value or role/content.

    Raises:
        RecordError: where it has neither, an unknown role, or a content that is no string.
    """
    if not isinstance(turn, dict):
        raise RecordError(
            "malformed field", f"a turn is {type(turn).__name__}, it must be an object with from/value or role/content."
        )
    for role_tag, content_tag in TAGS:
        if role_tag in turn:
            role, content = turn[role_tag], get_field(turn, content_tag, str)
            if not isinstance(role, str) or role not in ROLES:
                raise RecordError(
                    "bad role", f"role {role!r} is none of {', '.join(ROLES)}; tool turns are not supported."
                )
            return Message(ROLES[role], content)
    raise RecordError("malformed field", f"a turn has neither `from` nor `role`, only {sorted(map(str, turn))}.")


def messages_of(record: dict[str, Any], name: str) -> list[Message]:
    """A field's turns.

    Raises:
        RecordError: where it is missing or one of them is malformed.
    """
    return [message_of(turn) for turn in get_field(record, name, list)]


def until_answer(messages: list[Message], name: str) -> tuple[list[Message], str]:
    """A conversation that ends in the assistant's turn, without that turn, and what it says.

    Raises:
        RecordError: where it ends otherwise.
    """
    if len(messages) < 2 or messages[-1].role != "assistant":
        ends = f"ends in a turn of the {messages[-1].role}" if messages else "is empty"
        raise RecordError("turn order", f"`{name}` {ends}; it must hold a question and end in the assistant's answer.")
    return messages[:-1], messages[-1].content


def with_images(messages: Sequence[Message], count: int) -> tuple[Message, ...]:
    """The prompt with a mark for each image: those it has, or all before the first user turn's text where it has none.

    Raises:
        RecordError: where it has some, but not as many as there are images.
    """
    marks = sum(message.content.count(IMAGE_MARKER) for message in messages if message.role == "user")
    if marks == count:
        return tuple(messages)
    if marks:
        raise RecordError("image count", f"{marks} `{IMAGE_MARKER}` in the prompt but {count} image(s).")
    prompt = list(messages)
    first = next((i for i, message in enumerate(prompt) if message.role == "user"), None)
    if first is not None:
        prompt[first] = Message("user", f"{IMAGE_MARKER}\n" * count + prompt[first].content)
    return tuple(prompt)


def pair_sample(
    key: str,
    source: str,
    prompt: str | Sequence[Message],
    images: Sequence[bytes],
    chosen: str,
    rejected: str,
    *,
    strength: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> PreferenceSample:
    """A sample of two responses.

    Args:
        key, source, images, meta: of the sample.
        prompt: messages, or the one question; with marks for the images or without.
        chosen: the better response.
        rejected: the other.
        strength: how much better, in [0, 1]; None where nobody knows.

    Raises:
        RecordError: where the sample breaks a rule of the record.
    """
    turns = [Message("user", prompt)] if isinstance(prompt, str) else prompt
    return PreferenceSample(
        key=key,
        source=source,
        prompt=with_images(turns, len(images)),
        images=tuple(images),
        responses=(chosen, rejected),
        pairs=(Pair(0, 1, strength),),
        meta=meta or {},
    )


def kept(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of the fields that say something, for `meta`; what JSON does not know (dates, bytes, NaN) as text."""
    found = {name: record[name] for name in names if record.get(name) not in (None, "")}
    return {name: value if _is_plain(value) else str(value) for name, value in found.items()}


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
