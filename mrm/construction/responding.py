"""The stage `respond`: several models, or several samples of one, answer each prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mrm.construction.asking import Asked, Asker, Plan, conversation, make_call, subject_of
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Answer, Call, ChatRequest, Model, UnusableAnswer
from mrm.construction.diversity import Embed, most_diverse
from mrm.construction.records import PromptRecord, Response, distinct, shuffled
from mrm.construction.stage_files import Left


@dataclass(frozen=True)
class Responder:
    """A model, and how many responses it gives to a prompt."""

    model: Model
    samples: int


def respond(
    asker: Asker,
    records: Callable[[], Iterable[PromptRecord]],
    responders: Sequence[Responder],
    *,
    keep: int | None = None,
    embed: Embed | None = None,
) -> tuple[CallAccount, Iterator[PromptRecord | Left]]:
    """Adds the responders' answers to those that a record brings.

    Args:
        asker: asks.
        records: gives the records.
        responders: who answers; none leaves the records as they are.
        keep: of a record's responses only so many stay, those that differ most; None keeps all.
        embed: they differ in meaning, as it tells; None: in words.

    Returns:
        What became of the calls, and the records with at least two distinct responses; the others as `Left`.
    """

    account, asked = asker.ask(
        "respond",
        records,
        plan_responses(responders),
        accept_response,
        count=lambda _: sum(r.samples for r in responders),
    )
    names = [each.model.name for each in responders for _ in range(each.samples)]
    return account, (_with_responses(item, names, keep, embed) for item in asked)


def plan_responses(responders: Sequence[Responder]) -> Plan:
    """The calls that have a record answered."""

    def plan(record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        chat, subject = ChatRequest(conversation(record.prompt, images)), subject_of(record, images)
        for responder in responders:
            for repeat in range(responder.samples):
                yield make_call("respond", record, responder.model, chat, subject, repeat=repeat)

    return plan


def accept_response(call: Call, answer: Answer) -> None:
    """Refuses an empty text."""
    if not answer.text.strip():
        raise UnusableAnswer("empty response", f"model {call.model!r}: answered record {call.record!r} with nothing.")


def _with_responses(
    item: Asked | Left, names: Sequence[str], keep: int | None, embed: Embed | None
) -> PromptRecord | Left:
    if isinstance(item, Left):
        return item
    answers = zip(names, item.answers, strict=True)  # the log's names may be older ones
    came = [Response(answer.answer.text, name) for name, answer in answers if answer is not None]
    responses = distinct([*item.record.responses, *came])
    if len(responses) < 2:
        missing = len(item.answers) - len(came)
        detail = f"record {item.record.key!r}: {len(responses)} distinct response(s); two are needed. Calls without answer: {missing}."
        return Left(item.record.key, "too few responses", detail)
    if keep is not None and keep < len(responses):
        chosen = most_diverse([response.text for response in responses], keep, embed=embed)
        responses = tuple(responses[number] for number in sorted(chosen))
    return replace(item.record, responses=shuffled(item.record.key, responses))
