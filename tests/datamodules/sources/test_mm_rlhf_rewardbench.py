"""MM-RLHF-RewardBench: images, and videos as frames."""

import pytest

from datamodules.sources import mm_rlhf_rewardbench
from mrm.errors import ConfigError
from mrm.preference import Message
from tests.datamodules.sources.helpers import png, write_files, write_jsonl, write_parquet

IMAGE = {"id": "1", "image": "mcq/1.png", "prompt": "What?", "chosen": "A cat.", "rejected": "A dog."}
VIDEO = {"id": "2", "video": "video/v-1", "prompt": "Why?", "chosen": "It runs.", "rejected": "It sits."}
FILES = {"images/mcq/1.png": png(), **{f"images/v-1/c01_{i:04d}.png": png(f"rgb({i},0,0)") for i in range(1, 12)}}


def make(folder):
    write_files(folder, FILES)
    return write_jsonl(folder / "mm_reward_bench.jsonl", [IMAGE, VIDEO])


def test_read_published_folder_finds_images_and_frames_in_images(tmp_path):
    make(tmp_path)
    image, video = mm_rlhf_rewardbench.read(tmp_path, frames=3)
    assert image.images == (png(),) and image.prompt == (Message("user", "<image>\nWhat?"),)
    assert video.images == tuple(png(f"rgb({i},0,0)") for i in (1, 6, 11))
    assert video.prompt == (Message("user", "<image>\n<image>\n<image>\nWhy?"),)


def test_read_frames_beside_the_file_as_the_path_says(tmp_path):
    write_files(tmp_path, {"video/v-1/1.png": png(), "mcq/1.png": png()})
    write_jsonl(tmp_path / "mm_reward_bench.jsonl", [IMAGE, VIDEO])
    assert [len(sample.images) for sample in mm_rlhf_rewardbench.read(tmp_path)] == [1, 1]


def test_read_parquet_with_both_columns_takes_the_one_that_is_given(tmp_path):
    make(tmp_path).unlink()
    write_parquet(tmp_path / "data/train-0.parquet", [{**IMAGE, "video": None}, {**VIDEO, "image": None}])
    assert [len(sample.images) for sample in mm_rlhf_rewardbench.read(tmp_path)] == [1, 8]


@pytest.mark.parametrize(
    ("record", "options", "reason"),
    [
        (VIDEO, {"frames": 0}, "video"),
        ({**VIDEO, "video": "video/none"}, {}, "image missing"),
        ({**IMAGE, "video": "video/v-1"}, {}, "malformed field"),
        ({**IMAGE, "image": 3}, {}, "malformed field"),
        ({**IMAGE, "image": "../1.png"}, {}, "unsafe path"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, record, options, reason):
    make(tmp_path)
    path = write_jsonl(tmp_path / "mm_reward_bench.jsonl", [record])
    (item,) = mm_rlhf_rewardbench.read(path, **options)
    assert item.reason == reason


def test_describe_groups_by_id():
    pair = mm_rlhf_rewardbench.describe(VIDEO)
    assert (pair.category, pair.group, pair.id) == ("video", "2", "2")


def test_read_frames_below_zero_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="frames"):
        mm_rlhf_rewardbench.read(tmp_path, frames=-1)
