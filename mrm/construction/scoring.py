"""A judge's answer, checked: what it gave to each response, or why it cannot be used.

Nothing is invented. A score that is missing, out of range or not an integer makes the answer unusable; what can be put
right without a doubt (weights that don't sum to 1, a wrong overall, a score written as a string) is put right and flagged.
Finding the JSON is left to `json_answers.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrm.construction.calling.calls import UnusableAnswer
from mrm.construction.json_answers import find_json
from mrm.construction.judge_prompts import HIGHEST, LOWEST
from mrm.construction.mentions import may_mention, mentions
from mrm.construction.rubrics import Rubric

MODES = ("listwise", "pointwise")
WEIGHT_SLACK = 0.02  # how far from 1 weights may sum, since judges round them
OVERALL_SLACK = 0.05  # how far from the weighted mean an overall may be
_INTEGER = re.compile(r"[+-]?\d{1,9}")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ResponseScore:
    """What a judge gave to one response.

    Args:
        overall: the weighted mean of the scores, in [0, 10].
        scores: integer in 0..10 by criterion.
        weights: at least 0, by criterion; they sum to 1 within WEIGHT_SLACK.
        analyses: text by criterion; may be empty.
        flags: what was put right or is suspect: "score as string", "score as float", "number as string", "weights
            normalised", "overall recomputed", "no analysis", "unknown criterion", "names an assistant", "cites the reference".
    """

    overall: float
    scores: Mapping[str, int]
    weights: Mapping[str, float]
    analyses: Mapping[str, str]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scoring:
    """What a judge gave to all responses that it was shown.

    Args:
        reference: the judge's own answer; may be empty.
        responses: in shown order.
        flags: "JSON repaired", "no reference", "responses by place", "weights differ".
    """

    reference: str
    responses: tuple[ResponseScore, ...]
    flags: tuple[str, ...] = ()

    @property
    def overalls(self) -> tuple[float, ...]:
        """The overall scores, in shown order."""
        return tuple(response.overall for response in self.responses)

    def to_answer(self) -> str:
        """The JSON that a judge writes to say this: `parse_scoring` reads it back, flags aside."""
        responses = [
            {
                "response": number,
                "criteria": {
                    name: {
                        "analysis": response.analyses[name],
                        "score": response.scores[name],
                        "weight": response.weights[name],
                    }
                    for name in response.scores
                },
                "overall": response.overall,
            }
            for number, response in enumerate(self.responses, 1)
        ]
        return json.dumps({"reference": self.reference, "responses": responses}, ensure_ascii=False)


def parse_scoring(text: str, rubric: Rubric, n_responses: int, mode: str) -> Scoring:
    """Reads a judge's answer.

    Args:
        text: as it came.
        rubric: its criteria are demanded of every response.
        n_responses: how many were shown.
        mode: "listwise" or "pointwise"; only in the latter the one response may stand at the top, without a list.

    Raises:
        UnusableAnswer: with the reason, one of "empty answer", "no JSON", "cut off", "duplicate key", "unclear number", "answer
            too long", "no responses", "wrong number of responses", "missing response number", "unknown response", "duplicate response",
            "malformed response", "missing criterion", "missing score", "score not an integer", "score out of range", "bad
            weights".
    """
    assert mode in MODES and n_responses >= 1 and (mode == "listwise" or n_responses == 1), (mode, n_responses)
    found = find_json(text, ("responses", "criteria") if mode == "pointwise" else ("responses",))
    try:
        scoring = _scoring(found.value, rubric.names, n_responses, mode)
    except UnusableAnswer as error:
        if found.cut_off:
            raise UnusableAnswer(
                "cut off", f"the answer ends within its JSON ({error}); allow more output tokens."
            ) from None
        raise
    if found.repaired:
        scoring = Scoring(scoring.reference, scoring.responses, ("JSON repaired", *scoring.flags))
    return scoring


def _scoring(answer: Mapping[str, Any], names: Sequence[str], n_responses: int, mode: str) -> Scoring:
    bodies, numbered = _bodies(answer, n_responses, mode)
    responses = [_response(body, number, names) for number, body in enumerate(bodies, 1)]
    if may_mention("\n".join([text for response in responses for text in response.analyses.values()])):
        responses = [_with_mentions(response) for response in responses]
    flags = []
    reference = answer.get("reference")
    reference = _utf8(reference) if isinstance(reference, str) else ""
    if not reference.strip():
        flags.append("no reference")
    if not numbered and n_responses > 1:
        flags.append("responses by place")
    first = responses[0].weights
    if any(abs(r.weights[name] - first[name]) > WEIGHT_SLACK for r in responses[1:] for name in names):
        flags.append("weights differ")
    return Scoring(reference, tuple(responses), tuple(flags))


def _bodies(answer: Mapping[str, Any], n_responses: int, mode: str) -> tuple[list[Mapping[str, Any]], bool]:
    """What was said of each response, in shown order, and whether the responses were numbered."""
    listed = answer.get("responses")
    if mode == "pointwise" and listed is None and "criteria" in answer:
        return [answer], False
    if isinstance(listed, Mapping):  # {"Response 1": {...}, ...}
        if not all(isinstance(body, Mapping) for body in listed.values()):
            raise UnusableAnswer("malformed response", "an entry of `responses` is not an object.")
        listed = [{**body, "response": name} for name, body in listed.items()]
    if not isinstance(listed, list):
        raise UnusableAnswer("no responses", f"the answer has no list `responses`; its keys are {_keys(answer)}.")
    if len(listed) != n_responses:
        raise UnusableAnswer(
            "wrong number of responses", f"{len(listed)} responses are scored, {n_responses} were shown."
        )
    if not all(isinstance(body, Mapping) for body in listed):
        raise UnusableAnswer("malformed response", "an entry of `responses` is not an object.")
    names = [next((body[key] for key in ("response", "name", "number", "id") if key in body), None) for body in listed]
    if all(name is None for name in names):
        return listed, False
    return _in_order(listed, names), True


def _in_order(bodies: list[Any], names: list[Any]) -> list[Any]:
    ordered: list[Any] = [None] * len(bodies)
    for body, name in zip(bodies, names, strict=True):
        if name is None:
            raise UnusableAnswer("missing response number", "some responses are numbered and others are not.")
        number = _response_number(name)
        if number is None or not 1 <= number <= len(bodies):
            raise UnusableAnswer("unknown response", f"{_short(name)} is none of the {len(bodies)} responses shown.")
        if ordered[number - 1] is not None:
            raise UnusableAnswer("duplicate response", f"response {number} is scored twice.")
        ordered[number - 1] = body
    return ordered


def _response_number(name: Any) -> int | None:
    """1 of 1, "1", "Response 1" or "回答1"."""
    if isinstance(name, str) and len(name) <= 40:
        digits = re.findall(r"\d+", name)
        return int(digits[0]) if len(digits) == 1 else None
    return name if isinstance(name, int) and not isinstance(name, bool) else None


def _response(body: Mapping[str, Any], number: int, names: Sequence[str]) -> ResponseScore:
    criteria = body.get("criteria", body)
    if not isinstance(criteria, Mapping):
        raise UnusableAnswer("malformed response", f"`criteria` of response {number} is not an object.")
    flags: dict[str, None] = {}  # each once, in order
    scores: dict[str, int] = {}
    weights: dict[str, float] = {}
    analyses: dict[str, str] = {}
    for name in names:
        said = criteria.get(name)
        if not isinstance(said, dict):
            raise UnusableAnswer("missing criterion", f"response {number} has no {name!r}; found {_keys(criteria)}.")
        score = said.get("score")
        if type(score) is not int:
            score = _integer(score, f"{name} of response {number}", flags)
        if not LOWEST <= score <= HIGHEST:
            raise UnusableAnswer(
                "score out of range", f"{name} of response {number} has {_short(score)}; 0 to 10 are allowed."
            )
        scores[name] = score
        weight = said.get("weight")
        weights[name] = weight if type(weight) is float else _number(weight, flags)
        analysis = said.get("analysis")
        if not isinstance(analysis, str) or not analysis.strip():
            analysis = ""
            flags["no analysis"] = None
        analyses[name] = analysis if analysis.isascii() else _utf8(analysis)
    if "criteria" in body and len(criteria) > len(names):
        flags["unknown criterion"] = None
    weights = _checked_weights(weights, number, flags)
    mean = _mean(scores, weights)
    overall = _overall(body.get("overall"), mean, flags)
    return ResponseScore(overall, scores, weights, analyses, tuple(flags))


def _integer(value: Any, where: str, flags: dict[str, None]) -> int:
    """8 of "8" or 8.0."""
    if value is None:
        raise UnusableAnswer("missing score", f"{where} has no score.")
    if isinstance(value, float) and value.is_integer():
        flags["score as float"] = None
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        flags["score as string"] = None
        return int(value)
    raise UnusableAnswer("score not an integer", f"{where} has {_short(value)}; an integer from 0 to 10 is allowed.")


def _number(value: Any, flags: dict[str, None]) -> float:
    """The number; NaN where it is none."""
    as_string = isinstance(value, str) and len(value) <= 40
    if isinstance(value, bool) or not (as_string or isinstance(value, (int, float))):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    if as_string:
        flags["number as string"] = None
    return number


def _checked_weights(weights: dict[str, float], number: int, flags: dict[str, None]) -> dict[str, float]:
    total = sum(weights.values())
    if not (all(weight >= 0 for weight in weights.values()) and 0 < total < math.inf):
        raise UnusableAnswer(
            "bad weights",
            f"response {number} has weights {list(weights.values())}; each must be at least 0, one above.",
        )
    if abs(total - 1) <= WEIGHT_SLACK + _ROUNDING:
        return weights
    flags["weights normalised"] = None
    # By the largest first: a sum of tiny weights may be too small to divide by.
    largest = max(weights.values())
    scaled = {name: weight / largest for name, weight in weights.items()}
    total = sum(scaled.values())
    return {name: weight / total for name, weight in scaled.items()}


def _mean(scores: Mapping[str, int], weights: Mapping[str, float]) -> float:
    return sum(scores[name] * weight for name, weight in weights.items()) / sum(weights.values())


def _overall(stated: Any, mean: float, flags: dict[str, None]) -> float:
    """The stated overall where it is the weighted mean, else the weighted mean."""
    said = stated if type(stated) is float else _number(stated, flags)
    if abs(said - mean) <= OVERALL_SLACK + _ROUNDING and LOWEST <= said <= HIGHEST:
        return said
    flags["overall recomputed"] = None
    return round(mean, 2)


def _with_mentions(response: ResponseScore) -> ResponseScore:
    flags = mentions("\n".join(response.analyses.values()))
    if not flags:
        return response
    return ResponseScore(
        response.overall, response.scores, response.weights, response.analyses, (*response.flags, *flags)
    )


def _utf8(text: str) -> str:
    """The text with halves of surrogate pairs, which an escape in JSON can leave behind, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _keys(value: Mapping[str, Any]) -> str:
    return ", ".join(repr(key[:40]) for key in list(value)[:12]) or "none"


def _short(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:100])
    return repr(value)[:100] if isinstance(value, (int, float, type(None))) else f"a {type(value).__name__}"
