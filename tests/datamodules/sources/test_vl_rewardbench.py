"""VL-RewardBench in its published form and its two copies."""

import pytest

from datamodules.sources import vl_rewardbench
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError, RecordError
from mrm.preference import Message
from tests.datamodules.sources.helpers import hf_image, png, write_files, write_json, write_jsonl, write_parquet

ROW = {
    "id": "RLAIF-V-1",
    "query": "What is it?",
    "response": ["A cat.", "A dog."],
    "image": hf_image(),
    "human_ranking": [0, 1],
    "models": ["m", "n"],
    "judge": "human",
    "query_source": "",
}
FULL = {**ROW, "image": "images/RLAIF-V-1.png"}
TEXT = {
    "id": "RLAIF-V-1",
    "prompt": "What is it?",
    "chosen": "A cat.",
    "rejected": "A dog.",
    "image": "vl_reward/1.png",
}


def test_read_parquet_pair_with_its_image(tmp_path):
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", [ROW])
    (sample,) = vl_rewardbench.read(tmp_path)
    assert sample.key == "vl_rewardbench-0000000-RLAIF-V-1" and sample.images == (png(),)
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),) and sample.responses == ("A cat.", "A dog.")
    assert sample.meta["id"] == "RLAIF-V-1" and "query_source" not in sample.meta


@pytest.mark.parametrize(("ranking", "chosen"), [([0, 1], "A cat."), ([1, 0], "A dog.")])
def test_read_human_ranking_has_zero_at_the_better_response(tmp_path, ranking, chosen):
    write_parquet(tmp_path / "a.parquet", [{**ROW, "human_ranking": ranking}])
    (sample,) = vl_rewardbench.read(tmp_path / "a.parquet")
    assert sample.responses[0] == chosen
    assert vl_rewardbench.describe({**ROW, "human_ranking": ranking}).chosen == chosen


@pytest.mark.parametrize("ranking", [[1, 1], [0, 0], [1, 2], [0], [0, 1, 2], ["0", "1"], [False, True], None])
def test_read_other_rankings_are_named(tmp_path, ranking):
    write_json(tmp_path / "data.json", [{**FULL, "human_ranking": ranking}])
    (item,) = vl_rewardbench.read(tmp_path)
    assert item.reason == "malformed field" and "human_ranking" in item.detail


@pytest.mark.parametrize(
    ("write", "name", "record", "image"),
    [
        (write_json, "data.json", FULL, "images/RLAIF-V-1.png"),
        (write_jsonl, "vl_rewardbench_text.jsonl", TEXT, "vl_reward/1.png"),
    ],
)
def test_read_copies_find_their_image_beside_the_file(tmp_path, write, name, record, image):
    write(tmp_path / name, [record, record])
    assert [item.reason for item in vl_rewardbench.read(tmp_path)] == ["image missing"] * 2
    write_files(tmp_path, {image: png("blue")})
    first, second = vl_rewardbench.read(tmp_path)
    assert first.images == (png("blue"),) and first.responses == ("A cat.", "A dog.")
    assert first.key != second.key  # ids repeat: a pair is told by its row


def test_read_folder_prefers_the_parquet_file_which_has_images(tmp_path):
    write_json(tmp_path / "data.json", [FULL])
    write_parquet(tmp_path / "data/test-0.parquet", [ROW])
    assert not any(isinstance(item, Skipped) for item in vl_rewardbench.read(tmp_path))


def test_describe_a_record_of_another_benchmark_is_refused():
    with pytest.raises(RecordError, match="'video' is NoneType None, it must be no field of VL-RewardBench"):
        vl_rewardbench.describe({**TEXT, "video": None})


def test_read_parquet_of_another_set_is_one_clear_error(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"id": "1", "question": "?"}])
    with pytest.raises(ConfigError, match="no column query, response, human_ranking"):
        vl_rewardbench.read(tmp_path)
