"""GenAI-Bench: votes of the arena for generated images."""

import pytest

from datamodules.sources import genai_bench
from mrm.errors import ConfigError
from tests.datamodules.sources.helpers import hf_image, png, write_parquet

ROW = {
    "prompt": "a cat",
    "left_model": "a",
    "left_image": hf_image("red"),
    "right_model": "b",
    "right_image": hf_image("blue"),
    "vote_type": "leftvote",
}


def make(folder, split="test_v1", **changes):
    write_parquet(folder / f"image_generation/{split}-00000-of-00001.parquet", [{**ROW, **changes}])
    write_parquet(folder / "video_generation/test_v1-00000-of-00001.parquet", [{"prompt": "x"}])
    return folder


@pytest.mark.parametrize(("vote", "preferred"), [("leftvote", "red"), ("rightvote", "blue")])
def test_read_vote_prefers_its_side(tmp_path, vote, preferred):
    (item,) = genai_bench.read(make(tmp_path, vote_type=vote))
    assert (item.caption, item.preferred, item.strength) == ("a cat", png(preferred), None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vote_type": "tievote"}, "tie"),
        ({"vote_type": "bothbad_vote"}, "tie"),
        ({"vote_type": "left"}, "malformed field"),
        ({"right_image": None}, "malformed field"),
    ],
)
def test_read_what_is_no_preference_is_skipped_by_name(tmp_path, changes, reason):
    (item,) = genai_bench.read(make(tmp_path, **changes))
    assert item.reason == reason


def test_read_several_splits_must_be_told_apart(tmp_path):
    make(make(tmp_path), "test", vote_type="rightvote")
    with pytest.raises(ConfigError, match="split: give one of test, test_v1"):
        genai_bench.read(tmp_path)
    (item,) = genai_bench.read(tmp_path, split="test")
    assert item.preferred == png("blue")
    with pytest.raises(ConfigError, match="split: give one of test, test_v1"):
        genai_bench.read(tmp_path, split="train")
