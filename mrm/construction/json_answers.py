"""The JSON object in a model's answer: alone, within a fence, behind thinking or prose, or slightly broken.

`json` reads what is well-formed; the rest is mended by json_repair, which would also make something of half an object:
what follows the last closing bracket is cut away first, so that no half-written value is taken for a whole one. What the
object must hold is left to the caller. All work is bounded: answers are text from outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import json_repair

from mrm.construction.calling.calls import UnusableAnswer

# json_repair needs a time that grows with the square of the nesting, and of some texts' length.
MOST_REPAIRED = 30_000  # characters; an answer for four responses has some 10,000
MOST_UNCLOSED = 40  # brackets; half an answer has at most 6
_MOST_STARTS = 16  # places at which a well-formed object is looked for
_BEGINNING = re.compile(r"""\{\s*["'“]""")  # of an object; formulas have braces too
# What stands behind a key up to the next quote or bracket; only numbers' keys are known without quotes.
_BARE_VALUE = re.compile(r"""(?:["'”]|\b(?:score|weight|overall))\s*:\s*([^"'“”\[\]{}]+)""")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?")


class _DuplicateKey(Exception):
    pass


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _DuplicateKey
    return value


# Not strict: line breaks within strings are the commonest fault, and harmless.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_distinct)


@dataclass(frozen=True)
class FoundJson:
    """What was found.

    Args:
        value: the object.
        repaired: whether it was not well-formed.
        cut_off: whether the text ends before the object does.
    """

    value: dict[str, Any]
    repaired: bool = False
    cut_off: bool = False


def find_json(text: str, keys: tuple[str, ...]) -> FoundJson:
    """The one object in the text that has one of the keys; the last one at all where none has.

    Args:
        text: an answer, as it came.
        keys: of the object that is looked for.

    Raises:
        UnusableAnswer: "empty answer", "no JSON", "cut off", "duplicate key", "ambiguous answer", "unclear number" or "answer too long".
    """
    text = text.strip()
    if not text:
        raise UnusableAnswer("empty answer", "the answer is empty.")
    try:
        return _found(text, keys)
    except _DuplicateKey:
        raise UnusableAnswer("duplicate key", "the answer's JSON has a key twice in one object.") from None


def _found(text: str, keys: tuple[str, ...]) -> FoundJson:
    if text.startswith("{"):
        try:
            value, end = _DECODER.raw_decode(text)
            if end == len(text):
                return FoundJson(value)
        except (ValueError, RecursionError):
            pass
    text = _said(text)
    if "{" not in text:
        raise UnusableAnswer("no JSON", f"the answer holds no JSON object; it begins {text[:80]!r}.")
    found = list(_well_formed(text))
    asked = [one for one in found if any(key in one.value for key in keys)]
    if asked:
        _refuse_others(text, asked, keys)
        return FoundJson(asked[-1].value)
    repaired = _repaired(text)
    if repaired is not None and (not found or any(key in repaired.value for key in keys)):
        return repaired
    if found:
        return FoundJson(found[-1].value)
    raise UnusableAnswer("no JSON", f"the answer holds no JSON object that could be read; it begins {text[:80]!r}.")


def _refuse_others(text: str, asked: list[_Placed], keys: tuple[str, ...]) -> None:
    """A second scoring, sound or broken, may be one that a response brought along and the judge quotes."""
    place, rest = 0, []
    for one in asked:
        if one.value == asked[-1].value:
            rest.append(text[place : one.start])
            place = one.end
    rest.append(text[place:])
    named = re.compile("|".join(rf'"{re.escape(key)}"\s*:' for key in keys))
    if any(named.search(piece) for piece in rest):
        raise UnusableAnswer("ambiguous answer", "the answer holds another scoring beside the one that could be read.")


def _said(text: str) -> str:
    """The text without the thinking before it."""
    if "</think>" in text and not text.startswith(("{", "```")):
        return text.partition("</think>")[2].strip()
    if text.startswith("<think>"):
        raise UnusableAnswer("cut off", "the answer ends within its thinking; allow more output tokens.")
    return text


@dataclass(frozen=True)
class _Placed:
    """An object, and where in the text it stands."""

    value: dict[str, Any]
    start: int
    end: int


def _well_formed(text: str) -> Iterator[_Placed]:
    """The objects that do not lie in another, from the first braces on."""
    place = 0
    for _ in range(_MOST_STARTS):
        beginning = _BEGINNING.search(text, place)
        if beginning is None:
            return
        try:
            value, place = _DECODER.raw_decode(text, beginning.start())
            yield _Placed(value, beginning.start(), place)
        except (ValueError, RecursionError):
            place = beginning.start() + 1


def _repaired(text: str) -> FoundJson | None:
    beginning = _BEGINNING.search(text)
    start = beginning.start() if beginning else text.find("{")
    end = max(text.rfind("}"), text.rfind("]"))
    if end < start:
        raise UnusableAnswer("cut off", "the answer ends within its JSON; allow more output tokens.")
    broken = text[start : end + 1]
    if len(broken) > MOST_REPAIRED:
        raise UnusableAnswer("answer too long", f"broken JSON of {len(broken)} characters is not mended.")
    unclosed = broken.count("{") + broken.count("[") - broken.count("}") - broken.count("]")
    if abs(unclosed) > MOST_UNCLOSED:
        raise UnusableAnswer("no JSON", f"the answer's JSON has {unclosed} more opening brackets than closing ones.")
    _refuse_unclear_numbers(broken)
    try:
        value = json_repair.loads(broken, skip_json_loads=True)
    except Exception:  # its guesses on hostile texts end in errors of many kinds
        return None
    for candidate in reversed(value if isinstance(value, list) else [value]):
        if isinstance(candidate, dict):
            return FoundJson(candidate, repaired=True, cut_off=unclosed > 0)
    return None


def _refuse_unclear_numbers(broken: str) -> None:
    """json_repair takes the 8 of "8 or 9" and the 1 of "1 0"."""
    for match in _BARE_VALUE.finditer(broken):
        value = match[1].strip().removesuffix(",").rstrip()
        if value.lstrip("+-~<(.")[:1].isdigit() and not _NUMBER.fullmatch(value):
            raise UnusableAnswer("unclear number", f"{value[:40]!r} stands where a number should, in broken JSON.")
