"""What a construction begins with: one's own lines, shards, the embedded world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.shards import ShardWriter
from mrm.construct_config import ConstructConfig
from mrm.construct_input import read_prompts, source_of
from mrm.construction.records import ImageStore, PromptRecord, Response
from mrm.construction.stage_files import Left
from mrm.errors import UnreadableSamplesError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.sources.helpers import png, write_jsonl


def read(tmp_path: Path, *records: dict[str, Any]) -> list[PromptRecord | Left]:
    (tmp_path / "cat.png").write_bytes(png())
    # In ASCII, so that halves of surrogate pairs can be written.
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    config = ConstructConfig(input=str(tmp_path / "prompts.jsonl"), output="-", max_unreadable=1)
    return list(read_prompts(config, ImageStore(tmp_path / "work")))


def test_read_prompts_plain_line(tmp_path: Path) -> None:
    line = {"key": "q", "question": "What is it?", "images": ["cat.png"], "reference": "A cat.", "meta": {"a": 1}}
    (record,) = read(tmp_path, line | {"responses": ["A cat.", {"text": "A dog.", "model": "m7"}, "A cat. "]})
    assert isinstance(record, PromptRecord)
    assert record.prompt == (Message("user", "<image>What is it?"),)
    assert record.responses == (Response("A cat.", "given"), Response("A dog.", "m7"))
    assert (record.key, record.reference, record.meta) == ("q", "A cat.", {"a": 1})
    assert record.images[0].path == str(tmp_path / "cat.png")  # where it is, not a copy
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"prompt": "<image>Q"}, "image count"),
        ({"prompt": "Q", "question": "Q"}, "missing field"),
        ({}, "missing field"),
        ({"prompt": "Q", "answer": "A"}, "unknown field"),
        ({"prompt": "Q", "responses": [3]}, "malformed field"),
        ({"prompt": "Q", "reference": 3}, "malformed field"),
        ({"prompt": "<image>Q", "images": ["dog.png"]}, "image missing"),
        ({"prompt": "<image>Q", "images": ["prompts.jsonl"]}, "image does not decode"),
        ({"prompt": "Q", "key": "a.b"}, "bad key"),
        # What could not be written in the end is left out before anybody is paid for judging it.
        ({"prompt": "Q", "meta": {"a": float("nan")}}, "meta not json"),
        ({"prompt": "Q", "reference": "half \ud800"}, "meta not json"),
        ({"prompt": "Q", "responses": [{"text": "A", "model": "half \ud800"}]}, "meta not json"),
    ],
)
def test_read_prompts_line_that_breaks_a_rule_is_named(tmp_path: Path, line: dict[str, Any], reason: str) -> None:
    left, _ = read(tmp_path, line, {"prompt": "fine"})
    assert isinstance(left, Left) and left.reason == reason


def test_read_prompts_stops_where_too_many_cannot_be_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "Q", "answer": "A"}, *({"prompt": "Q"} for _ in range(9))])
    config = ConstructConfig(input=str(tmp_path / "prompts.jsonl"), output="-", max_unreadable=0.09)
    with pytest.raises(UnreadableSamplesError, match="1 of 10 records cannot be read .1 x unknown field"):
        list(read_prompts(config, ImageStore(tmp_path / "work")))
    config.max_unreadable = 0.1
    assert len(list(read_prompts(config, ImageStore(tmp_path / "work")))) == 10


def test_read_prompts_key_twice_is_left_out(tmp_path: Path) -> None:
    _, left = read(tmp_path, {"key": "q", "prompt": "Q"}, {"key": "q", "prompt": "R"})
    assert isinstance(left, Left) and left.reason == "duplicate key"


def test_read_prompts_of_shards_brings_their_responses(tmp_path: Path) -> None:
    prompt = (Message("user", "<image>Q"),)
    sample = PreferenceSample("k", "s", prompt, (png(),), ("a", "b", "c"), (Pair(2, 0),), {"m": 1})
    with ShardWriter(tmp_path / "shards") as writer:
        writer.write(sample)
    store = ImageStore(tmp_path / "work")
    (record,) = read_prompts(ConstructConfig(input=str(tmp_path / "shards"), output="-"), store)
    assert isinstance(record, PromptRecord)
    assert [response.text for response in record.responses] == ["a", "b", "c"]
    assert store.read(record.images[0]) == png()


def test_source_of_changes_with_the_input(tmp_path: Path) -> None:
    read(tmp_path, {"prompt": "Q"})
    config = ConstructConfig(input=str(tmp_path / "prompts.jsonl"), output="-")
    before = source_of(config)
    assert before == source_of(config)
    read(tmp_path, {"prompt": "R"})
    assert before != source_of(config)
    world = ConstructConfig(input="shapeworld", output="-")
    assert source_of(world)["count"] == world.shapeworld.count


def test_read_prompts_responses_must_be_a_list_and_metas_own_field_is_reserved(tmp_path: Path) -> None:
    text, reserved, _ = read(
        tmp_path,
        {"prompt": "Q", "responses": "A cat."},
        {"prompt": "Q", "meta": {"construction": 1}},
        {"prompt": "Q", "meta": {"truth": {"answers": ["cat"]}, "reference": "mine"}},
    )
    assert isinstance(text, Left) and text.reason == "malformed field"
    assert isinstance(reserved, Left) and reserved.reason == "reserved field"
