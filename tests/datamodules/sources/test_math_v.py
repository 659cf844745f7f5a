"""MATH-V: right answers against wrong ones, worked by hand on three small runs."""

import pytest

from datamodules.sources import math_v
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError
from tests.datamodules.sources.helpers import make_math_v


def answer(identity, text, correct):
    return {"id": identity, "response": text, "correct": correct}


@pytest.fixture
def folder(tmp_path):
    questions = [
        {"id": "1", "question": "How many?\n<image1>", "options": ["one", "two"], "subject": "counting", "level": 2},
        {"id": "2", "question": "All right <image1>"},
        {"id": "3", "question": "All wrong <image1>"},
        {"id": "4", "question": "Two pictures <image1> <image2>"},
        {"id": "5", "question": "No picture <image1>", "image": "images/none.png"},
    ]
    answers = {
        "run-a": [answer(i, "yes", True) for i in "1245"] + [answer("3", "x", False)],
        "run-b": [answer(i, " no ", i == "2") for i in "12345"],
        "run-c": [answer("1", "no", False), answer("1", "yes.", True), answer("9", "stray", True), {"id": "1"}],
        "run-d": [
            answer("1", "", False),
            answer("1", "<a.b.Response object at 0x10f>", False),
            answer("1", "maybe", False),
        ],
    }
    return make_math_v(tmp_path / "data", questions, answers)


def by_key(folder, **options):
    return {item.key: item for item in math_v.read(folder, **options)}


def test_read_question_compares_every_right_text_with_every_wrong_one(folder):
    sample = by_key(folder, max_pairs_per_question=None)["math_v-1"]
    texts = {(sample.responses[p.chosen], sample.responses[p.rejected]) for p in sample.pairs}
    assert texts == {("yes", "no"), ("yes", "maybe"), ("yes.", "no"), ("yes.", "maybe")}
    assert sorted(sample.responses) == [
        "maybe",
        "no",
        "yes",
        "yes.",
    ]  # equal texts once; empty and failed ones not at all
    assert all(pair.strength is None for pair in sample.pairs)
    runs = dict(zip(sample.responses, sample.meta["models"], strict=True))
    assert runs == {"yes": ["run-a"], "no": ["run-b", "run-c"], "yes.": ["run-c"], "maybe": ["run-d"]}
    assert (sample.meta["subject"], sample.meta["level"]) == ("counting", 2)


def test_read_prompt_has_the_marker_and_the_choices(folder):
    assert by_key(folder)["math_v-1"].prompt[0].content == "How many?\n<image>\nChoices:\n(A) one\n(B) two"


def test_read_cap_and_seed_decide_the_draw(folder):
    def pairs(seed):
        sample = by_key(folder, max_pairs_per_question=2, seed=seed)["math_v-1"]
        return [(sample.responses[p.chosen], sample.responses[p.rejected]) for p in sample.pairs]

    assert len(pairs(0)) == 2 and pairs(0) == pairs(0)
    assert len({tuple(pairs(seed)) for seed in range(20)}) > 1
    with pytest.raises(ConfigError, match="at least 1"):
        math_v.read(folder, max_pairs_per_question=0)


def test_read_plain_pairs_are_samples_of_two(folder):
    items = [
        i for k, i in by_key(folder, plain_pairs=True, max_pairs_per_question=None).items() if k.startswith("math_v-1-")
    ]
    assert [item.key for item in items] == [f"math_v-1-{n}" for n in range(4)]
    assert all(len(item.responses) == 2 and len(item.pairs) == 1 for item in items)


def test_read_unusable_records_are_skipped_by_name(folder):
    skipped = {key: item.reason for key, item in by_key(folder).items() if isinstance(item, Skipped)}
    assert skipped == {
        "run-c.jsonl:3": "no such question",
        "run-c.jsonl:4": "missing field",
        "math_v-2": "no wrong answer",
        "math_v-3": "no right answer",
        "math_v-4": "image count",
        "math_v-5": "image missing",
    }


def test_read_other_folder_says_what_it_must_hold(tmp_path):
    with pytest.raises(ConfigError, match="questions.jsonl"):
        math_v.read(tmp_path)
