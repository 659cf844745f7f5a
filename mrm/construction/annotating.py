"""Published pairs put to judges: the calls that show a pair in both orders, and the votes that the answers are.

A vote goes to the response with the higher overall score, a tie is half a vote each (arXiv 2604.19544, iterative training).
Counting votes is left to `mrm.curation.policy`, asking to `calling/runner.py`, reading samples to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrm.construction.calling.calls import Call, Model, Subject, call_key
from mrm.construction.calling.log_lines import LoggedAnswer
from mrm.construction.embedded import SHOWN_ERRORS
from mrm.construction.judge_prompts import listwise_request
from mrm.construction.judging import Rubrics, overalls_of
from mrm.construction.rubrics import Rubric
from mrm.preference import PreferenceSample, language_of

ORDERS = 2  # the published choice first, then second
_KIND = "listwise"


@dataclass(frozen=True)
class PairAskings:
    """Who judges pairs, and by what.

    Args:
        judges: J models of different names.
        rubrics: one for each language that the prompts are in.
    """

    judges: Sequence[Model]
    rubrics: Rubrics

    @property
    def votes(self) -> int:
        """Votes expected for a pair: 2J."""
        return ORDERS * len(self.judges)

    def plan(self, sample: PreferenceSample, chosen: int, rejected: int) -> list[Call]:
        """The 2J calls that put a pair to the judges: judge by judge, the published choice shown first, then second.

        Their keys depend on what is shown alone: neither on the sample's name nor on which response was published as chosen.

        Args:
            sample: prompt, images and responses.
            chosen, rejected: numbers of the pair's responses.

        Raises:
            RecordError: if it cannot be put into words.
        """
        rubric = self.rubric(sample)
        subjects = [_subject(sample, numbers) for numbers in ((chosen, rejected), (rejected, chosen))]
        shown = [(subject, listwise_request(rubric, subject)) for subject in subjects]
        return [
            Call(
                call_key(_KIND, judge.identity, 0, chat, subject), sample.key, _KIND, judge.name, 0, chat, subject
            )
            for judge in self.judges
            for subject, chat in shown
        ]  # fmt: skip

    def rubric(self, sample: PreferenceSample) -> Rubric:
        """By which the sample is judged."""
        return self.rubrics[language_of(sample.prompt)]


def votes_of(answers: Sequence[LoggedAnswer | None], rubric: Rubric) -> list[float]:
    """What the answers to a pair's calls say.

    Args:
        answers: [2J], in the order of `PairAskings.plan`; None where none came.
        rubric: by which they were asked for.

    Returns:
        [2J], each vote's share for the published choice: 1, 0, or 0.5 for a tie; NaN where there is no scoring.
    """
    shares = [share_of_first(overalls_of(answer, rubric, 2, _KIND)[0]) for answer in answers]
    return [share if place % ORDERS == 0 else 1 - share for place, share in enumerate(shares)]


def share_of_first(overalls: Sequence[float | None]) -> float:
    """A vote's share for the first of two responses, by their overall scores; NaN where one is missing."""
    first, second = overalls
    if first is None or second is None:
        return math.nan
    return 0.5 if first == second else float(first > second)


def _subject(sample: PreferenceSample, numbers: Sequence[int]) -> Subject:
    responses = tuple(sample.responses[number] for number in numbers)
    return Subject(
        sample.prompt, sample.images, responses, None, {**sample.meta, "truth": _shown_truth(sample, numbers)}
    )


def _shown_truth(sample: PreferenceSample, numbers: Sequence[int]) -> Mapping[str, Any]:
    """Of the truth what the embedded world's judges go by; never whether the published label is right."""
    truth = sample.meta.get("truth")
    truth = truth if isinstance(truth, Mapping) else {}
    known = {"answers": truth["answers"]} if "answers" in truth else {}
    errors = truth.get("errors")
    if isinstance(errors, Sequence) and len(errors) == len(sample.responses):
        known[SHOWN_ERRORS] = [errors[number] for number in numbers]
    return known
