"""LLaVA-RLHF: the last answer of the conversation is replaced by the two outputs."""

import pytest

from datamodules.sources import llava_rlhf
from mrm.preference import Message
from tests.datamodules.sources.helpers import png, write_files, write_json

RECORD = {
    "id": "000000033471",
    "image": "000000033471.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat colour is the bus?"},
        {"from": "gpt", "value": "Red."},
        {"from": "human", "value": "And the car?"},
        {"from": "gpt", "value": "to be replaced"},
    ],
    "output_1": {"from": "gpt", "value": "Blue."},
    "output_2": {"from": "gpt", "value": "Green."},
    "preference": 2,
    "hallucination": False,
}


def read_one(folder, place="train2017/000000033471.jpg", **changes):
    write_files(folder / "coco", {place: png()})
    write_json(folder / "data" / "llava_7b_v1_preference.json", [{**RECORD, **changes}])
    (item,) = llava_rlhf.read(folder / "data", media_dir=str(folder / "coco"))
    return item


@pytest.mark.parametrize(("preference", "responses"), [(1, ("Blue.", "Green.")), (2, ("Green.", "Blue."))])
def test_read_preference_is_the_number_of_the_better_output(tmp_path, preference, responses):
    sample = read_one(tmp_path, preference=preference)
    assert sample.responses == responses and sample.images == (png(),)
    assert sample.prompt == (
        Message("user", "<image>\nWhat colour is the bus?"), Message("assistant", "Red."), Message("user", "And the car?"),
    )  # fmt: skip


def test_read_images_directly_in_the_media_dir(tmp_path):
    assert read_one(tmp_path, "000000033471.jpg").images == (png(),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preference": 0}, "malformed field"),
        ({"preference": True}, "malformed field"),
        ({"preference": "1"}, "malformed field"),
        ({"output_1": "Blue."}, "malformed field"),
        ({"output_1": {"from": "human", "value": "Blue."}}, "bad role"),
        ({"conversations": RECORD["conversations"][:3]}, "turn order"),
        ({"image": "1.jpg"}, "image missing"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, changes, reason):
    item = read_one(tmp_path, **changes)
    assert item.reason == reason and item.key in item.detail
