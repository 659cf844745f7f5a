"""R1-Reward-RL: pairs out of a judge's prompt, images in base64."""

import base64
import json

import pytest

from datamodules.sources import r1_reward_rl
from mrm.preference import Message
from tests.datamodules.sources.helpers import png, write_parquet

TEXT = (
    "You are a highly skilled and impartial evaluator.\n\n#### **Input:**  \n#### [Question]:\nDescribe it.  \n\n"
    "#### [Response 1]:\nA painting.\n\n**Style**: oil.  \n\n#### [Response 2]:\nA print.  \n\n"
    "#### **Output Format (strictly follow):**  \n<think>...</think><answer>1/2</answer>"
)


def message(text=TEXT):
    image = {"type": "image", "image": "/their/machine/a.jpg"}
    return json.dumps([{"role": "user", "content": [{"type": "text", "text": text}, image]}])


ROW = {
    "question": "Describe it.",
    "message": message(),
    "answer": ["<answer>2</answer>"],
    "image": base64.b64encode(png()).decode(),
}


def read_one(folder, **changes):
    write_parquet(folder / "train-00000-of-00001.parquet", [{**ROW, **changes}])
    (item,) = r1_reward_rl.read(folder)
    return item


@pytest.mark.parametrize(("answer", "chosen"), [("<answer>1</answer>", 0), ("<answer>2</answer>", 1)])
def test_read_answer_is_the_number_of_the_better_response(tmp_path, answer, chosen):
    sample = read_one(tmp_path, answer=[answer])
    responses = ("A painting.\n\n**Style**: oil.", "A print.")
    assert sample.responses == (responses[chosen], responses[1 - chosen])
    assert sample.prompt == (Message("user", "<image>\nDescribe it."),) and sample.images == (png(),)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (TEXT, "Describe it."),
        (TEXT.replace("Describe it.", "What is it?"), "What is it?"),
        ("You are an evaluator of two responses to: Describe it.", "Describe it."),
        ("<image>\nDescribe it.", "Describe it."),
        ("", "Describe it."),
        ("Tell what you see.", "Tell what you see."),
    ],
)
def test_read_question_within_a_judges_prompt_is_taken_out(tmp_path, question, expected):
    assert read_one(tmp_path, question=question).prompt == (Message("user", f"<image>\n{expected}"),)


def test_read_question_that_is_a_prompt_of_another_form_names_the_field(tmp_path):
    item = read_one(tmp_path, question="Judge.\n#### [Response 1]:\nA\n#### [Response 2]:\nB")
    assert item.reason == "unparsed prompt" and "field 'question' holds a judge's prompt" in item.detail


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"message": "no JSON"}, "malformed field"),
        ({"message": "{}"}, "malformed field"),
        ({"message": message("Describe it.")}, "unparsed prompt"),
        ({"message": "[3]"}, "unparsed prompt"),
        ({"answer": []}, "malformed field"),
        ({"answer": ["<answer>3</answer>"]}, "no verdict"),
        ({"image": "/path/a.jpg"}, "malformed field"),
        ({"image": None}, "malformed field"),
    ],
)
def test_read_surprise_is_skipped_and_named(tmp_path, changes, reason):
    item = read_one(tmp_path, **changes)
    assert item.reason == reason and "r1_reward_rl-0000000" in item.detail
