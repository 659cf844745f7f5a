"""RLHF-V, whose texts are JSON within a column."""

import json

import pytest

from datamodules.sources import rlhf_v
from mrm.preference import Message
from tests.datamodules.sources.helpers import hf_image, png, write_parquet

TEXT = {"question": "What is it?", "chosen": "A cat.", "rejected": "A dog."}
ROW = {
    "ds_name": "RLHF-V",
    "image": hf_image(),
    "text": json.dumps(TEXT),
    "origin_dataset": "COCO",
    "origin_split": json.dumps({"model": "m", "type": "detailed_description"}),
    "idx": 7,
    "image_path": "a.jpg",
}


def read_one(folder, **changes):
    write_parquet(folder / "RLHF-V-Dataset.parquet", [{**ROW, **changes}])
    (item,) = rlhf_v.read(folder)
    return item


def test_read_row_is_a_pair(tmp_path):
    sample = read_one(tmp_path)
    assert (sample.key, sample.images, sample.responses) == ("rlhf_v-0000000-7", (png(),), ("A cat.", "A dog."))
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),)
    assert sample.pairs[0].strength is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "malformed field"), ("[]", "malformed field"), ('{"question": "Q"}', "missing field"), (None, "malformed field")],
)  # fmt: skip
def test_read_other_text_names_field_key_and_place(tmp_path, text, reason):
    item = read_one(tmp_path, text=text)
    assert (item.reason, item.key) == (reason, "rlhf_v-0000000-7")
    assert item.detail.startswith("RLHF-V-Dataset.parquet row 0: record 'rlhf_v-0000000-7'")
