"""The stages `listwise` and `pointwise`: every judge scores every response, all at once in a shuffled order, and each alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrm.construction.agreement import Scored
from mrm.construction.asking import Asked, Asker, make_call, subject_of
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Answer, Call, Model, UnusableAnswer
from mrm.construction.calling.log_lines import LoggedAnswer
from mrm.construction.judge_prompts import listwise_request, pointwise_request
from mrm.construction.order import shown_order, unshuffle
from mrm.construction.records import PromptRecord
from mrm.construction.rubrics import Rubric
from mrm.construction.scoring import parse_scoring
from mrm.construction.stage_files import Left
from mrm.preference import language_of

Rubrics = Mapping[str, Rubric]  # by language
Scores = dict[str, Any]  # {"key", "scorings": [...]}, a line of the stage's file
Records = Callable[[], Iterable[PromptRecord]]


@dataclass(frozen=True)
class ListwiseAskings:
    """Who scores a record's responses side by side, and in which orders.

    Args:
        judges: who judges.
        rubrics: one for each language that the prompts are in.
        seed: of the orders.
        repeats: calls a judge; each shows another order.
    """

    judges: Sequence[Model]
    rubrics: Rubrics
    seed: int
    repeats: int = 1

    def of(self, record: PromptRecord) -> Iterator[tuple[Model, int, tuple[int, ...]]]:
        """(judge, repeat, order) of each call."""
        for judge in self.judges:
            for repeat in range(self.repeats):
                yield judge, repeat, shown_order(len(record.responses), self.seed, record.key, judge.name, repeat)

    def plan(self, record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        """The calls."""
        for judge, repeat, order in self.of(record):
            subject = subject_of(record, images, [record.responses[number].text for number in order])
            chat = listwise_request(_rubric(self.rubrics, record), subject)
            yield make_call("listwise", record, judge, chat, subject, repeat=repeat)

    def count(self, record: PromptRecord) -> int:
        """How many there are."""
        return len(self.judges) * self.repeats

    def scores(self, asked: Asked) -> Scores:
        """What came of them, in the record's own order of responses."""
        rubric, n = _rubric(self.rubrics, asked.record), len(asked.record.responses)
        scorings = []
        for (judge, repeat, order), answer in zip(self.of(asked.record), asked.answers, strict=True):
            overalls, flags = overalls_of(answer, rubric, n, "listwise")
            scorings.append(
                {
                    "judge": judge.name,
                    "mode": "listwise",
                    "repeat": repeat,
                    "order": list(order),
                    "overalls": unshuffle(overalls, order),
                    "flags": flags,
                    "call": answer and answer.key,
                }
            )
        return {"key": asked.record.key, "scorings": scorings}


@dataclass(frozen=True)
class PointwiseAskings:
    """Who scores each response alone; arguments as of `ListwiseAskings`."""

    judges: Sequence[Model]
    rubrics: Rubrics

    def plan(self, record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        """The calls."""
        for judge in self.judges:
            for response in record.responses:
                subject = subject_of(record, images, [response.text])
                chat = pointwise_request(_rubric(self.rubrics, record), subject)
                yield make_call("pointwise", record, judge, chat, subject)

    def count(self, record: PromptRecord) -> int:
        """How many there are."""
        return len(self.judges) * len(record.responses)

    def scores(self, asked: Asked) -> Scores:
        """What came of them."""
        rubric, n = _rubric(self.rubrics, asked.record), len(asked.record.responses)
        scorings = []
        for place, judge in enumerate(self.judges):
            answers = asked.answers[place * n : (place + 1) * n]
            told = [overalls_of(answer, rubric, 1, "pointwise") for answer in answers]
            scorings.append(
                {
                    "judge": judge.name,
                    "mode": "pointwise",
                    "repeat": 0,
                    "order": None,
                    "overalls": [overalls[0] for overalls, _ in told],
                    "flags": [flag for _, flags in told for flag in flags],
                    "call": [answer and answer.key for answer in answers],
                }
            )
        return {"key": asked.record.key, "scorings": scorings}


def judge(
    asker: Asker, stage: str, records: Records, askings: ListwiseAskings | PointwiseAskings
) -> tuple[CallAccount, Iterator[Scores | Left]]:
    """Has the judges score every record's responses.

    Args:
        asker: asks.
        stage: its name.
        records: gives the records.
        askings: who is asked what.

    Returns:
        What became of the calls, and a line a record; a record whose images are gone is `Left`.
    """
    account, asked = asker.ask(stage, records, askings.plan, acceptor(askings.rubrics), count=askings.count)
    return account, (item if isinstance(item, Left) else askings.scores(item) for item in asked)


def acceptor(rubrics: Rubrics) -> Callable[[Call, Answer], None]:
    """What refuses a judge's answer that is no complete scoring."""

    def accept(call: Call, answer: Answer) -> None:
        rubric = rubrics[language_of(call.subject.prompt)]
        parse_scoring(answer.text, rubric, len(call.subject.responses), call.kind)

    return accept


def scored(*lines: Scores) -> list[Scored]:
    """The scorings of a record, from the stages' lines."""
    return [
        Scored(
            each["judge"],
            each["mode"],
            each["repeat"],
            tuple(each["overalls"]),
            None if each["order"] is None else tuple(each["order"]),
        )
        for line in lines
        for each in line["scorings"]
    ]


def _rubric(rubrics: Rubrics, record: PromptRecord) -> Rubric:
    return rubrics[language_of(record.prompt)]


def overalls_of(answer: LoggedAnswer | None, rubric: Rubric, n: int, mode: str) -> tuple[list[float | None], list[str]]:
    """Overall scores in the order shown, and what was conspicuous; None where there is no score.

    Args:
        answer: as the log has it; None where none came.
        rubric: by which it was asked for.
        n: responses shown.
        mode: "listwise" or "pointwise".
    """
    if answer is None:
        return [None] * n, []
    try:
        scoring = parse_scoring(answer.answer.text, rubric, n, mode)
    except UnusableAnswer as error:  # it was accepted when it came: by a version that asked for less
        return [None] * n, [error.reason]
    flags = [*scoring.flags, *(flag for response in scoring.responses for flag in response.flags)]
    return list(scoring.overalls), flags
