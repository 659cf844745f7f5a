"""The stages `listwise` and `pointwise`: every judge scores every response, all at once in a shuffled order, and each alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mrm.construction.agreement import Scored
from mrm.construction.asking import Asked, Asker, make_call, subject_of
from mrm.construction.call_account import CallAccount
from mrm.construction.calls import Answer, Call, Model, UnusableAnswer
from mrm.construction.judge_prompts import listwise_request, pointwise_request
from mrm.construction.log_lines import LoggedAnswer
from mrm.construction.order import shown_order, unshuffle
from mrm.construction.records import PromptRecord
from mrm.construction.rubrics import Rubric
from mrm.construction.scoring import parse_scoring
from mrm.construction.stage_files import Left
from mrm.preference import language_of

Rubrics = Mapping[str, Rubric]  # by language
Scores = dict[str, Any]  # {"key", "scorings": [...]}, a line of the stage's file
Records = Callable[[], Iterable[PromptRecord]]


def judge_listwise(
    asker: Asker, records: Records, judges: Sequence[Model], rubrics: Rubrics, *, seed: int, repeats: int = 1
) -> tuple[CallAccount, Iterator[Scores | Left]]:
    """Has each judge score a record's responses side by side.

    Args:
        asker: asks.
        records: gives the records.
        judges: who judges.
        rubrics: one for each language that the prompts are in.
        seed: of the orders.
        repeats: calls a judge; each shows another order.
    """
    asks = [(judge, repeat) for judge in judges for repeat in range(repeats)]

    def orders(record: PromptRecord) -> list[tuple[int, ...]]:
        n = len(record.responses)
        return [shown_order(n, seed, record.key, judge.name, repeat) for judge, repeat in asks]

    def plan(record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        rubric = _rubric(rubrics, record)
        for (judge, repeat), order in zip(asks, orders(record), strict=True):
            subject = subject_of(record, images, [record.responses[number].text for number in order])
            yield make_call("listwise", record, judge, listwise_request(rubric, subject), subject, repeat=repeat)

    def scores(asked: Asked) -> Scores:
        rubric, n = _rubric(rubrics, asked.record), len(asked.record.responses)
        scorings = []
        for (judge, repeat), order, answer in zip(asks, orders(asked.record), asked.answers, strict=True):
            scorings.append({"judge": judge.name, "mode": "listwise", "repeat": repeat, "order": list(order)})
            overalls, flags = _overalls(answer, rubric, n, "listwise")
            scorings[-1] |= {"overalls": unshuffle(overalls, order), "flags": flags, "call": answer and answer.key}
        return {"key": asked.record.key, "scorings": scorings}

    account, asked = asker.ask("listwise", records, plan, acceptor(rubrics))
    return account, (item if isinstance(item, Left) else scores(item) for item in asked)


def judge_pointwise(
    asker: Asker, records: Records, judges: Sequence[Model], rubrics: Rubrics
) -> tuple[CallAccount, Iterator[Scores | Left]]:
    """Has each judge score each response alone; arguments as of `judge_listwise`."""

    def plan(record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        for judge in judges:
            for response in record.responses:
                yield pointwise_call(record, images, response.text, judge, rubrics)

    def scores(asked: Asked) -> Scores:
        rubric, n = _rubric(rubrics, asked.record), len(asked.record.responses)
        scorings = []
        for place, judge in enumerate(judges):
            answers = asked.answers[place * n : (place + 1) * n]
            told = [_overalls(answer, rubric, 1, "pointwise") for answer in answers]
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

    account, asked = asker.ask("pointwise", records, plan, acceptor(rubrics))
    return account, (item if isinstance(item, Left) else scores(item) for item in asked)


def pointwise_call(record: PromptRecord, images: tuple[bytes, ...], text: str, judge: Model, rubrics: Rubrics) -> Call:
    """The call that has one response judged alone."""
    subject = subject_of(record, images, [text])
    return make_call("pointwise", record, judge, pointwise_request(_rubric(rubrics, record), subject), subject)


def acceptor(rubrics: Rubrics) -> Callable[[Call, Answer], None]:
    """What refuses a judge's answer that is no complete scoring."""

    def accept(call: Call, answer: Answer) -> None:
        rubric = rubrics[language_of(call.subject.prompt)]
        parse_scoring(answer.text, rubric, len(call.subject.responses), call.kind)

    return accept


def overall_of(answer: LoggedAnswer | None, rubrics: Rubrics, record: PromptRecord) -> float | None:
    """The overall score that a pointwise answer gives; None where none came."""
    return _overalls(answer, _rubric(rubrics, record), 1, "pointwise")[0][0]


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


def _overalls(answer: LoggedAnswer | None, rubric: Rubric, n: int, mode: str) -> tuple[list[float | None], list[str]]:
    """Overall scores in the order shown, and what was conspicuous."""
    if answer is None:
        return [None] * n, []
    try:
        scoring = parse_scoring(answer.answer.text, rubric, n, mode)
    except UnusableAnswer as error:  # it was accepted when it came: by a version that asked for less
        return [None] * n, [error.reason]
    flags = [*scoring.flags, *(flag for response in scoring.responses for flag in response.flags)]
    return list(scoring.overalls), flags
