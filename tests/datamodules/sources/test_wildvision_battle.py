"""WildVision-Battle: votes on the last answers of two conversations."""

import pytest

from datamodules.sources import wildvision_battle
from mrm.preference import Message
from tests.datamodules.sources.helpers import hf_image, png, write_parquet


def talk(*contents):
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


ROW = {
    "question_id": "q1",
    "model_a": "m",
    "model_b": "n",
    "conversation_a": talk("What is it?", "A cat."),
    "conversation_b": talk("What is it?", "A dog."),
    "language": "English",
    "image": hf_image(),
    "turn": 1,
    "anony": True,
    "winner": "model_b",
    "tstamp": 1,
    "judge": "arena_user",
    "domain": "x",
}


def read_one(folder, only=None, **changes):
    write_parquet(folder / "data/train-00000-of-00001.parquet", [{**ROW, **changes}])
    (item,) = wildvision_battle.read(folder, language=only)
    return item


@pytest.mark.parametrize(
    ("winner", "responses"), [("model_a", ("A cat.", "A dog.")), ("model_b", ("A dog.", "A cat."))]
)
def test_read_vote_is_a_pair(tmp_path, winner, responses):
    sample = read_one(tmp_path, winner=winner)
    assert sample.responses == responses and sample.images == (png(),)
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),)
    assert sample.meta["model_a"] == "m"


def test_read_several_turns_need_the_same_history(tmp_path):
    history = ("What is it?", "A pet.", "Which?")
    sample = read_one(
        tmp_path, conversation_a=talk(*history, "A cat."), conversation_b=talk(*history, "A dog."), winner="model_a"
    )
    assert [m.content for m in sample.prompt] == ["<image>\nWhat is it?", "A pet.", "Which?"]
    other = read_one(
        tmp_path, conversation_a=talk(*history, "A cat."), conversation_b=talk("What is it?", "No.", "Which?", "X")
    )
    assert other.reason == "conversations differ"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"winner": "tie"}, "tie"),
        ({"winner": "tie (bothbad)"}, "tie"),
        ({"winner": "model_c"}, "malformed field"),
        ({"winner": None}, "malformed field"),
        ({"conversation_a": []}, "turn order"),
        ({"conversation_b": talk("What is it?", "A cat.")}, "equal responses"),
        ({"language": "German"}, "other language"),
    ],
)
def test_read_what_is_no_pair_is_skipped_by_name(tmp_path, changes, reason):
    item = read_one(tmp_path, only="English", **changes)
    assert item.reason == reason and item.key == "wildvision_battle-0000000-q1"
