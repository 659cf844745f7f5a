"""Pairs out of judges' training data that grades two answers, instead of naming the better one.

The forms are those of LLaVA-Bench (`[Question]`, `[Assistant 1]`, ..., and a first line `8 6` of scores from 1 to 10) and of WildVision's
arena (`<|User Prompt|>`, `<|The Start of Assistant A's Answer|>`, ..., and `[[A>>B]]`, `[[A>B]]`, `[[A=B]]`, ...). A prompt is taken apart only
where each mark stands exactly once and in order; all else is refused by name, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from datamodules.sources.comparisons import NO_VERDICT, UNPARSED
from mrm.errors import RecordError
from mrm.preference import IMAGE_MARKER

LOWEST, HIGHEST = 1, 10  # LLaVA-Bench's scores
_LLAVA_BENCH = ("[Question]", "[Assistant 1]", "[End of Assistant 1]", "[Assistant 2]", "[End of Assistant 2]")
_ARENA = (
    "<|User Prompt|>",
    "<|The Start of Assistant A's Answer|>",
    "<|The End of Assistant A's Answer|>",
    "<|The Start of Assistant B's Answer|>",
    "<|The End of Assistant B's Answer|>",
)
_VERDICT = re.compile(r"\[\[(A>>B|A>B|A=B|B>A|B>>A)\]\]")
_GAPS = {"A>>B": 1.0, "A>B": 0.5, "A=B": 0.0, "B>A": -0.5, "B>>A": -1.0}


def parse_graded(prompt: str, verdict: str) -> tuple[str, str, str, float]:
    """What a judge was shown and how it graded.

    Args:
        prompt: shows one question and two answers.
        verdict: the judge's answer.

    Returns:
        The question, the first and the second answer, and by how much the first is better, in [-1, 1]: the gap of scores / 9, or
        1 for `>>` and 0.5 for `>`; 0 is a tie.

    Raises:
        RecordError: "unparsed prompt" or "no verdict".
    """
    forms: tuple[tuple[tuple[str, ...], Callable[[str], float | None]], ...] = (
        (_LLAVA_BENCH, _gap_of_scores),
        (_ARENA, _gap_of_verdict),
    )
    for marks, gap_of in forms:
        places = [prompt.find(mark) for mark in marks]
        if -1 in places or places != sorted(places) or any(prompt.count(mark) != 1 for mark in marks):
            continue
        asked, first, first_end, second, second_end = places
        begins = [asked + len(marks[0]), first + len(marks[1]), second + len(marks[3])]
        ends = [first, first_end, second_end]
        question, *answers = (prompt[begin:end].strip() for begin, end in zip(begins, ends, strict=True))
        if (gap := gap_of(verdict)) is None:
            raise RecordError(NO_VERDICT, f"no grades of a known form in {verdict[:80]!r}.")
        return question.replace(IMAGE_MARKER, "").strip(), answers[0], answers[1], gap
    raise RecordError(
        UNPARSED, f"the prompt does not show one question and two answers in a known form: {prompt[:80]!r}."
    )


def _gap_of_scores(verdict: str) -> float | None:
    first_line = verdict.strip().partition("\n")[0]
    try:
        first, second = map(float, first_line.replace(",", " ").split())
    except ValueError:
        return None
    if not (LOWEST <= first <= HIGHEST and LOWEST <= second <= HIGHEST):
        return None
    return (first - second) / (HIGHEST - LOWEST)


def _gap_of_verdict(verdict: str) -> float | None:
    said = set(_VERDICT.findall(verdict))
    return _GAPS[said.pop()] if len(said) == 1 else None
