"""LLaVA-Critic's comparisons, in both published forms."""

import pytest

from datamodules.sources import llava_critic
from datamodules.sources.graded import parse_graded
from mrm.errors import ConfigError, RecordError
from mrm.preference import Message
from tests.datamodules.sources.helpers import hf_image, png, write_files, write_json, write_parquet

PROMPT = (
    "<image>\nGiven an image and a corresponding question, please serve as an unbiased and fair judge.\n"
    "Your task is provided as follows:\nQuestion: [What is it?]\nThe first response: [A cat.]\n"
    "The second response: [A dog.]\nASSISTANT:\n"
)


def turns(verdict, prompt=PROMPT):
    return [{"from": "human", "value": prompt}, {"from": "gpt", "value": verdict}]


ROW = {
    "id": "vlfeedback_1",
    "source": "vlfeedback",
    "conversations": turns("It has whiskers. The better response: [first]"),
}


def read_one(folder, **changes):
    write_parquet(folder / "pairwise/train-00000-of-00001.parquet", [{**ROW, "image": hf_image(), **changes}])
    write_parquet(folder / "pointwise/train-00000-of-00001.parquet", [{"id": "other"}])
    (item,) = llava_critic.read(folder)
    return item


@pytest.mark.parametrize(("better", "responses"), [("first", ("A cat.", "A dog.")), ("second", ("A dog.", "A cat."))])
def test_read_comparison_is_a_pair(tmp_path, better, responses):
    sample = read_one(tmp_path, conversations=turns(f"Because. The better response: [{better}]"))
    assert sample.key == "llava_critic-0000000-vlfeedback_1"
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),) and sample.images == (png(),)
    assert sample.responses == responses


def test_read_json_copy_with_an_image_folder(tmp_path):
    write_json(
        tmp_path / "pairwise/train_data.json", [{**ROW, "image": "images/a.jpg"}, {**ROW, "images": ["images/a.jpg"]}]
    )
    write_files(tmp_path / "pairwise", {"images/a.jpg": png("blue")})
    for sample in llava_critic.read(tmp_path):
        assert sample.images == (png("blue"),) and sample.responses == ("A cat.", "A dog.")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conversations": turns("Both responses are equally good.")}, "tie"),
        ({"conversations": turns("Hm.")}, "no verdict"),
        ({"conversations": turns("The better response: [1]", "Which is it?")}, "unparsed prompt"),
        ({"conversations": turns("The better response: [1]", PROMPT.replace("dog", "cat"))}, "equal responses"),
        ({"conversations": turns("x")[:1]}, "turn order"),
        ({"image": None}, "malformed field"),
    ],
)
def test_read_what_is_no_pair_is_skipped_by_name(tmp_path, changes, reason):
    assert read_one(tmp_path, **changes).reason == reason


SCORED = (
    "<image>\n[Context]\nA room.\n\n[Question]\nWhat is it?\n\n[Assistant 1]\nA cat.\n\n[End of Assistant 1]\n\n"
    "[Assistant 2]\nA dog.\n\n[End of Assistant 2]\n\n[System]\nRate them from 1 to 10."
)
ARENA = (
    "<image>\nJudge.\n<|User Prompt|>\nWhat is it?\n\n<|The Start of Assistant A's Answer|>\nA cat.\n"
    "<|The End of Assistant A's Answer|>\n\n<|The Start of Assistant B's Answer|>\nA dog.\n<|The End of Assistant B's Answer|>"
)


def read_grades(folder, conversations):
    row = {**ROW, "conversations": conversations, "image": hf_image()}
    write_parquet(folder / "pointwise/train-00000-of-00006.parquet", [row])
    write_parquet(folder / "pairwise/train-00000-of-00005.parquet", [{"id": "other"}])
    (item,) = llava_critic.read(folder, config="pointwise")
    return item


@pytest.mark.parametrize(
    ("prompt", "verdict", "responses", "strength"),
    [
        (SCORED, "8 6.5\nThe first says more.", ("A cat.", "A dog."), 1.5 / 9),
        (SCORED, "1, 10", ("A dog.", "A cat."), 1.0),
        (ARENA, "It has whiskers. My final verdict is [[A>B]].", ("A cat.", "A dog."), 0.5),
        (ARENA, "[[B>>A]], so: [[B>>A]]", ("A dog.", "A cat."), 1.0),
    ],
)
def test_read_pointwise_grades_of_two_answers_are_a_pair_with_their_gap(tmp_path, prompt, verdict, responses, strength):
    sample = read_grades(tmp_path, turns(verdict, prompt))
    assert sample.key == "llava_critic-pointwise-0000000-vlfeedback_1"
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),) and sample.responses == responses
    assert sample.pairs[0].strength == pytest.approx(strength)


@pytest.mark.parametrize(
    ("prompt", "verdict", "reason"),
    [
        (SCORED, "7 7", "tie"),
        (ARENA, "[[A=B]]", "tie"),
        (SCORED, "8", "no verdict"),
        (SCORED, "0 11", "no verdict"),
        (SCORED, "nan 1", "no verdict"),
        (ARENA, "[[A>B]] or [[B>A]]", "no verdict"),
        (f"{SCORED}\n[Assistant 1]", "8 6", "unparsed prompt"),
        ("Text Caption: A cat.\nFrom 0 to 100, how good is it?", "Final Score: 90", "unparsed prompt"),
    ],
)
def test_read_pointwise_record_that_is_no_pair_is_skipped_by_name(tmp_path, prompt, verdict, reason):
    assert read_grades(tmp_path, turns(verdict, prompt)).reason == reason


def test_read_unknown_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="config: 'listwise' is none of pairwise, pointwise"):
        llava_critic.read(tmp_path, config="listwise")


def test_parse_graded_long_odd_text_takes_no_time_worth_telling():
    for odd in ("[Question]", "[[A>", "8", "8 ", "<|User Prompt|>"):
        text = odd * (200_000 // len(odd))
        for prompt in (text, SCORED, ARENA):
            with pytest.raises(RecordError):
                parse_graded(prompt, text)
