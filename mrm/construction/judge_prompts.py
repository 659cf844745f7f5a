"""A subject put into words for a judge: the chat that is sent, and the JSON schema of the answer.

Every text that comes from data stands between two lines that carry a code drawn from all texts of the call. None of them
contains it, so that no response can end its own text, pass for another one, or pass for the rubric. The code is in the
user turn only: the system turn is the same for all calls with as many responses, which servers keep and bill less.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mrm.construction.calling.calls import ChatMessage, ChatRequest, Subject
from mrm.construction.rubrics import Instructions, Rubric
from mrm.errors import RecordError
from mrm.preference import IMAGE_MARKER

LOWEST, HIGHEST = 0, 10
_Named = tuple[str, Sequence[str | bytes]]  # a text with its name


def listwise_request(rubric: Rubric, subject: Subject) -> ChatRequest:
    """The chat that asks for a judgement of all responses, in the order in which the subject has them.

    Raises:
        RecordError: for no response, or images that don't match their places.
    """
    return _request(rubric, rubric.listwise, subject)


def pointwise_request(rubric: Rubric, subject: Subject) -> ChatRequest:
    """The chat that asks for a judgement of the subject's one response.

    Raises:
        RecordError: for another number of responses, or images that don't match their places.
    """
    if len(subject.responses) != 1:
        raise RecordError(
            "wrong number of responses", f"a pointwise call takes one response, found {len(subject.responses)}."
        )
    return _request(rubric, rubric.pointwise, subject)


def answer_schema(rubric: Rubric, n_responses: int) -> dict[str, Any]:
    """The JSON schema of a judge's answer.

    It keeps to what OpenAI's strict mode, xgrammar and outlines (vLLM, SGLang) all take: every object closed and every key
    required, no references, and no bounds on numbers or on the length of arrays (strict mode and older xgrammar refuse
    them). A range of integers is an enumeration. So the number of responses is for the parser to check.

    Args:
        rubric: its criteria are the keys.
        n_responses: their numbers are 1 to n.
    """
    score = _object(
        analysis={"type": "string"},
        score={"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))},
        weight={"type": "number"},
    )
    response = _object(
        response={"type": "integer", "enum": list(range(1, n_responses + 1))},
        criteria=_object(**{name: score for name in rubric.names}),
        overall={"type": "number"},
    )
    return _object(reference={"type": "string"}, responses={"type": "array", "items": response})


def fence_code(subject: Subject) -> str:
    """12 hex digits that no text of the subject contains; the same for the same texts."""
    texts = [turn.content for turn in subject.prompt] + [*subject.responses, subject.reference or ""]
    digest = hashlib.sha256(json.dumps(texts).encode())
    while True:
        code = digest.hexdigest()[:12]
        if not any(code in text for text in texts):
            return code
        digest.update(b"again")


def fenced(name: str, text: str, subject: Subject) -> list[str | bytes]:
    """A text of the subject between lines that it cannot hold."""
    return _fenced([(name, [text])], fence_code(subject))


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _request(rubric: Rubric, instructions: Instructions, subject: Subject) -> ChatRequest:
    n = len(subject.responses)
    if n == 0:
        raise RecordError("wrong number of responses", "a judge needs at least one response, found none.")
    code = fence_code(subject)
    criteria = "\n".join(f"- {criterion.name}: {criterion.description.strip()}" for criterion in rubric.criteria)
    system = _fill(instructions.system, {"criteria": [criteria], "format": [_shape(rubric, n)]})
    labels = rubric.labels
    named = [(response_name(rubric, number), [text]) for number, text in enumerate(subject.responses, 1)]
    reference: list[str | bytes] = []
    if subject.reference is not None and subject.reference.strip():
        reference = [labels.reference_note, "\n", *_fenced([(labels.reference, [subject.reference])], code)]
    user = _fill(
        instructions.user,
        {
            "marker": [code],
            "conversation": _fenced(_conversation(rubric, subject), code),
            "reference": reference,
            "responses": _fenced(named, code),
        },
    )
    messages = (ChatMessage("system", system), ChatMessage("user", user))
    return ChatRequest(messages, answer_schema(rubric, n))


def response_name(rubric: Rubric, number: int) -> str:
    """What response `number`, counted from 1, is called: "Response 1", "回答1"."""
    between = " " if rubric.language == "en" else ""
    return f"{rubric.labels.response}{between}{number}"


def _conversation(rubric: Rubric, subject: Subject) -> list[_Named]:
    """The turns by the name of who speaks, with the images at their places."""
    images = iter(subject.images)
    turns: list[_Named] = []
    places = 0
    for turn in subject.prompt:
        content: Sequence[str | bytes] = [turn.content]
        if turn.role == "user":
            content = list(_with_images(turn.content, images))
            places += turn.content.count(IMAGE_MARKER)
        turns.append((getattr(rubric.labels, turn.role), content))
    if places != len(subject.images):
        raise RecordError(
            "image count",
            f"{places} `{IMAGE_MARKER}` marker(s) in the user turns but {len(subject.images)} image(s); they must match.",
        )
    return turns


def _with_images(text: str, images: Iterator[bytes]) -> Iterator[str | bytes]:
    first, *others = text.split(IMAGE_MARKER)
    yield first
    for other in others:
        image = next(images, None)
        if image is not None:
            yield image
        yield other


def _fenced(texts: Sequence[_Named], code: str) -> list[str | bytes]:
    parts: list[str | bytes] = []
    for number, (name, content) in enumerate(texts):
        parts += ["\n" if number else "", f"[[{name} {code}\n", *content, f"\n{name} {code}]]"]
    return parts


def _fill(template: str, values: Mapping[str, list[Any]]) -> tuple[str | bytes, ...]:
    """The template with its placeholders replaced, in one pass: a value that looks like a placeholder stays as it is."""
    pieces = re.split("(" + "|".join(re.escape(f"{{{name}}}") for name in values) + ")", template.strip())
    parts: list[str | bytes] = [pieces[0]]
    for placeholder, text in zip(pieces[1::2], pieces[2::2], strict=True):
        value = values[placeholder[1:-1]]
        parts += [*value, text if value else text.lstrip("\n")]  # blank lines around nothing would pile up
    return _joined(parts)


def _joined(parts: list[str | bytes]) -> tuple[str | bytes, ...]:
    """Neighbouring texts as one; no empty ones."""
    joined: list[str | bytes] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    return tuple(joined)


def _shape(rubric: Rubric, n_responses: int) -> str:
    """The JSON asked for, with <...> where values go: for servers that take no schema, and to say what the keys mean."""
    scored = '{"analysis": "<text>", "score": <0-10>, "weight": <0-1>}'
    criteria = ",\n      ".join(f'"{name}": {scored}' for name in rubric.names)
    first = f'    {{"response": 1, "criteria": {{\n      {criteria}}}, "overall": <0.00-10.00>}}'
    others = [f'    {{"response": {number}, ...}}' for number in range(2, n_responses + 1)]
    responses = ",\n".join([first, *others])
    return f'{{"reference": "<text>",\n  "responses": [\n{responses}]}}'
