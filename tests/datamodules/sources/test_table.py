"""The name table and the helpers that all readers share."""

import pytest

from datamodules.sources import SOURCES, get_source
from datamodules.sources.base import Skipped, safe_key
from datamodules.sources.images import read_image
from datamodules.sources.location import Location
from datamodules.sources.records import find_file, read_records
from mrm.errors import ConfigError, RecordError


def test_get_source_unknown_lists_the_known_and_suggests():
    with pytest.raises(ConfigError, match="math_v, pickapic_v2.*Did you mean 'math_v'"):
        get_source("math-v")
    assert set(SOURCES) >= {"jsonl", "llama_factory", "math_v", "mj_bench", "shapeworld"}


def test_safe_key_changed_identities_stay_apart():
    assert safe_key("d", "a_b") == "d-a_b"
    keys = {safe_key("d", identity) for identity in ("a_b", "a.b", "a/b", "甲", "乙", "x" * 300, "x" * 301)}
    assert len(keys) == 7
    assert all(len(key) <= 200 and "." not in key for key in keys)


def test_read_records_list_and_lines_give_the_same(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf\n [{"x": 1},\n {"x": 2}, 3]')
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{"x": 2}\n3\n')
    for name, places in (
        ("a.json", ["a.json[0]", "a.json[1]", "a.json[2]"]),
        ("a.jsonl", ["a.jsonl:1", "a.jsonl:3", "a.jsonl:4"]),
    ):
        found = list(read_records(tmp_path / name))
        assert [place for place, _ in found] == places
        assert [entry for _, entry in found[:2]] == [{"x": 1}, {"x": 2}]
        assert found[2][1].reason == "not a record"


def test_read_records_broken_line_is_skipped_and_the_rest_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"x": 1}\n{"x": \n\xff\n{"x": 2}\n')
    kinds = [type(entry) for _, entry in read_records(path)]
    assert kinds == [dict, Skipped, Skipped, dict]


def test_read_records_cut_list_raises_and_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text('[{"x": 1}, {"x"')
    with pytest.raises(ConfigError, match="a.json is not a valid JSON list"):
        list(read_records(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [("no.png", "image missing"), (".", "image missing"), ("a\0b", "image missing"), (3, "malformed field"),
     ("https://x.org/a.png", "remote image"), ("data:image/png;base64,AA", "remote image")],
)  # fmt: skip
def test_read_image_bad_path_names_the_reason(tmp_path, path, reason):
    with pytest.raises(RecordError) as error:
        read_image(path, tmp_path)
    assert error.value.reason == reason


def test_find_file_folder_must_hold_exactly_one(tmp_path):
    with pytest.raises(ConfigError, match="exactly one"):
        find_file(tmp_path)
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "a.json").write_text("[]")
    assert find_file(tmp_path) == Location.of(tmp_path / "a.json")
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(ConfigError, match="a.json, b.jsonl"):
        find_file(tmp_path)
    with pytest.raises(ConfigError, match="no file or folder"):
        find_file(tmp_path / "none")
