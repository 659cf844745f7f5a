"""One call to a model: what it is asked, what it answered, and who can be asked. The one interface of judges and responders.

A call carries both the chat that a server is sent and what the chat was made of, so that a server, the embedded world's
models and any callable are asked the same way. Its key is a digest of all that decides the answer: an answer that was
paid for once is found again by it. Running calls is left to `runner.py`, keeping answers to `answer_log.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mrm.errors import MrmError
from mrm.preference import Message

KINDS = ("respond", "listwise", "pointwise", "rewrite")


@dataclass(frozen=True)
class ChatMessage:
    """One turn: texts and encoded images in the order in which they are shown."""

    role: str
    parts: tuple[str | bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class ChatRequest:
    """What a server is sent.

    Args:
        messages: the turns, a system turn first where there is one.
        schema: JSON schema of the answer asked for; None for free text.
    """

    messages: tuple[ChatMessage, ...]
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Subject:
    """What a call is about, before it was put into words.

    Args:
        prompt: the conversation that is answered; it ends in a user turn, `<image>` marks each image's place.
        images: encoded bytes.
        responses: the texts to judge or rewrite, in the order in which they are shown; none for `respond`.
        reference: a reference answer that may be wrong; None where there is none.
        meta: the record's extras; the embedded world keeps what is true there.
    """

    prompt: tuple[Message, ...]
    images: tuple[bytes, ...] = field(repr=False)
    responses: tuple[str, ...] = ()
    reference: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One question to one model.

    Args:
        key: 32 hex digits, of `call_key`.
        record: key of the record that it belongs to, for the accounts.
        kind: one of KINDS.
        model: name of the model that is asked.
        repeat: 0, 1, ...: asked again on purpose, for another sample or in another order.
        chat: what a server is sent.
        subject: what that was made of.
    """

    key: str
    record: str
    kind: str
    model: str
    repeat: int
    chat: ChatRequest = field(repr=False)
    subject: Subject = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Args:
        text: as it came.
        input_tokens, output_tokens: as the server counted them; 0 where it does not say.
        model: the name that the server gives its model, for provenance.
        finish: why it ended, as the server says ("stop", "length", "content_filter", ...); "" where it does not.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    model: str = ""
    finish: str = ""


@runtime_checkable
class Model(Protocol):
    """Anything that can be asked.

    Attributes:
        name: unique in a run.
        identity: what decides its answers (model, settings), JSON-able; part of every call's key. No key, no address.
        concurrency: calls that it takes at once, at most.
    """

    name: str
    identity: Mapping[str, Any]
    concurrency: int

    async def answer(self, call: Call) -> Answer:
        """Answers one call, once: repeating is left to the runner.

        Raises:
            CallError: where no answer came.
        """
        ...


class CallError(MrmError):
    """A call brought no answer.

    Args:
        reason: a short stable name, fit for counting ("rate limit", "server error", "time-out", "connection", "refused", ...).
        message: the full explanation.
        retry: whether the same call may succeed later.
        retry_after: seconds that the server asks to wait; None where it does not say.
        fatal: whether every further call to this model would fail as well (wrong key, unknown model): it is not asked again,
            unless it has answered others.
        replied: whether a server that is up said so: its model is not out.
    """

    def __init__(
        self, reason: str, message: str, *, retry: bool,
        retry_after: float | None = None, fatal: bool = False, replied: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.reason, self.retry, self.retry_after, self.fatal = reason, retry, retry_after, fatal
        self.replied = replied


class UnusableAnswer(MrmError):
    """An answer came, and cannot be used; asked again, the model may give a better one.

    Args:
        reason: a short stable name, fit for counting ("no JSON", "score out of range", ...).
        message: the full explanation.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def call_key(kind: str, identity: Mapping[str, Any], repeat: int, chat: ChatRequest, subject: Subject) -> str:
    """The digest of all that decides an answer: two calls with one key are one question.

    The record's own key is not part of it: what was asked under another name is not asked again.
    """
    digest = hashlib.sha256()
    said = [[turn.role, [_told(part) for part in turn.parts]] for turn in chat.messages]
    shown = [[turn.role, turn.content] for turn in subject.prompt]
    images = [_told(image) for image in subject.images]
    truth = subject.meta.get("truth")  # by which the embedded world's models answer
    parts = [
        kind,
        identity,
        repeat,
        said,
        chat.schema,
        shown,
        images,
        list(subject.responses),
        subject.reference,
        truth,
    ]
    digest.update(json.dumps(parts, sort_keys=True, default=_plain).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _told(part: str | bytes) -> Any:
    return part if isinstance(part, str) else [hashlib.sha256(part).hexdigest()]


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} in a model's identity: it must be made of JSON types.")
