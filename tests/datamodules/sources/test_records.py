"""JSON lists and lines: read as they come, whatever the blocks' borders."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from operator import length_hint

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sources import records
from datamodules.sources.location import Location
from datamodules.sources.records import _list_entries, find_named, read_records
from mrm.errors import ConfigError
from tests.datamodules.sources.counting import counting

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.json", data)
    return buffer.getvalue()


@settings(deadline=None)
@given(
    entries=st.lists(JSON, max_size=6), block=st.integers(1, 9), indent=st.sampled_from([None, 1]), ascii=st.booleans()
)
def test_list_entries_any_list_in_any_blocks_is_the_list(entries, block, indent, ascii):
    data = json.dumps(entries, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:  # half of a surrogate pair
        return
    blocks = (data[i : i + block] for i in range(0, len(data), block))
    assert list(_list_entries(blocks)) == entries


@pytest.mark.parametrize(
    "text", ['[{"a": 1}', '[{"a": 1},', '[{"a": 1},]', '[{"a": 1}] x', '[{"a" 1}]', "[", '[{"a": 1} {"a": 2}]']
)
def test_read_records_broken_list_names_file_and_entry(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a.json is not a valid JSON list: .*after [01] entries"):
        list(read_records(tmp_path / "a.json"))


def test_read_records_bytes_that_are_no_text_raise(tmp_path):
    (tmp_path / "a.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(ConfigError, match="a.json is not a valid JSON list"):
        list(read_records(tmp_path / "a.json"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("pack", "told"),
    [
        (gzip.compress, "packed with gzip.*unpack it"),
        (bz2.compress, "packed with bzip2"),
        (lzma.compress, "packed with xz"),
        (zipped, "a zip file.*unpack it"),
        (lambda data: b"PAR1" + data, "a Parquet file.*a source that reads Parquet"),
    ],
)
def test_read_records_packed_or_parquet_file_is_refused_by_what_it_is(tmp_path, name, pack, told):
    (tmp_path / name).write_bytes(pack(b'[{"a": 1}]'))
    with pytest.raises(ConfigError, match=f"{name} is {told}"):
        read_records(tmp_path / name)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_read_records_first_record_reads_only_the_beginning(name):
    entry = json.dumps({"text": "x" * 1000})
    text = "[" + ",".join([entry] * 20_000) + "]" if name == "a.json" else f"{entry}\n" * 20_000
    fs, file = counting(text.encode(), name)
    found = read_records(file)
    next(found)
    assert fs.bytes_read < 2 * records.SAMPLED < len(text) / 8


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_read_records_number_is_exact_for_small_and_near_for_large_files(tmp_path, name):
    def write(count):
        lines = [json.dumps({"text": "x" * 100}) for _ in range(count)]
        (tmp_path / name).write_text(f"[{','.join(lines)}]" if name == "a.json" else "\n".join(lines))
        return read_records(tmp_path / name)

    assert length_hint(write(7)) == 7
    assert length_hint(write(30_000)) == pytest.approx(30_000, rel=0.01)


def test_read_records_from_a_url_gives_the_same(tmp_path):
    import fsspec

    fsspec.filesystem("memory").pipe("/records/a.jsonl", b'{"x": 1}\n{"x": 2}')
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": 2}')
    assert list(read_records("memory://records/a.jsonl")) == list(read_records(tmp_path / "a.jsonl"))


def test_find_named_takes_the_first_there_is_or_says_what_is_missing(tmp_path):
    (tmp_path / "b.json").write_text("[]")
    assert find_named(tmp_path, "a.json", "b.json") == Location.of(tmp_path / "b.json")
    with pytest.raises(ConfigError, match="none of a.json, c.json"):
        find_named(tmp_path, "a.json", "c.json")
