"""HPDv2: choices for training, rankings for tests, whose keys differ."""

import pytest

from datamodules.sources import hpdv2
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError
from tests.datamodules.sources.helpers import png, write_files, write_json

IMAGES = {"a.jpg": png("red"), "b.jpg": png("green"), "c.jpg": png("blue")}
CHOICE = {"human_preference": [1, 0], "prompt": "a cat", "file_path": ["a.jpg", "b.jpg"]}
RANKING = {
    "prompt": "a cat",
    "image_path": ["a.jpg", "b.jpg", "c.jpg"],
    "rank": [2.5, 1.0, 2.5],
    "raw_annotations": [{"rank": [2, 1, 3], "user_hash": "x"}, {"rank": [3, 1, 2], "user_hash": "y"}],
}


def read_all(folder, split, record):
    write_files(folder / split, IMAGES)
    write_json(folder / f"{split}.json", [record])
    return list(hpdv2.read(folder, split=split))


@pytest.mark.parametrize(("preference", "preferred"), [([1, 0], "red"), ([0, 1], "green")])
def test_read_choice_1_is_preferred(tmp_path, preference, preferred):
    (item,) = read_all(tmp_path, "train", {**CHOICE, "human_preference": preference})
    assert isinstance(item, T2IPreference) and (item.caption, item.strength) == ("a cat", None)
    assert item.preferred == png(preferred) and item.key == "hpdv2-train-0000000"


def test_read_ranking_all_pairs_lower_rank_better(tmp_path):
    first, tie, last = read_all(tmp_path, "test", RANKING)
    assert (first.preferred, first.other, first.strength) == (png("green"), png("red"), 0.75)  # (2.5 - 1) / (3 - 1)
    assert (last.preferred, last.other, last.strength) == (png("green"), png("blue"), 0.75)
    assert (tie.key, tie.reason) == ("hpdv2-test-0000000-0-2", "tie")


@pytest.mark.parametrize(
    ("split", "changes", "reasons"),
    [
        ("train", {"human_preference": [1, 1]}, ["tie"]),
        ("train", {"human_preference": [2, 0]}, ["malformed field"]),
        ("train", {"human_preference": ["1", "0"]}, ["malformed field"]),
        ("train", {"file_path": ["a.jpg"]}, ["malformed field"]),
        ("train", {"file_path": ["a.jpg", 3]}, ["malformed field"]),
        ("train", {"file_path": ["a.jpg", "none.jpg"]}, ["image missing"]),
        ("train", {"file_path": ["a.jpg", "../../b.jpg"]}, ["unsafe path"]),
        ("test", {"rank": [1, 2]}, ["malformed field"]),
        ("test", {"rank": [1, 2, "3"]}, ["malformed field"]),
        ("test", {"image_path": ["a.jpg"], "rank": [1]}, ["malformed field"]),
        ("test", {"image_path": ["a.jpg", "none.jpg"], "rank": [1, 2]}, ["image missing"]),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, split, changes, reasons):
    items = read_all(tmp_path, split, {**(CHOICE if split == "train" else RANKING), **changes})
    assert [item.reason for item in items] == reasons


def test_read_other_split_or_folder_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="none of train, test"):
        hpdv2.read(tmp_path, split="benchmark")
    with pytest.raises(ConfigError, match="none of train.json"):
        hpdv2.read(tmp_path)
