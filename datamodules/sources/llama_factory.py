"""LLaMA-Factory's pairwise ranking format (JSON list or JSON Lines), also the method's own training format.

    {"conversations": [{"from": "human", "value": "<image>What is it?"}], "chosen": {"from": "gpt", "value": "A cat."},
     "rejected": {"from": "gpt", "value": "A dog."}, "images": ["cat.jpg"], "system": "Be brief."}

Rules as in LLaMA-Factory's converter, but nothing falls back silently: a row it would drop with a warning is a named skip.
- `conversations` (or `messages`) has an odd number of turns, user and assistant by turns, the last the user's;
  tags are from/value (human, gpt) or role/content (user, assistant). The alpaca form (`instruction`, `input`, `history`) may stand instead.
- A leading system turn overrides the `system` column.
- `chosen` and `rejected` are messages of the assistant, or plain strings (alpaca).
- Image paths are relative to the media folder; the number of `<image>` must equal the number of images.
- Videos, audio and tools are not supported: records that use them are skipped. So are records with any other column
  than those of the format and `id`, so that a misspelt one is not lost.
The format has no column for strength: it is unknown when read and lost when written.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.sources.base import (
    Card,
    Counted,
    Item,
    get_field,
    parse_each,
    safe_key,
)
from datamodules.sources.images import read_image
from datamodules.sources.location import Location
from datamodules.sources.records import find_file, read_records
from datamodules.sources.turns import message_of
from mrm.errors import ConfigError, RecordError, suggest
from mrm.preference import Message, Pair, PreferenceSample

CARD = Card("one's own files in LLaMA-Factory's ranking format", "one's own", "any", "image-text")
UNSUPPORTED = {"videos": "video or audio", "audios": "video or audio", "tools": "tools"}  # column: reason
COLUMNS = (
    *("id", "conversations", "messages", "instruction", "input", "history", "system", "images", "chosen", "rejected"),
    *UNSUPPORTED,
)
MEDIA_MARKERS = ("<video>", "<audio>")


def read(input: str | Path, *, media_dir: str | None = None, name: str | None = None) -> Iterator[Item]:
    """Reads a file of pairwise ranking records.

    Args:
        input: a .json or .jsonl file, or a folder that holds exactly one (`dataset_info.json` aside).
        media_dir: where relative image paths start; the file's own folder by default.
        name: `source` of the samples and beginning of their keys; the file's name without its ending by default.
    """
    path = find_file(input)
    folder = Location.of(media_dir) if media_dir is not None else path.parent
    if media_dir is not None and not folder.is_dir():
        raise ConfigError(f"media_dir: there is no folder {folder}.")
    records = read_records(path)
    name = name or path.stem

    def key_of(number: int, record: dict[str, Any]) -> str:
        return safe_key(name, record["id"] if isinstance(record.get("id"), (str, int)) else f"{number:07d}")

    return Counted(parse_each(records, key_of, parse_record, source=name, folder=folder), length_hint(records))


def parse_record(record: dict[str, Any], *, key: str, source: str, folder: Location | Path) -> PreferenceSample:
    """One ranking record as a sample of two responses.

    Raises:
        RecordError: for an unknown or unsupported column, a missing field, a broken conversation, a missing image, or a
            broken rule of the record.
    """
    _check_columns(record, key)
    messages = _conversation(record)
    images = record.get("images") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list):
        raise RecordError(
            "malformed field", f"record {key!r}: `images` is {type(images).__name__}, it must be a list of paths."
        )
    return PreferenceSample(
        key=key,
        source=source,
        prompt=tuple(messages),
        images=tuple(read_image(image, folder) for image in images),
        responses=(_response(record, "chosen"), _response(record, "rejected")),
        pairs=(Pair(0, 1),),
        meta={"images": images},
    )


def _check_columns(record: dict[str, Any], key: str) -> None:
    if unknown := sorted(set(record) - set(COLUMNS)):
        raise RecordError(
            "unknown field",
            f"record {key!r}: unknown field {', '.join(unknown)}; allowed are {', '.join(COLUMNS)}."
            f"{suggest(unknown[0], COLUMNS)}",
        )
    for column, reason in UNSUPPORTED.items():
        if record.get(column):
            raise RecordError(reason, f"record {key!r}: `{column}` is not empty; only text and images are supported.")


def _conversation(record: dict[str, Any]) -> list[Message]:
    """The checked turns, a system turn first where the record has one."""
    name = next((name for name in ("conversations", "messages") if name in record), None)
    if name is not None:
        messages = [message_of(turn) for turn in get_field(record, name, list)]
    elif "instruction" in record:
        messages = _alpaca_turns(record)
    else:
        raise RecordError(
            "missing field",
            f"neither `conversations`, `messages` nor `instruction`; the record has {sorted(map(str, record))}.",
        )
    system = record.get("system") or ""
    if not isinstance(system, str):
        raise RecordError("malformed field", f"`system` is {type(system).__name__}, it must be a string.")
    if messages and messages[0].role == "system":
        system, messages = messages[0].content, messages[1:]
    if len(messages) % 2 == 0:
        raise RecordError(
            "even number of turns", f"{len(messages)} turns; a ranking record has an odd number, the last the user's."
        )
    for i, message in enumerate(messages):
        wanted = "user" if i % 2 == 0 else "assistant"
        if message.role != wanted:
            raise RecordError("turn order", f"turn {i} is the {message.role}'s, it must be the {wanted}'s.")
    turns = [Message("system", system), *messages] if system else messages
    for marker in MEDIA_MARKERS:
        if any(marker in turn.content for turn in turns):
            raise RecordError("video or audio", f"a turn has a `{marker}`; only text and images are supported.")
    return turns


def _alpaca_turns(record: dict[str, Any]) -> list[Message]:
    turns: list[Message] = []
    history = get_field(record, "history", list) if record.get("history") is not None else []
    for entry in history:
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(text, str) for text in entry):
            raise RecordError("malformed field", "`history` must be a list of [question, answer].")
        turns += [Message("user", entry[0]), Message("assistant", entry[1])]
    parts = [get_field(record, "instruction", str)]
    if record.get("input"):
        parts.append(get_field(record, "input", str))
    return [*turns, Message("user", "\n".join(parts))]


def _response(record: dict[str, Any], name: str) -> str:
    value = get_field(record, name, (dict, str))
    if isinstance(value, str):
        return value
    message = message_of(value)
    if message.role != "assistant":
        raise RecordError("bad role", f"`{name}` is a turn of the {message.role}, it must be the assistant's.")
    return message.content


def to_llama_factory(sample: PreferenceSample, image_paths: list[str]) -> list[dict[str, Any]]:
    """A sample as ranking records, one a pair, for training with LLaMA-Factory.

    Args:
        sample: what to write; strength, meta and key have no place in the format and are left out.
        image_paths: where the caller stored the sample's images, in order.

    Raises:
        RecordError: where the paths aren't as many as the images, or the conversation doesn't fit the format.
    """
    if len(image_paths) != len(sample.images):
        raise RecordError(
            "image count", f"sample {sample.key!r}: {len(image_paths)} path(s) for {len(sample.images)} image(s)."
        )
    tags = {"user": "human", "assistant": "gpt", "system": "system"}
    conversations = [{"from": tags[m.role], "value": m.content} for m in sample.prompt]
    _conversation({"conversations": conversations})  # refuses what LLaMA-Factory would drop
    return [
        {
            "conversations": conversations,
            "chosen": {"from": "gpt", "value": sample.responses[pair.chosen]},
            "rejected": {"from": "gpt", "value": sample.responses[pair.rejected]},
            "images": image_paths,
        }
        for pair in sample.pairs
    ]
