"""Models of the embedded world, of settable quality: a responder, a judge and a rewriter that need no server.

A record of that world carries, in `meta["truth"]["answers"]`, every answer to its question by number of errors and style.
The responder picks one of them, the judge looks up how many errors what it is shown has, and misreads it as often as it
is told to. Of a published pair, whose other answers nobody kept, the judge goes by `meta["truth"][SHOWN_ERRORS]`, a count for each
response shown, which `annotating.py` puts there. All is a hash of what is asked, so that asking again, in any order, gives
the same answer. Their texts go the way of any model's: through prompts, the log and the parser.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mrm.construction.calling.budget import Price
from mrm.construction.calling.calls import Answer, Call, CallError
from mrm.construction.draws import choose, uniform
from mrm.errors import ConfigError

MOST_ERRORS = 4  # a response with so many is as bad as it gets
FANCY = ("wordy", "markdown")
SHOWN_ERRORS = "shown_errors"
# What an error costs in each criterion, of 10; language and ethics know nothing of the truth.
COSTS = {
    "accuracy": 2.5,
    "helpfulness": 2.5,
    "completeness": 2.0,
    "language_quality": 0.0,
    "creativity": 0.0,
    "ethics": 0.0,
}
WEIGHTS = {
    "accuracy": 0.5,
    "helpfulness": 0.3,
    "completeness": 0.1,
    "language_quality": 0.04,
    "creativity": 0.03,
    "ethics": 0.03,
}


class _Embedded:
    """What the three share: a name, a seed, and no limit to what they take at once."""

    concurrency = 64
    price = Price(0, 0)

    def __init__(self, name: str, seed: int, **settings: float | str) -> None:
        self.name = name
        self.identity: Mapping[str, Any] = {
            "model": f"shapeworld {type(self).__name__}",
            "name": name,
            "seed": seed,
            **settings,
        }
        shares = {key: value for key, value in settings.items() if isinstance(value, float) and not 0 <= value <= 1}
        if shares:
            told = ", ".join(f"{key}={value!r}" for key, value in shares.items())
            raise ConfigError(f"model {name!r}: {told} must be in [0, 1].")
        self._seed = seed

    def _draw(self, *parts: object) -> float:
        return uniform(self._seed, self.name, *parts)


class ShapeWorldResponder(_Embedded):
    """Answers rightly or wrongly, in a plain or a fancy style.

    Args:
        name: its name.
        right: share of its answers without an error, in [0, 1].
        fancy: share of its answers in a fancy style, in [0, 1].
        seed: of its draws.
    """

    def __init__(self, name: str, *, right: float = 0.5, fancy: float = 0.5, seed: int = 0) -> None:
        super().__init__(name, seed, right=float(right), fancy=float(fancy))
        self._right, self._fancy = right, fancy

    async def answer(self, call: Call) -> Answer:
        """See `Model.answer`."""
        answers = _answers(self.name, call)
        drawn = (self._seed, self.name, call.record, call.repeat)
        wrong = sorted(errors for errors in answers if errors)
        errors = 0 if not wrong or uniform("right", *drawn) < self._right else choose(wrong, "errors", *drawn)
        is_fancy = uniform("fancy", *drawn) < self._fancy
        styles = [style for style in sorted(answers[errors]) if (style in FANCY) == is_fancy]
        return Answer(answers[errors][choose(styles, "style", *drawn)], model="shapeworld")


class ShapeWorldScorer(_Embedded):
    """Judges by the rubric, listwise or pointwise.

    Args:
        name: its name; two judges of one seed err independently if their names differ.
        accuracy: probability that it reads a response's number of errors right, in [0, 1].
        stubborn: share of its misreadings that are the same in every call about a response, in [0, 1]: asking again does
            not help against these.
        position_bias: probability that a listwise call finds the first response flawless and all others not, in [0, 1].
        seed: of its errors.
    """

    def __init__(
        self, name: str, *, accuracy: float = 0.9, stubborn: float = 0.25, position_bias: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(
            name, seed, accuracy=float(accuracy), stubborn=float(stubborn), position_bias=float(position_bias)
        )
        self._accuracy, self._stubborn, self._position_bias = accuracy, stubborn, position_bias

    async def answer(self, call: Call) -> Answer:
        """See `Model.answer`."""
        responses = call.subject.responses
        errors, reference = _shown_errors(self.name, call)
        seen = [self._perceived(call, text, count) for text, count in zip(responses, errors, strict=True)]
        if call.kind == "listwise" and self._draw("position", call.record, list(responses)) < self._position_bias:
            seen = [0, *(max(1, errors) for errors in seen[1:])]
        return Answer(_scoring(seen, reference), model="shapeworld")

    def _perceived(self, call: Call, text: str, errors: int) -> int:
        own = (call.record, text)
        if self._draw("reading", *own) < (1 - self._accuracy) * self._stubborn:
            return self._misread(errors, *own)
        left = (1 - self._accuracy) * (1 - self._stubborn) / (1 - (1 - self._accuracy) * self._stubborn)
        if self._draw("reading", *own, call.kind, call.repeat) < left:
            return self._misread(errors, *own, call.kind, call.repeat)
        return errors

    def _misread(self, errors: int, *parts: object) -> int:
        others = [other for other in range(MOST_ERRORS + 1) if other != errors]
        return choose(others, self._seed, self.name, "misread", *parts)


class ShapeWorldRewriter(_Embedded):
    """Tells a response again in one style, with the same errors.

    Args:
        name: its name.
        style: a style of the embedded world.
        slip: probability that it tells something else, in [0, 1].
        seed: of its slips.
    """

    def __init__(self, name: str, *, style: str = "plain", slip: float = 0.0, seed: int = 0) -> None:
        super().__init__(name, seed, style=style, slip=float(slip))
        self._style, self._slip = style, slip

    async def answer(self, call: Call) -> Answer:
        """See `Model.answer`."""
        answers = _answers(self.name, call)
        (text,) = call.subject.responses
        errors = _errors(self.name, call, answers, text)
        if self._draw("slip", call.record, text) < self._slip:
            errors = choose([other for other in answers if other != errors], self._seed, self.name, call.record, text)
        told = answers[errors]
        if self._style not in told:
            raise ConfigError(f"model {self.name!r}: unknown style {self._style!r}; known: {', '.join(sorted(told))}.")
        return Answer(told[self._style], model="shapeworld")


def errors_of(meta: Mapping[str, Any], text: str) -> tuple[int, str] | None:
    """(number of errors, style) of a response of the embedded world; None where it, or the record, is not of it."""
    for errors, told in (answers_in(meta) or {}).items():
        for style, known in told.items():
            if known.strip() == text.strip():
                return errors, style
    return None


def answers_in(meta: Mapping[str, Any]) -> dict[int, Mapping[str, str]] | None:
    """Number of errors -> style -> answer; None where the record is not of the embedded world."""
    truth = meta.get("truth")
    answers = truth.get("answers") if isinstance(truth, Mapping) else None
    if not isinstance(answers, Mapping) or not answers:
        return None
    if not all(str(errors).isdecimal() and isinstance(told, Mapping) for errors, told in answers.items()):
        return None
    return {int(errors): told for errors, told in answers.items()}


def _shown_errors(model: str, call: Call) -> tuple[Sequence[int], str]:
    """Number of errors of each response shown, and a right answer; "" where none is known."""
    truth, responses = call.subject.meta.get("truth"), call.subject.responses
    counts = truth.get(SHOWN_ERRORS) if isinstance(truth, Mapping) else None
    if (
        isinstance(counts, Sequence)
        and len(counts) == len(responses)
        and all(type(c) is int and c >= 0 for c in counts)
    ):
        return counts, next((text for text, count in zip(responses, counts, strict=True) if count == 0), "")
    answers = _answers(model, call)
    return [_errors(model, call, answers, text) for text in responses], min(answers[0].values(), key=len)


def _answers(model: str, call: Call) -> dict[int, Mapping[str, str]]:
    answers = answers_in(call.subject.meta)
    if answers is None:
        raise CallError(
            "not the embedded world",
            f"model {model!r}: record {call.record!r} is not of the embedded world, which is all that it knows; choose"
            " models of kind openai.",
            retry=False,
            fatal=True,
        )
    return answers


def _errors(model: str, call: Call, answers: Mapping[int, Mapping[str, str]], text: str) -> int:
    for errors, told in answers.items():
        if any(known.strip() == text.strip() for known in told.values()):
            return errors
    raise CallError("unknown response", f"model {model!r}: does not know the response {text[:80]!r}.", retry=False)


def _scoring(seen: list[int], reference: str) -> str:
    """The judge's answer for responses with so many errors as it sees, in the order shown."""
    judged = []
    for number, errors in enumerate(seen, start=1):
        scores = {name: round(10 - cost * min(errors, MOST_ERRORS)) for name, cost in COSTS.items()}
        overall = round(sum(WEIGHTS[name] * score for name, score in scores.items()), 2)
        judged.append((number, scores, overall, errors))
    return json.dumps(
        {
            "reference": reference,
            "responses": [
                {
                    "response": number,
                    "criteria": {
                        name: {"score": score, "weight": WEIGHTS[name], "analysis": f"{errors} error(s) seen."}
                        for name, score in scores.items()
                    },
                    "overall": overall,
                }
                for number, scores, overall, errors in judged
            ],
        }
    )
