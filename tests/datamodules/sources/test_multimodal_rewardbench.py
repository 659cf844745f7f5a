"""Multimodal RewardBench as its scripts write it."""

import pytest

from datamodules.sources import multimodal_rewardbench
from tests.datamodules.sources.helpers import png, write_files, write_json

RECORD = {
    "ID": "nocaps_1",
    "Text": "Describe it.",
    "Image": "images/nocaps/1.jpg",
    "Output1": "A cat.",
    "Output2": "A dog.",
    "Better": "Output2",
    "Meta": {"Category": "open_generation/correctness_task"},
}


def make(folder, **changes):
    write_files(folder, {"data/images/nocaps/1.jpg": png()})
    return write_json(folder / "data/all_data.json", [{**RECORD, **changes}])


@pytest.mark.parametrize("part", ["", "data", "data/all_data.json"])
def test_read_repository_folder_or_file(tmp_path, part):
    make(tmp_path)
    (sample,) = multimodal_rewardbench.read(tmp_path / part)
    assert sample.responses == ("A dog.", "A cat.") and sample.images == (png(),)
    assert sample.key == "multimodal_rewardbench-0000000-nocaps_1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Text": None}, "text missing"),
        ({"Better": "Output3"}, "malformed field"),
        ({"Output1": 3}, "malformed field"),
        ({"Image": "images/nocaps/2.jpg"}, "image missing"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, changes, reason):
    make(tmp_path, **changes)
    (item,) = multimodal_rewardbench.read(tmp_path)
    assert item.reason == reason


def test_describe_needs_no_text_and_takes_the_category_from_either_place():
    record = {name: value for name, value in RECORD.items() if name not in ("Text", "Image")}
    pair = multimodal_rewardbench.describe(record)
    assert (pair.category, pair.source, pair.chosen, pair.rejected) == ("correctness", "nocaps", "A dog.", "A cat.")
    flat = {**record, "Meta": None, "Category": "vqa"}
    assert multimodal_rewardbench.describe(flat).category == "vqa"
