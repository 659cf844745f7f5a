"""Judging: orders that are undone, rubrics by language, answers that must be whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mrm.construction.asking import Asked
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Answer, UnusableAnswer
from mrm.construction.calling.log_lines import LoggedAnswer
from mrm.construction.judging import ListwiseAskings, PointwiseAskings, acceptor, scored
from mrm.construction.records import PromptRecord, Response
from mrm.construction.rubrics import load_rubric
from mrm.preference import Message
from tests.construction.constructing import judge

RUBRICS = {language: load_rubric(language) for language in ("en", "zh")}
TEXTS = ("good", "bad", "good good", "good good good")
RECORD = PromptRecord("k", "s", (Message("user", "Which?"),), responses=tuple(Response(text, "m") for text in TEXTS))
JUDGES = [CallableModel(name, judge, identity={"name": name}) for name in ("one", "two")]


def answered(askings: ListwiseAskings | PointwiseAskings, record: PromptRecord = RECORD) -> Asked:
    """The record with every call answered."""
    told = []
    for call in askings.plan(record, ()):
        answer = Answer(judge(call))
        acceptor(RUBRICS)(call, answer)
        told.append(LoggedAnswer(call.key, call.record, call.kind, call.model, call.repeat, answer, 0.0, 1, None, ""))
    return Asked(record, tuple(told))


@pytest.mark.parametrize("seed", range(6))
def test_listwise_scores_come_back_in_the_records_order(seed: int) -> None:
    askings = ListwiseAskings(JUDGES, RUBRICS, seed, repeats=2)
    line = askings.scores(answered(askings))
    assert [(each["judge"], each["repeat"]) for each in line["scorings"]] == [
        ("one", 0),
        ("one", 1),
        ("two", 0),
        ("two", 1),
    ]
    for each in line["scorings"]:
        assert each["overalls"] == [1.0, 0.0, 2.0, 3.0]
    orders = [tuple(each["order"]) for each in line["scorings"]]
    assert orders[0] != orders[1] and (0, 1, 2, 3) not in (orders[0], orders[2])


def test_pointwise_scores_belong_to_their_responses() -> None:
    askings = PointwiseAskings(JUDGES, RUBRICS)
    line = askings.scores(answered(askings))
    assert [each["overalls"] for each in line["scorings"]] == [[1.0, 0.0, 2.0, 3.0]] * 2
    assert all(len(set(each["call"])) == 4 for each in line["scorings"])


def test_scores_of_calls_without_answer_are_missing() -> None:
    askings = PointwiseAskings(JUDGES, RUBRICS)
    asked = answered(askings)
    line = askings.scores(replace(asked, answers=(None, *asked.answers[1:])))
    assert [each["overalls"][0] for each in line["scorings"]] == [None, 1.0]
    assert json.loads(json.dumps(line)) == line


def test_scored_reads_the_lines_of_both_stages() -> None:
    listwise, pointwise = ListwiseAskings(JUDGES, RUBRICS, 0), PointwiseAskings(JUDGES, RUBRICS)
    found = scored(listwise.scores(answered(listwise)), pointwise.scores(answered(pointwise)))
    assert [(each.judge, each.mode) for each in found] == [
        ("one", "listwise"), ("two", "listwise"), ("one", "pointwise"), ("two", "pointwise"),
    ]  # fmt: skip
    assert {each.overalls for each in found} == {(1.0, 0.0, 2.0, 3.0)}


def test_question_in_chinese_is_judged_by_the_chinese_rubric() -> None:
    record = replace(RECORD, prompt=(Message("user", "哪一个好?"),))
    for askings in (ListwiseAskings(JUDGES, RUBRICS, 0), PointwiseAskings(JUDGES, RUBRICS)):
        (chinese, *_), (english, *_) = (list(askings.plan(each, ())) for each in (record, RECORD))
        assert "回答1" in str(chinese.chat.messages[-1].parts) and "Response 1" in str(english.chat.messages[-1].parts)


def test_acceptor_refuses_a_scoring_of_fewer_responses() -> None:
    (call, *_) = ListwiseAskings(JUDGES, RUBRICS, 0).plan(RECORD, ())
    few = json.loads(judge(call))
    few["responses"].pop()
    with pytest.raises(UnusableAnswer) as caught:
        acceptor(RUBRICS)(call, Answer(json.dumps(few)))
    assert caught.value.reason == "wrong number of responses"


def test_answer_that_is_no_longer_accepted_is_a_missing_score_with_its_reason(tmp_path: Path) -> None:
    askings = ListwiseAskings(JUDGES[:1], RUBRICS, 0)
    asked = answered(askings)
    assert asked.answers[0] is not None
    old = replace(asked, answers=(replace(asked.answers[0], answer=Answer("{}")),))
    (scoring,) = askings.scores(old)["scorings"]
    assert scoring["overalls"] == [None] * 4 and scoring["flags"]
