"""Pick-a-Pic v2 in its published columns."""

import pytest

from datamodules.sources import pickapic_v2
from mrm.construction.reformulation import T2IPreference
from tests.datamodules.sources.helpers import png, write_parquet

ROW = {
    "are_different": True,
    "best_image_uid": "u0",
    "caption": "a dog",
    "created_at": "2023-01-01",
    "has_label": True,
    "image_0_uid": "u0",
    "image_1_uid": "u1",
    "jpg_0": png("red"),
    "jpg_1": png("blue"),
    "label_0": 1.0,
    "label_1": 0.0,
    "model_0": "a",
    "model_1": "b",
    "ranking_id": 7,
    "user_id": 3,
    "num_example_per_prompt": 1,
    "__index_level_0__": 0,
}


def read_one(folder, **changes):
    write_parquet(folder / "data/train-00000-of-00001-abc.parquet", [{**ROW, **changes}])
    write_parquet(folder / "data/validation_unique-00000-of-00001-abc.parquet", [{"other": 1}])
    (item,) = pickapic_v2.read(folder)
    return item


@pytest.mark.parametrize(("labels", "preferred"), [((1.0, 0.0), "red"), ((0.0, 1.0), "blue")])
def test_read_label_of_1_is_preferred_with_unknown_strength(tmp_path, labels, preferred):
    item = read_one(tmp_path, label_0=labels[0], label_1=labels[1])
    assert isinstance(item, T2IPreference)
    assert (item.key, item.caption, item.strength) == ("pickapic_v2-train-0000000-7", "a dog", None)
    assert item.preferred == png(preferred) != item.other
    assert item.meta["model_0"] == "a"


def test_read_label_between_is_a_strength(tmp_path):
    item = read_one(tmp_path, label_0=0.25, label_1=0.75)
    assert (item.preferred, item.strength) == (png("blue"), 0.5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label_0": 0.5, "label_1": 0.5}, "tie"),
        ({"has_label": False}, "no label"),
        ({"are_different": False}, "equal images"),
        ({"jpg_1": png("red")}, "equal images"),
        ({"label_1": 1.0}, "malformed field"),
        ({"label_0": None}, "malformed field"),
        ({"label_0": float("nan")}, "malformed field"),
        ({"jpg_0": b""}, "malformed field"),
        ({"caption": " "}, "empty caption"),
    ],
)
def test_read_what_is_no_preference_is_skipped_by_name(tmp_path, changes, reason):
    assert read_one(tmp_path, **changes).reason == reason
