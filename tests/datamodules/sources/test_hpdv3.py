"""HPDv3: path1 is preferred, votes are the strength."""

import pytest

from datamodules.sources import hpdv3
from tests.datamodules.sources.helpers import png, write_files, write_json

RECORD = {
    "prompt": "a cat",
    "path1": "images/a.jpg",
    "path2": "images/b.jpg",
    "model1": "flux",
    "model2": "sd",
    "choice_dist": [12, 4],
    "confidence": 0.99,
}


def read_one(folder, split="train", **changes):
    write_files(folder, {"images/a.jpg": png("red"), "images/b.jpg": png("blue")})
    write_json(folder / f"{split}.json", [{**RECORD, **changes}])
    (item,) = hpdv3.read(folder, split=split)
    return item


def test_read_path1_is_preferred_by_its_vote_margin(tmp_path):
    item = read_one(tmp_path)
    assert (item.key, item.preferred, item.other) == ("hpdv3-train-0000000", png("red"), png("blue"))
    assert item.strength == 0.5  # (12 - 4) / 16
    assert item.meta["confidence"] == 0.99


def test_read_without_votes_strength_is_unknown(tmp_path):
    assert read_one(tmp_path, choice_dist=None).strength is None
    assert read_one(tmp_path, "test_aes", choice_dist=None).key == "hpdv3-test_aes-0000000"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"choice_dist": [6, 6]}, "tie"),
        ({"choice_dist": [0, 0]}, "tie"),
        ({"choice_dist": [4, 12]}, "malformed field"),
        ({"choice_dist": [12]}, "malformed field"),
        ({"choice_dist": "12,7"}, "malformed field"),
        ({"path2": "images/none.jpg"}, "image missing"),
        ({"path1": "/images/a.jpg"}, "unsafe path"),
        ({"prompt": None}, "malformed field"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, changes, reason):
    item = read_one(tmp_path, **changes)
    assert item.reason == reason and "hpdv3-train-0000000" in item.detail


def test_read_surprising_votes_name_the_field_and_what_was_found(tmp_path):
    assert "'choice_dist' is list [4, 12]" in read_one(tmp_path, choice_dist=[4, 12]).detail
