"""Asking about records: planned once, answered or listed, in the records' order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrm.construction.asking import Asked, Asker, conversation, make_call, subject_of
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.budget import Budget
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Call, ChatRequest
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.records import PromptRecord
from mrm.construction.stage_files import Left
from mrm.errors import ResumableError
from mrm.preference import Message
from tests.construction.helpers import shapeworld_records

SETTINGS = RunSettings(base_s=0.0, fault_tries=1)


def echo(call: Call) -> str:
    if call.record.endswith("3"):
        raise ValueError("no answer")
    return f"{call.record} {call.repeat}"


def ask(
    work: Path, records: list[PromptRecord], model: CallableModel, settings: RunSettings = SETTINGS
) -> list[Asked | Left]:
    def plan(record: PromptRecord, images: tuple[bytes, ...]) -> Iterator[Call]:
        for repeat in range(int(record.key[-1]) % 3):
            chat = ChatRequest(conversation(record.prompt, images))
            yield make_call("respond", record, model, chat, subject_of(record, images), repeat=repeat)

    with AnswerLog(work / "answers") as log:
        asker = Asker(work, {model.name: model}, log, settings, show_progress=False)
        account, asked = asker.ask(
            "respond", lambda: iter(records), plan, lambda call, answer: None, count=lambda record: 1
        )
        found = list(asked)
    assert account.balanced
    return found


@pytest.fixture
def model() -> CallableModel:
    return CallableModel("echo", echo, identity={"echo": 1})


def test_ask_gives_each_record_its_own_answers_in_the_records_order(tmp_path: Path, model: CallableModel) -> None:
    records = shapeworld_records(tmp_path, 9)
    found = ask(tmp_path, records, model)
    for number, (record, asked) in enumerate(zip(records, found, strict=True)):
        assert isinstance(asked, Asked) and asked.record == record
        texts = [answer and answer.answer.text for answer in asked.answers]
        assert texts == [None if number == 3 else f"{record.key} {repeat}" for repeat in range(number % 3)]
    assert not list(tmp_path.glob(".*plan*"))


def test_ask_record_without_its_image_is_left_out_and_the_others_are_asked(
    tmp_path: Path, model: CallableModel
) -> None:
    records = shapeworld_records(tmp_path, 6)
    (tmp_path / records[4].images[0].path).unlink()
    found = ask(tmp_path, records, model)
    assert isinstance(found[4], Left) and (found[4].key, found[4].reason) == (records[4].key, "image missing")
    assert all(isinstance(asked, Asked) for number, asked in enumerate(found) if number != 4)


def test_ask_again_reuses_the_answers(tmp_path: Path) -> None:
    seen: list[str] = []

    def counted(call: Call) -> str:
        seen.append(call.key)
        return "text"

    records = shapeworld_records(tmp_path, 6)
    model = CallableModel("counted", counted, identity={})
    first = ask(tmp_path, records, model)
    assert ask(tmp_path, records, model) == first
    assert len(seen) == len(set(seen)) == sum(number % 3 for number in range(6))


def test_ask_that_was_stopped_says_how_to_go_on(tmp_path: Path, model: CallableModel) -> None:
    with pytest.raises(ResumableError, match=r"(?s)respond: not done.*not asked: budget.*The same command goes on"):
        ask(tmp_path, shapeworld_records(tmp_path, 6), model, RunSettings(budget=Budget(tokens=1)))


def test_ask_within_a_running_loop(tmp_path: Path, model: CallableModel) -> None:
    records = shapeworld_records(tmp_path, 3)

    async def notebook() -> list[Asked | Left]:
        return ask(tmp_path, records, model)

    assert len(asyncio.run(notebook())) == 3


def test_conversation_puts_images_at_their_places() -> None:
    prompt = (Message("user", "<image>first <image>"), Message("assistant", "ok"), Message("user", "and <image>?"))
    turns = conversation(prompt, (b"1", b"2", b"3"))
    assert [(turn.role, turn.parts) for turn in turns] == [
        ("user", (b"1", "first ", b"2")),
        ("assistant", ("ok",)),
        ("user", ("and ", b"3", "?")),
    ]
