"""Pairs out of judges' training data: the prompt that shows a judge two candidates, and the verdict.

Such data are published as text to imitate. A prompt is taken apart only where its headings stand exactly once, so that an answer
that holds one is not cut in the wrong place; what cannot be parsed is refused by name, never guessed.
"""

from __future__ import annotations

import itertools
import re

from mrm.errors import RecordError
from mrm.preference import IMAGE_MARKER

UNPARSED = "unparsed prompt"
NO_VERDICT = "no verdict"
_FIRST = r"(?:Response|Answer) (?:1|A)|The first (?:response|answer)"
_SECOND = r"(?:Response|Answer) (?:2|B)|The second (?:response|answer)"
# "Question: [...]", "Response 1: [...]", "Response 2: [...]", each at a line's beginning.
_BRACKETS = tuple(
    re.compile(rf"^\W{{0,4}}(?:{name})\W{{0,4}}: ?\[", re.MULTILINE) for name in ("Question", _FIRST, _SECOND)
)
# "#### [Question]:", "#### [Response 1]:", "#### [Response 2]:", "#### **Output Format".
_HEADINGS = tuple(re.compile(rf"^#+ *\[{name}\]:?", re.MULTILINE) for name in ("Question", "Response 1", "Response 2"))
_OUTPUT_FORMAT = re.compile(r"^#+ *\**Output Format", re.MULTILINE)
_CAPTION = re.compile(r"^\W{0,4}(?:Text )?Caption\W{0,4}: ?\[", re.MULTILINE)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_FIRST_WORDS = ("first", "1", "a")
_SECOND_WORDS = ("second", "2", "b")
# A verdict for its own sake: these count, whatever is said before and after.
_DECLARED = (
    re.compile(
        r"the better (?:response|answer|image)\W{0,3}: ?\W{0,3}(first|second|1|2|a|b)(?= ?(?:[\]*.,;]|$))",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(r"^\W{0,4}(?:response|answer|image) (1|2|a|b) is better\W{0,4}$", re.IGNORECASE | re.MULTILINE),
)
# One within a sentence, which may be about an aspect only: these count where they all say the same.
_DEGREE = r"(?:(?!(?:not|no|never|hardly|barely|neither|nor)\b)\w+ ){0,2}"
_SAID = (
    re.compile(rf"\b(?:response|answer|image) (1|2|a|b) is {_DEGREE}(?:better|superior)\b", re.IGNORECASE),
    re.compile(rf"\bthe (first|second) (?:response|answer|image|one) is {_DEGREE}(?:better|superior)\b", re.IGNORECASE),
)
# What takes a verdict back when it stands before it in its sentence, or leaves it open.
_DOUBT = re.compile(
    r"\b(?:not|never|neither|nor|whether|if|unclear|hardly|may|might|some|although|though|while)\b|n't\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.;!?\n]")
_EQUAL = re.compile(r"\bequally (?:good|bad)\b|\bare tied\b|\bit is a tie\b", re.IGNORECASE)


def parse_comparison(text: str) -> tuple[str, str, str]:
    """The question and the two responses that a judge's prompt shows.

    Raises:
        RecordError: "unparsed prompt" where it has another form.
    """
    for headings, bracketed in ((_BRACKETS, True), (_HEADINGS, False)):
        found = [list(heading.finditer(text)) for heading in headings]
        if any(len(matches) != 1 for matches in found):
            continue
        starts = [matches[0].start() for matches in found]
        ends = [matches[0].end() for matches in found]
        if starts != sorted(starts):
            continue
        stop = len(text)
        if not bracketed and (formats := [m.start() for m in _OUTPUT_FORMAT.finditer(text) if m.start() > ends[2]]):
            stop = formats[-1]
        parts = [text[begin:end].strip() for begin, end in zip(ends, [*starts[1:], stop], strict=True)]
        if bracketed:
            if not all("]" in part for part in parts):
                continue
            parts = [part[: part.rindex("]")].strip() for part in parts]
        question, first, second = parts
        return question.replace(IMAGE_MARKER, "").strip(), first, second
    raise RecordError(
        UNPARSED, f"the prompt does not show one question and two responses in a known form: {_shown(text)}."
    )


def shows_comparison(text: str) -> bool:
    """Whether a text holds headings of a judge's prompt, and is more than a question."""
    return any(heading.search(text) for heading in (*_BRACKETS[1:], *_HEADINGS))


def parse_caption(text: str) -> str:
    """The caption that a judge of two images is shown.

    Raises:
        RecordError: "unparsed prompt" where there is none.
    """
    found = list(_CAPTION.finditer(text))
    rest = text[found[0].end() :].rstrip() if len(found) == 1 else ""
    if not rest.endswith("]"):
        raise RecordError(UNPARSED, f"the prompt does not end in one `Text Caption: [...]`: {_shown(text, end=True)}.")
    return rest[:-1].strip()


def parse_verdict(text: str) -> int | None:
    """Which candidate a verdict prefers.

    Args:
        text: the judge's answer. What stands in `<answer>` counts, else the last verdict declared for its own sake, else what
            all sentences with a verdict agree on.

    Returns:
        0 or 1, or None for a tie.

    Raises:
        RecordError: "no verdict" where nothing is known to be one, or sentences differ.
    """
    said = _last_answer(text).replace("**", "").replace("__", "")
    word = said.lower().strip(".[] ")
    if word in (*_FIRST_WORDS, *_SECOND_WORDS):
        return int(word in _SECOND_WORDS)
    if declared := _verdicts(said, _DECLARED):
        return max(declared)[1]
    found: set[int | None] = {verdict for place, verdict in _verdicts(said, _SAID) if not _is_doubted(said, place)}
    if _EQUAL.search(said):
        found.add(None)
    if len(found) != 1:
        problem = "no verdict of a known form" if not found else "verdicts that differ"
        raise RecordError(NO_VERDICT, f"{problem} in {_shown(said, end=True)}.")
    return found.pop()


def _last_answer(text: str) -> str:
    """What stands in the last `<answer>`, or the whole text. A pattern over both tags would take the square of the length."""
    tags = list(_TAG.finditer(text))
    closed = [(begin, end) for begin, end in itertools.pairwise(tags) if not begin[1] and end[1]]
    return text[closed[-1][0].end() : closed[-1][1].start()].strip() if closed else text


def _verdicts(text: str, patterns: tuple[re.Pattern[str], ...]) -> list[tuple[int, int]]:
    """Place and verdict of each match."""
    matches = (match for pattern in patterns for match in pattern.finditer(text))
    return [(match.start(), int(match[1].lower() in _SECOND_WORDS)) for match in matches]


def _is_doubted(text: str, place: int) -> bool:
    """Whether the sentence says something before the verdict that takes it back or leaves it open."""
    before = text[max(0, place - 400) : place]
    return _DOUBT.search(_SENTENCE_END.split(before)[-1]) is not None


def _shown(text: str, end: bool = False) -> str:
    return repr(text if len(text) <= 120 else f"...{text[-117:]}" if end else f"{text[:117]}...")
