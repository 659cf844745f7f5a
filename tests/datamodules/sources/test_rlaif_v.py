"""RLAIF-V in its published columns."""

import json
from operator import length_hint

import pytest

from datamodules.sources import rlaif_v
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError
from mrm.preference import Message, Pair
from tests.datamodules.sources.helpers import hf_image, png, write_parquet

ROW = {
    "ds_name": "RLAIF-V",
    "image": hf_image(),
    "question": "Who uses these tools?",
    "chosen": "A smith.",
    "rejected": "A baker.",
    "origin_dataset": "TextVQA",
    "origin_split": json.dumps({"model": "m", "type": "question_answering"}),
    "idx": "0",
    "image_path": "a.jpg",
}


def test_read_shards_row_is_a_pair_with_its_image_first(tmp_path):
    write_parquet(tmp_path / "RLAIF-V-Dataset_000.parquet", [ROW, {**ROW, "idx": "1"}])
    write_parquet(tmp_path / "RLAIF-V-Dataset_001.parquet", [ROW])
    samples = rlaif_v.read(tmp_path)
    assert length_hint(samples) == 3
    first, _, third = samples
    assert (first.key, third.key) == ("rlaif_v-0000000-0", "rlaif_v-0000002-0")  # idx alone would repeat
    assert first.prompt == (Message("user", "<image>\nWho uses these tools?"),)
    assert first.images == (png(),)
    assert first.responses == ("A smith.", "A baker.") and first.pairs == (Pair(0, 1, None),)
    assert first.meta["origin_dataset"] == "TextVQA"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": {"bytes": None, "path": None}}, "malformed field"),
        ({"image": {"bytes": None, "path": "../a.jpg"}}, "unsafe path"),
        ({"image": {"bytes": None, "path": "a.jpg"}}, "image missing"),
        ({"question": None}, "malformed field"),
        ({"question": "<image><image>Q"}, "image count"),
        ({"chosen": "A baker."}, "equal responses"),
        ({"rejected": " "}, "empty response"),
    ],
)
def test_read_bad_row_is_skipped_and_the_next_is_read(tmp_path, changes, reason):
    write_parquet(tmp_path / "RLAIF-V-Dataset_000.parquet", [{**ROW, **changes}, ROW])
    bad, good = rlaif_v.read(tmp_path)
    assert isinstance(bad, Skipped) and bad.reason == reason and bad.key == "rlaif_v-0000000-0"
    assert "RLAIF-V-Dataset_000.parquet row 0: record 'rlaif_v-0000000-0'" in bad.detail or bad.key in bad.detail
    assert good.responses == ("A smith.", "A baker.")


def test_read_other_columns_are_one_clear_error(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"image": hf_image(), "text": "{}"}])
    with pytest.raises(ConfigError, match="a.parquet has no column question, chosen, rejected; it has image, text"):
        rlaif_v.read(tmp_path)
