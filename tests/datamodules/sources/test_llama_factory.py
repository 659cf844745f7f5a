"""LLaMA-Factory's ranking format: its tags and forms, its rules as named skips, and the way back."""

import json

import pytest

from datamodules.sources import llama_factory
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError, RecordError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.sources.helpers import png, write_jsonl


def human(text):
    return {"from": "human", "value": text}


def gpt(text):
    return {"from": "gpt", "value": text}


RECORD = {
    "conversations": [human("<image>What?")],
    "chosen": gpt("A cat."),
    "rejected": gpt("A dog."),
    "images": ["pictures/cat.png"],
    "system": "Be brief.",
}


@pytest.fixture
def read_one(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_bytes(png())

    def read(record, **options):
        (tmp_path / "pairs.json").write_text(json.dumps([record]))
        (item,) = llama_factory.read(tmp_path / "pairs.json", **options)
        return item

    return read


def test_read_published_record_is_a_pair_of_unknown_strength(read_one):
    sample = read_one(RECORD)
    assert sample.key == "pairs-0000000" and sample.source == "pairs"
    assert sample.prompt == (Message("system", "Be brief."), Message("user", "<image>What?"))
    assert sample.images == (png(),)
    assert sample.responses == ("A cat.", "A dog.") and sample.pairs == (Pair(0, 1, None),)


def test_read_openai_tags_and_messages_column_give_the_same(read_one):
    other = {
        "messages": [{"role": "user", "content": "<image>What?"}],
        "chosen": {"role": "assistant", "content": "A cat."},
        "rejected": "A dog.",
        "images": "pictures/cat.png",
        "system": "Be brief.",
    }
    assert read_one(other).prompt == read_one(RECORD).prompt
    assert read_one(other).responses == read_one(RECORD).responses


def test_read_leading_system_turn_overrides_the_column(read_one):
    turns = [{"from": "system", "value": "Be long."}, human("<image>What?"), gpt("Hm?"), human("Say.")]
    sample = read_one({**RECORD, "conversations": turns})
    assert [(m.role, m.content) for m in sample.prompt] == [
        ("system", "Be long."), ("user", "<image>What?"), ("assistant", "Hm?"), ("user", "Say."),
    ]  # fmt: skip


def test_read_alpaca_record_joins_instruction_and_input(read_one):
    record = {"instruction": "Add.", "input": "1 2", "history": [["Hi", "Hello"]], "chosen": "3", "rejected": "4"}
    sample = read_one(record)
    assert [m.content for m in sample.prompt] == ["Hi", "Hello", "Add.\n1 2"]
    assert sample.images == ()


def test_read_id_and_name_make_the_key(read_one):
    assert read_one({**RECORD, "id": 17}, name="set").key == "set-17"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conversations": [human("<image>Q"), gpt("A")]}, "even number of turns"),
        ({"conversations": []}, "even number of turns"),
        ({"conversations": [human("<image>Q"), human("Q"), human("Q")]}, "turn order"),
        ({"conversations": [gpt("<image>Q")]}, "turn order"),
        ({"conversations": [{"from": "observation", "value": "<image>"}]}, "bad role"),
        ({"conversations": [{"speaker": "x"}]}, "malformed field"),
        ({"conversations": ["text"]}, "malformed field"),
        ({"conversations": "text"}, "malformed field"),
        ({"conversations": [human("no image")]}, "image count"),
        ({"images": []}, "image count"),
        ({"images": ["no.png"]}, "image missing"),
        ({"images": {"a": 1}}, "malformed field"),
        ({"chosen": None}, "malformed field"),
        ({"chosen": human("A cat.")}, "bad role"),
        ({"chosen": gpt("")}, "empty response"),
        ({"chosen": gpt("A dog.")}, "equal responses"),
        ({"system": 3}, "malformed field"),
        ({"imags": ["pictures/cat.png"]}, "unknown field"),
        ({"videos": ["a.mp4"]}, "video or audio"),
        ({"audios": ["a.wav"]}, "video or audio"),
        ({"tools": "[]"}, "tools"),
        ({"conversations": [human("<image><video>Q")]}, "video or audio"),
        ({"system": "<audio>"}, "video or audio"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(read_one, changes, reason):
    item = read_one({**RECORD, **changes})
    assert isinstance(item, Skipped)
    assert item.reason == reason and item.key == "pairs-0000000" and item.detail


def test_read_misspelt_column_is_suggested(read_one):
    assert "Did you mean 'images'?" in read_one({**RECORD, "imags": []}).detail


def test_read_empty_columns_of_other_media_are_no_harm(read_one):
    assert read_one({**RECORD, "videos": [], "audios": None, "tools": ""}) == read_one(RECORD)


def test_read_missing_column_is_skipped(read_one):
    assert read_one({"chosen": "a", "rejected": "b"}).reason == "missing field"
    assert read_one({k: v for k, v in RECORD.items() if k != "rejected"}).reason == "missing field"


def test_read_media_dir_is_where_paths_start(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cat.png").write_bytes(png())
    path = write_jsonl(tmp_path / "pairs.jsonl", [{**RECORD, "images": ["cat.png"]}])
    (sample,) = llama_factory.read(path, media_dir=str(tmp_path / "media"))
    assert sample.images == (png(),)
    with pytest.raises(ConfigError, match="media_dir"):
        llama_factory.read(path, media_dir=str(tmp_path / "none"))


def test_to_llama_factory_each_pair_reads_back(read_one):
    sample = PreferenceSample(
        "k",
        "s",
        (Message("system", "S"), Message("user", "<image>Q")),
        (png(),),
        ("a", "b", "c"),
        (Pair(0, 1), Pair(2, 0)),
    )
    records = llama_factory.to_llama_factory(sample, ["pictures/cat.png"])
    assert [(r["chosen"]["value"], r["rejected"]["value"]) for r in records] == [("a", "b"), ("c", "a")]
    for record, responses in zip(records, [("a", "b"), ("c", "a")], strict=True):
        back = read_one(record)
        assert (back.prompt, back.images, back.responses) == (sample.prompt, sample.images, responses)
    with pytest.raises(RecordError, match="0 path"):
        llama_factory.to_llama_factory(sample, [])
