"""Questions and images of benchmark records in the forms that chats and nested files have."""

import base64
import json

import pytest

from datamodules.benchmark_fields import images_in, questions_in, records_within
from datamodules.benchmark_items import read_benchmark
from tests.datamodules.sources.helpers import png, write_files, write_json, write_jsonl

QUESTION = "Which of the two trains arrives first?"
PARTS = [{"type": "image", "image": "a.png"}, {"type": "text", "text": QUESTION}]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": PARTS}]},
        {"prompt": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "The red one."}]},
        {"chat": [{"from": "Human", "value": QUESTION}]},
        {"prompt": PARTS},
        {"prompt_content": [["image", "a.png"], ["text", QUESTION]]},
        {"question": [QUESTION]},
        {"Question": QUESTION, "type": "text"},
    ],
)
def test_questions_in_every_form_is_the_text(record):
    assert list(questions_in(record)) == [QUESTION]


def test_questions_in_text_in_parts_is_joined():
    content = [{"type": "text", "text": "Which of"}, {"type": "image"}, {"type": "text", "text": "the two?"}]
    assert list(questions_in({"messages": [{"role": "user", "content": content}]})) == ["Which of the two?"]


@pytest.mark.parametrize(
    "record", [{"question": " "}, {"question": ["", "\n"]}, {"prompt": [{"type": "text", "text": ""}]}]
)
def test_questions_in_blank_text_is_none(record):
    assert list(questions_in(record)) == []


def test_questions_in_answers_and_other_fields_are_none():
    record = {
        "chosen": [{"role": "assistant", "content": PARTS}],
        "rationale": QUESTION,
        "prompt": [3, None, {"text": 4}],
    }
    assert list(questions_in(record)) == []


def test_images_in_any_depth_are_found_in_order(tmp_path):
    write_files(tmp_path, {"img/a.png": png("red")})
    address = "data:image/png;base64," + base64.b64encode(png("blue")).decode()
    record = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}],
        "response_a": {"response_content": [["image", "img/a.png"], ["text", "x"]]},
        "response_b": {"images": [{"bytes": png("green"), "path": None}, "img/gone.png"]},
    }
    seen = set()
    assert [data for _, data in images_in(record, tmp_path, seen)] == [png("blue"), png("red"), png("green"), None]
    assert seen == {(tmp_path / "img/a.png").resolve()}


def test_records_within_an_object_of_questions_each_with_what_stands_around(tmp_path):
    record = {"image": "a.png", "rounds": [{"question": "One?"}, {"question": "Two?"}]}
    (first, one), (second, two) = records_within("b", record)
    assert (first, second) == ("b.rounds[0]", "b.rounds[1]")
    assert [*questions_in(one), *questions_in(two)] == ["One?", "Two?"]
    assert [name for name, _ in images_in(two, tmp_path, set())] == ["a.png"]


@pytest.mark.parametrize(
    "record",
    [
        {"question": "One?", "more": [{"question": "Two?"}]},
        {"boxes": [{"x": 1}, {"x": 2}]},
        {"messages": [{"role": "user"}]},
    ],
)
def test_records_within_what_has_a_question_or_none_in_it_is_the_record(record):
    assert list(records_within("b", record)) == [("b", record)]


PAIR = {
    "id": "t2i-1",
    "prompt_content": [["text", "A bus beside a red door."]],
    "response_a": {"model_name": "m", "response_content": [["image", "a.png"]]},
    "response_b": {"model_name": "n", "response_content": [["image", "b.png"]]},
    "chosen": "A",
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "content",
    [
        {"pairs": [PAIR, {**PAIR, "id": "t2i-2"}]},
        {"1": PAIR, "2": {**PAIR, "id": "t2i-2"}},
        {"data": {"pairs": [PAIR] * 2}},
    ],
)
def test_read_benchmark_one_object_holds_its_records(tmp_path, content, indent):
    (tmp_path / "b.json").write_text(json.dumps(content, indent=indent))
    write_files(tmp_path, {"a.png": png("red"), "b.png": png("blue")})
    items = list(read_benchmark(tmp_path / "b.json"))
    assert [item.questions for item in items] == [("A bus beside a red door.",)] * 2
    assert [item.images for item in items] == [(png("red"), png("blue"))] * 2
    assert "t2i-1" in items[0].name


def test_read_benchmark_one_object_with_a_question_is_a_record(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps({"question": QUESTION, "info": {"a": 1}}, indent=1))
    (item,) = read_benchmark(tmp_path / "b.json")
    assert item.questions == (QUESTION,)


def test_read_benchmark_lines_in_a_json_file_are_still_lines(tmp_path):
    write_jsonl(tmp_path / "b.json", [{"question": "One?"}, {"question": "Two?"}])
    assert [item.questions for item in read_benchmark(tmp_path / "b.json")] == [("One?",), ("Two?",)]


def test_read_benchmark_records_without_question_or_image_are_told_by_file(tmp_path, caplog):
    records = [{"question": QUESTION, "image": "a.png"}, {"image": "b.png"}, {"frage": "Wer?"}]
    list(read_benchmark(write_json(tmp_path / "b.json", records)))
    assert f"{tmp_path / 'b.json'}: 2 of 3 records hold no question" in caplog.text
    assert f"{tmp_path / 'b.json'}: 1 of 3 records hold no image" in caplog.text
    caplog.clear()
    list(read_benchmark(write_json(tmp_path / "b.json", records[:1])))
    assert not caplog.text
