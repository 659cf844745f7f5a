"""POVID, in the shape of its published record, with the images in each of the usual places."""

import pytest

from datamodules.sources import povid
from mrm.preference import Message, Pair
from tests.datamodules.sources.helpers import png, write_files, write_json, write_zip

IMAGE = "COCO_train2014_000000353952.jpg"
RECORD = {
    "id": "COCO_train2014_000000353952",
    "image": f"./data/coco/{IMAGE}",
    "conversations": [
        {"from": "human", "value": "<image>\nDescribe this image in detail."},
        {"from": "gpt", "value": "This is a vintage photograph."},
    ],
    "rejected_conversations": [
        {"from": "human", "value": "<image>\nDescribe this image in detail."},
        {"from": "gpt", "value": "This vintage photograph shows eleven people."},
    ],
}


def read_one(folder, media_dir=None, **changes):
    write_json(folder / "POVID_preference_data_for_VLLMs.json", [{**RECORD, **changes}])
    (item,) = povid.read(folder, media_dir=media_dir)
    return item


@pytest.mark.parametrize("place", [f"data/coco/{IMAGE}", f"train2014/{IMAGE}", IMAGE])
def test_read_record_is_a_pair_wherever_coco_lies(tmp_path, place):
    write_files(tmp_path, {place: png()})
    sample = read_one(tmp_path)
    assert sample.prompt == (Message("user", "<image>\nDescribe this image in detail."),)
    assert sample.images == (png(),) and sample.pairs == (Pair(0, 1, None),)
    assert sample.responses == ("This is a vintage photograph.", "This vintage photograph shows eleven people.")


def test_read_images_from_cocos_own_zip(tmp_path):
    write_zip(tmp_path / "coco" / "train2014.zip", {f"train2014/{IMAGE}": png()})
    assert read_one(tmp_path / "data", str(tmp_path / "coco" / "train2014.zip")).images == (png(),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": "./data/coco/none.jpg"}, "image missing"),
        ({"image": f"/data/coco/{IMAGE}"}, "unsafe path"),
        ({"conversations": RECORD["conversations"][:1]}, "turn order"),
        ({"rejected_conversations": []}, "turn order"),
        ({"rejected_conversations": RECORD["conversations"]}, "equal responses"),
        ({"conversations": [{"speaker": "x"}]}, "malformed field"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, changes, reason):
    write_files(tmp_path, {IMAGE: png()})
    item = read_one(tmp_path, **changes)
    assert item.reason == reason and item.key == "povid-0000000-COCO_train2014_000000353952"
