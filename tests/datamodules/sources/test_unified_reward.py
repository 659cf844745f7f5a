"""UnifiedReward: its four forms of record."""

import pytest

from datamodules.sources import unified_reward
from mrm.construction.reformulation import T2IPreference
from mrm.preference import Message
from tests.datamodules.sources.helpers import png, write_files, write_json

CAPTION_PROMPT = "<image>\n<image>\nGiven a caption and two images ...\nYour task is provided as follows:\nText Caption: [a red cube]"
QUESTION_PROMPT = (
    "<image>\nJudge.\nQuestion: [What is it?]\nThe first response: [A cat.]\nThe second response: [A dog.]"
)


def sft(prompt, verdict, **rest):
    return {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": verdict}], **rest}


def read_one(folder, record, **options):
    write_files(folder / "HPD", {"images/a.jpg": png("red"), "images/b.jpg": png("blue")})
    write_json(folder / "HPD" / "train_data.json", [record])
    (item,) = unified_reward.read(folder / "HPD", **options)
    return item


BOTH = {"images": ["images/a.jpg", "images/b.jpg"]}


@pytest.mark.parametrize(
    "record",
    [
        sft(CAPTION_PROMPT, "<think>Image 1 is better in colour.</think><answer>Image 2 is better</answer>", **BOTH),
        sft(CAPTION_PROMPT, "Image 2 is better.", **BOTH),
        {"problem": CAPTION_PROMPT, "solution": "Image 2 is better", **BOTH},
        {"caption": "a red cube", "jpg_0": "images/b.jpg", "jpg_1": "images/a.jpg", "label_0": 1},
        {"caption": "a red cube", "jpg_0": "images/a.jpg", "jpg_1": "images/b.jpg", "label_0": 0},
    ],
    ids=["think", "sft", "grpo", "dpo", "dpo-second"],
)
def test_read_two_images_of_a_caption_are_a_t2i_preference(tmp_path, record):
    item = read_one(tmp_path, record)
    assert isinstance(item, T2IPreference) and item.key == "unified_reward-HPD-0000000"
    assert (item.caption, item.preferred, item.other) == ("a red cube", png("blue"), png("red"))


@pytest.mark.parametrize(
    "record",
    [
        sft(QUESTION_PROMPT, "<answer>Response 1 is better</answer>", images=["images/a.jpg"]),
        {"problem": QUESTION_PROMPT, "solution": "Answer 1 is better", "images": ["images/a.jpg"]},
        {"id": "x", "image": "images/a.jpg", "prompt": "What is it?", "chosen": "A cat.", "rejected": "A dog."},
    ],
    ids=["sft", "grpo", "dpo"],
)
def test_read_two_answers_are_a_pair(tmp_path, record):
    sample = read_one(tmp_path, record)
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),) and sample.images == (png("red"),)
    assert sample.responses == ("A cat.", "A dog.")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (sft(CAPTION_PROMPT, "Both images are equally good.", **BOTH), "tie"),
        (sft(CAPTION_PROMPT, "Final Score: 4", **BOTH), "no verdict"),
        (sft("Which one?", "Image 1 is better", **BOTH), "unparsed prompt"),
        (sft(CAPTION_PROMPT, "Image 1 is better", images=["images/a.jpg"]), "image count"),
        (sft(CAPTION_PROMPT, "Image 1 is better", images=["images/a.jpg", "../b.jpg"]), "unsafe path"),
        (sft("<video>\nWhat?", "Video 1 is better"), "video"),
        ({"videos": ["a.mp4"], "prompt": "Q", "chosen": "a", "rejected": "b"}, "video"),
        ({"caption": "c", "jpg_0": "images/a.jpg", "jpg_1": "images/b.jpg", "label_0": 0.5}, "tie"),
        ({"caption": "c", "jpg_0": "images/a.jpg", "jpg_1": "images/b.jpg", "label_0": 2}, "malformed field"),
        ({"caption": "c"}, "missing field"),
    ],
)
def test_read_what_is_no_pair_is_skipped_by_name(tmp_path, record, reason):
    assert read_one(tmp_path, record).reason == reason
