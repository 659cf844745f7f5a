"""The embedded world's models: as good as they are told to be, and the same whenever they are asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mrm.construction.calling.calls import CallError, Model
from mrm.construction.embedded import ShapeWorldResponder, ShapeWorldRewriter, ShapeWorldScorer, errors_of
from mrm.construction.records import PromptRecord
from mrm.errors import ConfigError
from tests.construction.helpers import answers_of, call_about, shapeworld_records


def ask(model: Model, kind: str, record: PromptRecord, *responses: str, repeat: int = 0) -> str:
    return asyncio.run(model.answer(call_about(kind, record, model, *responses, repeat=repeat))).text


def overalls(model: Model, kind: str, record: PromptRecord, *responses: str) -> list[float]:
    return [each["overall"] for each in json.loads(ask(model, kind, record, *responses))["responses"]]


def test_responder_is_right_and_fancy_as_often_as_told(tmp_path: Path) -> None:
    records = shapeworld_records(tmp_path, 400)
    model = ShapeWorldResponder("strong", right=0.8, fancy=0.25)
    told = [errors_of(record.meta, ask(model, "respond", record)) for record in records]
    assert all(found is not None for found in told)
    assert sum(found[0] == 0 for found in told) / 400 == pytest.approx(0.8, abs=0.06)
    assert sum(found[1] in ("wordy", "markdown") for found in told) / 400 == pytest.approx(0.25, abs=0.07)


def test_responder_same_call_same_answer_and_another_repeat_another_sample(tmp_path: Path) -> None:
    records = shapeworld_records(tmp_path, 30)
    model = ShapeWorldResponder("m")
    first = [ask(model, "respond", record) for record in records]
    assert first == [ask(ShapeWorldResponder("m"), "respond", record) for record in records]
    assert first != [ask(model, "respond", record, repeat=1) for record in records]
    assert first != [ask(ShapeWorldResponder("m", seed=1), "respond", record) for record in records]


def test_scorer_that_never_errs_ranks_by_errors_whatever_the_style(tmp_path: Path) -> None:
    model = ShapeWorldScorer("judge", accuracy=1.0)
    for record in shapeworld_records(tmp_path, 20):
        answers = answers_of(record)
        worst = max(answers)
        best, bad = overalls(model, "listwise", record, answers[0]["terse"], answers[worst]["markdown"])
        assert best > bad
        assert overalls(model, "pointwise", record, answers[0]["wordy"]) == [best]


def test_scorer_reads_right_as_often_as_told(tmp_path: Path) -> None:
    model, perfect = ShapeWorldScorer("judge", accuracy=0.7), ShapeWorldScorer("judge", accuracy=1.0)
    same = [
        overalls(model, "pointwise", record, answers_of(record)[0]["plain"])
        == overalls(perfect, "pointwise", record, answers_of(record)[0]["plain"])
        for record in shapeworld_records(tmp_path, 400)
    ]
    assert sum(same) / 400 == pytest.approx(0.7, abs=0.07)


def test_scorer_stubborn_misreads_alike_in_both_modes(tmp_path: Path) -> None:
    records = shapeworld_records(tmp_path, 60)
    for stubborn, alike in ((1.0, True), (0.0, False)):
        model = ShapeWorldScorer("judge", accuracy=0.5, stubborn=stubborn)
        seen = [
            [overalls(model, mode, record, answers_of(record)[0]["plain"]) for record in records]
            for mode in ("listwise", "pointwise")
        ]
        assert (seen[0] == seen[1]) == alike


def test_scorer_position_bias_makes_the_first_shown_win(tmp_path: Path) -> None:
    model = ShapeWorldScorer("judge", accuracy=1.0, position_bias=1.0)
    for record in shapeworld_records(tmp_path, 10):
        answers = answers_of(record)
        first, second = overalls(model, "listwise", record, answers[1]["plain"], answers[0]["plain"])
        assert first > second


def test_rewriter_keeps_the_errors_and_changes_the_style(tmp_path: Path) -> None:
    model = ShapeWorldRewriter("rewriter", style="plain")
    for record in shapeworld_records(tmp_path, 10):
        for errors, told in answers_of(record).items():
            assert ask(model, "rewrite", record, told["markdown"]) == told["plain"]
            assert errors_of(record.meta, told["markdown"]) == (errors, "markdown")


def test_model_on_another_world_ends_the_run() -> None:
    record = PromptRecord("k", "mine", ())
    with pytest.raises(CallError, match="not of the embedded world") as caught:
        ask(ShapeWorldResponder("m"), "respond", record)
    assert caught.value.fatal


def test_model_share_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="'judge'.*accuracy=1.5"):
        ShapeWorldScorer("judge", accuracy=1.5)
