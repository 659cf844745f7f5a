"""Omni-RewardBench's part from image and text to text."""

import pytest

from datamodules.sources import omni_rewardbench
from tests.datamodules.sources.helpers import hf_image, png, write_json, write_parquet, write_zip

ROW = {
    "prompt": "What is it?",
    "image": hf_image(),
    "response1": "A cat.",
    "response2": "A cat, I think, on a mat.",
    "criteria": "The answer should be brief.",
    "criteria_preference": "response1",
    "id": "17",
}


def make(folder, **changes):
    write_parquet(folder / "text_image_to_text/test-0.parquet", [{**ROW, **changes}])
    write_parquet(folder / "text_to_image/test-0.parquet", [{"prompt": "x"}])
    return folder


@pytest.mark.parametrize(("preferred", "first"), [("response1", "A cat."), ("response2", "A cat, I think, on a mat.")])
def test_read_criterion_is_part_of_the_prompt(tmp_path, preferred, first):
    (sample,) = omni_rewardbench.read(make(tmp_path, criteria_preference=preferred))
    assert sample.responses[0] == first and sample.images == (png(),)
    text = sample.prompt[0].content
    assert text.startswith("<image>\nWhat is it?") and text.endswith("criterion alone: The answer should be brief.")


def test_read_tie_is_left_out_and_named(tmp_path):
    (item,) = omni_rewardbench.read(make(tmp_path, criteria_preference="tie"))
    assert item.reason == "tie"


def test_read_unknown_preference_is_named(tmp_path):
    (item,) = omni_rewardbench.read(make(tmp_path, criteria_preference="both"))
    assert item.reason == "malformed field"


def test_read_json_list_with_the_zip_of_media(tmp_path):
    write_zip(tmp_path / "media_data.zip", {"media_data/a.png": png("blue")})
    write_json(tmp_path / "text_image_to_text_preferences.json", [{**ROW, "image": "a.png"}])
    (sample,) = omni_rewardbench.read(tmp_path)
    assert sample.images == (png("blue"),)
