"""Calls to a judge that scores, for tests: one prompt a record, and the least that an answer must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Answer, Call, ChatMessage, ChatRequest, Subject, UnusableAnswer, call_key
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.calling.runner import run_calls
from mrm.construction.calling.servers import OpenAIServer
from mrm.preference import Message

SCHEMA = {
    "type": "object",
    "properties": {"scores": {"type": "array", "items": {"type": "integer"}}},
    "required": ["scores"],
    "additionalProperties": False,
}
RESPONSES = ("two circles", "five circles", "a square")
QUICK = RunSettings(base_s=0.01, longest_s=0.05, timeout_s=20.0)


def make_call(
    record: str, *, model: str = "judge", kind: str = "listwise", images: tuple[bytes, ...] = (), schema: Any = SCHEMA
) -> Call:
    """A call that the fault server understands."""
    text = f"record {record} responses {len(RESPONSES)}: score each"
    chat = ChatRequest((ChatMessage("system", ("You judge.",)), ChatMessage("user", (text, *images))), schema)
    subject = Subject((Message("user", text),), images, RESPONSES)
    return Call(call_key(kind, {"model": model}, 0, chat, subject), record, kind, model, 0, chat, subject)


def make_calls(count: int, *, model: str = "judge") -> list[Call]:
    return [make_call(f"r{number}", model=model) for number in range(count)]


def accept_scores(call: Call, answer: Answer) -> None:
    """One integer from 0 to 10 for each response."""
    try:
        scores = json.loads(answer.text)["scores"]
    except (ValueError, KeyError, TypeError):
        raise UnusableAnswer("no JSON", "the answer is no JSON with scores") from None
    if len(scores) != len(call.subject.responses):
        raise UnusableAnswer("wrong count", f"{len(scores)} scores")
    if not all(isinstance(score, int) for score in scores):
        raise UnusableAnswer("not integers", f"{scores}")
    if not all(0 <= score <= 10 for score in scores):
        raise UnusableAnswer("out of range", f"{scores}")


def server_model(url: str, **settings: Any) -> OpenAIServer:
    """The fault server as a model."""
    return OpenAIServer(**{"name": "judge", "model": "judge", "base_url": url, **settings})


def run(
    calls: Iterable[Call],
    models: Any,
    folder: Path,
    *,
    accept: Any = accept_scores,
    settings: RunSettings = QUICK,
    **more: Any,
) -> CallAccount:
    """A run from opening the log to closing it."""
    models = models if isinstance(models, dict) else {models.name: models}
    with AnswerLog(folder) as log:
        return asyncio.run(run_calls(calls, models, log, accept=accept, settings=settings, **more))


def outcome(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(key -> text) of what is answered, (key -> reason) of what was given up and never answered."""
    with AnswerLog(folder, write=False) as log:
        answered = {logged.key: logged.answer.text for logged in log.answers()}
        failed = {line["key"]: line["reason"] for line in log.failures() if line["final"]}
    return answered, {key: reason for key, reason in failed.items() if key not in answered}
