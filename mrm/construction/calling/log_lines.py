"""One line of the answer log: JSON with the text last, then a checksum over all before it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mrm.construction.calling.calls import Answer, Call

NAME_CHARS, MESSAGE_CHARS, FAILED_CHARS = 200, 2000, 200_000  # of what a server may make as long as it likes
_SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"\}\n\Z')
_SEAL_BYTES = 19
_TEXT = b',"text":'  # cannot stand inside a JSON string, where quotes are escaped


@dataclass(frozen=True)
class LoggedAnswer:
    """A line of the log.

    Args:
        key, record, kind, model, repeat: the call's.
        answer: as it came; the text is raw.
        seconds: that the answer took, without earlier attempts.
        attempts: up to this answer.
        cost: money; None where the price was unknown.
        time: UTC, ISO 8601.
    """

    key: str
    record: str
    kind: str
    model: str
    repeat: int
    answer: Answer
    seconds: float
    attempts: int
    cost: float | None
    time: str


def head_of(call: Call, answer: Answer, cost: float | None) -> dict[str, Any]:
    """What every line begins with."""
    return {
        "key": call.key,
        "record": call.record,
        "kind": call.kind,
        "model": call.model,
        "repeat": call.repeat,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cost": cost,
        "server_model": answer.model,
        "finish": answer.finish,
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }


def sealed_line(told: Mapping[str, Any], text: str) -> bytes:
    """A line with its checksum; the text comes last, so that the rest can be read without it."""
    body = json.dumps({**told, "text": text}, ensure_ascii=False, separators=(",", ":"))
    try:
        data = body.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which some models answer
        data = json.dumps({**told, "text": text}, separators=(",", ":")).encode()
    return data[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(data[:-1])


def is_sound(line: bytes) -> bool:
    """Whether a line is whole and as it was written."""
    seal = _SEAL.search(line[-_SEAL_BYTES:])
    return seal is not None and zlib.crc32(line[: len(line) - len(seal[0])]) == int(seal[1], 16)


def read_answer(line: bytes) -> LoggedAnswer:
    """The answer in a sound line."""
    told = json.loads(line)
    answer = Answer(told["text"], told["input_tokens"], told["output_tokens"], told["server_model"], told["finish"])
    kept = ("key", "record", "kind", "model", "repeat", "seconds", "attempts", "cost", "time")
    return LoggedAnswer(answer=answer, **{name: told[name] for name in kept})


def read_head(line: bytes) -> dict[str, Any]:
    """A sound line without its text, which is most of it."""
    return json.loads(line[: line.index(_TEXT)] + b"}")


def digest_of(key: str) -> bytes:
    """A call's key as 16 bytes. Raises ValueError for what is no key."""
    digest = bytes.fromhex(key)
    if len(digest) != 16:
        raise ValueError(f"{key!r} is no key: 32 hex digits.")
    return digest


def bounded(answer: Answer, text: int | None = None) -> Answer:
    """An answer whose names, and whose text if `text` says how long, are cut to a length that a log can hold."""
    return replace(answer, text=answer.text[:text], model=answer.model[:NAME_CHARS], finish=answer.finish[:NAME_CHARS])


def sync_folder(folder: Path) -> None:
    """Else a power cut could take the names of files that were just made."""
    with contextlib.suppress(OSError):  # some file systems cannot
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
