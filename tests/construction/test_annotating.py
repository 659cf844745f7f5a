"""Pairs put to judges: what is asked, and what the answers count for."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from datamodules.shapeworld import generate_split
from mrm.construction.annotating import PairAskings, share_of_first, votes_of
from mrm.construction.calling.calls import Answer, Model
from mrm.construction.calling.log_lines import LoggedAnswer
from mrm.construction.embedded import ShapeWorldScorer
from mrm.construction.rubrics import load_rubrics
from mrm.preference import Message, Pair, PreferenceSample

RUBRICS = load_rubrics("auto", {})


def sample(errors: tuple[int, ...] = (0, 2), question: str = "How many?") -> PreferenceSample:
    responses = tuple(f"{number} circles" for number in range(len(errors)))
    truth = {"errors": list(errors), "flipped": [False], "styles": []}
    return PreferenceSample("k", "s", (Message("user", question),), (), responses, (Pair(0, 1),), {"truth": truth})


def scorers(accuracy: float = 1.0, **options: float) -> list[Model]:
    return [ShapeWorldScorer(name, accuracy=accuracy, seed=3, **options) for name in ("a", "b")]  # type: ignore[arg-type]


def votes(judges: list[Model], about: PreferenceSample, chosen: int = 0, rejected: int = 1) -> list[float]:
    """As a round gets them, with every call answered."""
    askings, models = PairAskings(judges, RUBRICS), {judge.name: judge for judge in judges}
    told = [
        LoggedAnswer(call.key, call.record, call.kind, call.model, 0, answer, 0.0, 1, None, "")
        for call in askings.plan(about, chosen, rejected)
        for answer in [asyncio.run(models[call.model].answer(call))]
    ]
    return votes_of(told, askings.rubric(about))


def test_plan_asks_judge_by_judge_in_both_orders() -> None:
    askings = PairAskings(scorers(), RUBRICS)
    calls = askings.plan(sample((1, 2, 0)), 2, 0)
    assert [call.model for call in calls] == ["a", "a", "b", "b"] and askings.votes == 4
    assert [call.subject.responses for call in calls[:2]] == [("2 circles", "0 circles"), ("0 circles", "2 circles")]
    assert len({call.key for call in calls}) == 4


def test_plan_keys_depend_neither_on_the_name_nor_on_the_published_choice() -> None:
    askings = PairAskings(scorers(), RUBRICS)
    other = replace(sample(), key="other", meta={**sample().meta, "truth": {"errors": [0, 2], "flipped": [True]}})
    keys = [call.key for call in askings.plan(sample(), 0, 1)]
    assert [call.key for call in askings.plan(other, 0, 1)] == keys
    assert {call.key for call in askings.plan(other, 1, 0)} == set(keys)


def test_plan_shows_judges_the_errors_of_what_they_see_and_never_whether_the_label_is_right() -> None:
    _, second, *_ = PairAskings(scorers(), RUBRICS).plan(sample((1, 2, 0)), 2, 0)
    assert second.subject.meta["truth"] == {"shown_errors": [1, 0]}


def test_plan_question_in_chinese_is_judged_by_the_chinese_rubric() -> None:
    call, *_ = PairAskings(scorers(), RUBRICS).plan(sample(question="有几个?"), 0, 1)
    assert "回答1" in str(call.chat.messages[-1].parts)
    english = PairAskings(scorers(), load_rubrics("en", {})).plan(sample(question="有几个?"), 0, 1)
    assert "Response 1" in str(english[0].chat.messages[-1].parts)


@pytest.mark.parametrize(("errors", "expected"), [((0, 2), 1.0), ((3, 1), 0.0), ((1, 1), 0.5)])
def test_votes_of_judges_that_never_err_go_to_fewer_errors_in_both_orders(
    errors: tuple[int, int], expected: float
) -> None:
    assert votes(scorers(), sample(errors)) == [expected] * 4
    assert votes(scorers(), sample(errors), 1, 0) == [1 - expected] * 4


def test_votes_of_a_judge_of_one_place_cancel() -> None:
    assert votes(scorers(position_bias=1.0), sample((2, 0))) == [1, 0, 1, 0]


def test_votes_missing_or_unusable_answers_are_missing() -> None:
    unusable = LoggedAnswer("0", "k", "listwise", "a", 0, Answer("{}"), 0.0, 1, None, "")
    assert all(map(math.isnan, votes_of([None, unusable], RUBRICS["en"])))


@pytest.mark.parametrize(("overalls", "share"), [((7.5, 3.0), 1.0), ((3.0, 7.5), 0.0), ((4.0, 4.0), 0.5)])
def test_share_of_first_by_hand(overalls: tuple[float, float], share: float) -> None:
    assert share_of_first(overalls) == share
    assert share_of_first(overalls[::-1]) == 1 - share


def test_scorer_of_accuracy_090_is_right_about_a_pair_in_90_of_100_and_of_one_opinion_in_both_orders() -> None:
    right = tied = same = 0
    pool = list(generate_split("open", 300, 7))
    for about in pool:
        pair, flipped = about.pairs[0], about.meta["truth"]["flipped"][0]
        told = votes(scorers(0.9), about, pair.chosen, pair.rejected)
        right += sum(vote == 1.0 - flipped for vote in told)
        tied += told.count(0.5)
        same += (told[0] == told[1]) + (told[2] == told[3])
    assert right / 1200 == pytest.approx(0.90, abs=0.04)  # three standard errors of 600 opinions
    assert tied / 1200 == pytest.approx(0.04, abs=0.025)
    assert same == 600
