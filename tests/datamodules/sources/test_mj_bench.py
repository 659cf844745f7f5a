"""MJ-Bench: which image is preferred, and records that cannot be used."""

import pytest

from datamodules.sources import mj_bench
from datamodules.sources.base import Skipped
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError
from tests.datamodules.sources.helpers import hf_image, make_mj_bench, png, write_parquet

RECORD = {"caption": "a room", "label_0": 1, "image_0": "a.jpg", "image_1": "b.jpg"}


def read_one(tmp_path, **changes):
    folder = make_mj_bench(tmp_path / "data", [{**RECORD, **changes}], ["a.jpg", "b.jpg"])
    (item,) = mj_bench.read(folder)
    return item, folder / "images"


@pytest.mark.parametrize(("label", "preferred"), [(1, "a.jpg"), (0, "b.jpg")])
def test_read_label_0_tells_whether_image_0_is_preferred(tmp_path, label, preferred):
    item, images = read_one(tmp_path, label_0=label)
    assert isinstance(item, T2IPreference)
    assert item.preferred == (images / preferred).read_bytes() != item.other
    assert (item.key, item.caption, item.strength) == ("mj_bench-00000-a", "a room", None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label_0": 2}, "no preference"),
        ({"label_0": "1"}, "malformed field"),
        ({"image_1": "c.jpg"}, "image not in this copy"),
        ({"image_1": "."}, "image missing"),
        ({"image_1": "a.jpg"}, "equal images"),
        ({"caption": ""}, "empty caption"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, changes, reason):
    item, _ = read_one(tmp_path, **changes)
    assert isinstance(item, Skipped) and item.reason == reason


def test_read_other_folder_says_what_it_must_hold(tmp_path):
    with pytest.raises(ConfigError, match="captions.json"):
        mj_bench.read(tmp_path)


ROW = {"caption": "a room", "image0": hf_image("red"), "image1": hf_image("blue")}


@pytest.mark.parametrize(("label", "preferred"), [(0, "red"), (1, "blue")])
def test_read_parquet_label_is_the_number_of_the_better_image(tmp_path, label, preferred):
    write_parquet(tmp_path / "data/alignment-00000-of-00001.parquet", [{**ROW, "label": label, "info": "x"}])
    (item,) = mj_bench.read(tmp_path)
    assert item.preferred == png(preferred) != item.other and item.key == "mj_bench-000000"


def test_read_parquet_v2_keeps_the_category(tmp_path):
    row = {**ROW, "label": 0, "category": "quality", "subcategory": "blur", "model": "m"}
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", [row])
    (item,) = mj_bench.read(tmp_path)
    assert item.preferred == png("red") and item.meta["category"] == "quality"


def test_read_parquet_split_is_by_name(tmp_path):
    for split in ("alignment", "safety"):
        write_parquet(tmp_path / f"data/{split}-00000-of-00001.parquet", [{**ROW, "caption": split, "label": 0}])
    (item,) = mj_bench.read(tmp_path, split="safety")
    assert item.caption == "safety"
    with pytest.raises(ConfigError, match="named after 'bias'"):
        mj_bench.read(tmp_path, split="bias")


@pytest.mark.parametrize("label", [2, -1, None])
def test_read_parquet_other_label_is_a_named_surprise(tmp_path, label):
    write_parquet(tmp_path / "data/bias-00000-of-00001.parquet", [{**ROW, "label": label}, {**ROW, "label": 0}])
    item, _ = mj_bench.read(tmp_path)
    assert item.reason == "malformed field" and "'label'" in item.detail and "mj_bench-000000" in item.detail
