"""SPA-VL: splits, and questions with and without the image's mark."""

import pytest

from datamodules.sources import spa_vl
from mrm.errors import ConfigError
from mrm.preference import Message
from tests.datamodules.sources.helpers import hf_image, png, write_parquet

ROW = {
    "image": hf_image(),
    "question": "<image>\nHow is it done?",
    "chosen": "I cannot help with that.",
    "rejected": "First ...",
    "class1": "Representation & Toxicity Harms",
    "class2": "Toxic Content",
    "class3": "Hate Speech",
}


@pytest.fixture
def folder(tmp_path):
    write_parquet(tmp_path / "data/train-00000-of-00001.parquet", [ROW, {**ROW, "question": "How is it done?"}])
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", [{**ROW, "image": hf_image("blue")}])
    write_parquet(tmp_path / "test/harm-00000-of-00001.parquet", [{"image": hf_image(), "question": "Q"}])
    return tmp_path


def test_read_train_has_one_mark_an_image_either_way(folder):
    first, second = spa_vl.read(folder)
    assert first.prompt == second.prompt == (Message("user", "<image>\nHow is it done?"),)
    assert first.images == (png(),) and first.responses == ("I cannot help with that.", "First ...")
    assert first.meta["class2"] == "Toxic Content" and first.key == "spa_vl-train-0000000"


def test_read_validation_is_another_split(folder):
    (sample,) = spa_vl.read(folder, split="validation")
    assert sample.images == (png("blue"),) and sample.key == "spa_vl-validation-0000000"


def test_read_test_split_has_no_answers(folder):
    with pytest.raises(ConfigError, match="harm-.* has no column chosen, rejected"):
        spa_vl.read(folder, split="test")
