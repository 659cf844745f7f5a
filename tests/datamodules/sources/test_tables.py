"""Parquet: shards, splits and columns; a wrong file is one error, a damaged part is counted row by row."""

import random
from operator import length_hint

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.sources.base import DAMAGED, Skipped
from datamodules.sources.location import Location
from datamodules.sources.tables import find_tables, read_rows
from mrm.errors import ConfigError
from tests.datamodules.sources.counting import counting
from tests.datamodules.sources.helpers import write_parquet


def names(folder, files):
    return [Location.of(folder).relative(file) for file in files]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {},
            [
                "data/test-0.parquet",
                "data/test_unique-0.parquet",
                "data/train-0.parquet",
                "data/train-1.parquet",
                "pair/val.parquet",
            ],
        ),
        ({"split": "train"}, ["data/train-0.parquet", "data/train-1.parquet"]),
        ({"split": "validation"}, ["pair/val.parquet"]),
        ({"split": "test_unique"}, ["data/test_unique-0.parquet"]),
        ({"config": "pair"}, ["pair/val.parquet"]),
        ({"config": "unknown", "split": "test"}, ["data/test-0.parquet"]),
    ],
)
def test_find_tables_picks_config_and_split(tmp_path, options, expected):
    for name in ("data/train-0", "data/train-1", "data/test-0", "data/test_unique-0", "pair/val"):
        write_parquet(tmp_path / f"{name}.parquet", [{"a": 1}])
    assert names(tmp_path, find_tables(tmp_path, **options)) == expected


def test_find_tables_files_without_a_split_belong_to_all(tmp_path):
    write_parquet(tmp_path / "Some-Dataset_000.parquet", [{"a": 1}])
    assert names(tmp_path, find_tables(tmp_path, split="train")) == ["Some-Dataset_000.parquet"]


def test_find_tables_none_lists_what_is_there(tmp_path):
    with pytest.raises(ConfigError, match="no .parquet file"):
        find_tables(tmp_path)
    write_parquet(tmp_path / "test-0.parquet", [{"a": 1}])
    with pytest.raises(ConfigError, match="of the split 'train'; found test-0.parquet"):
        find_tables(tmp_path, split="train")


def test_read_rows_of_all_shards_with_the_columns_asked_for(tmp_path):
    write_parquet(tmp_path / "0.parquet", [{"a": 1, "b": "x", "c": 0}, {"a": 2, "b": "y", "c": 0}])
    write_parquet(tmp_path / "1.parquet", [{"a": 3}])
    rows = read_rows(find_tables(tmp_path), ["a"], ["b"])
    assert length_hint(rows) == 3
    assert list(rows) == [
        ("0.parquet row 0", {"a": 1, "b": "x"}),
        ("0.parquet row 1", {"a": 2, "b": "y"}),
        ("1.parquet row 0", {"a": 3}),
    ]


def test_read_rows_missing_column_names_file_and_columns(tmp_path):
    write_parquet(tmp_path / "0.parquet", [{"a": 1, "b": 2}])
    with pytest.raises(ConfigError, match="0.parquet has no column c; it has a, b"):
        read_rows(find_tables(tmp_path), ["a", "c"])


def test_read_rows_cut_file_is_told_before_reading_starts(tmp_path):
    for name in ("0.parquet", "1.parquet"):
        write_parquet(tmp_path / name, [{"a": 1}])
    data = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match="1.parquet is no whole Parquet file"):
        read_rows(find_tables(tmp_path), ["a"])


def test_read_rows_damaged_row_group_counts_its_rows_and_the_rest_is_read(tmp_path):
    file = tmp_path / "0.parquet"
    table = pa.table({"a": [f"row {i} of the table" for i in range(40)]})
    pq.write_table(table, file, row_group_size=20, compression="snappy", use_dictionary=False)
    column = pq.read_metadata(file).row_group(0).column(0)
    data = bytearray(file.read_bytes())
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(data)
    found = [item for _, item in read_rows(find_tables(tmp_path), ["a"])]
    assert [item.reason for item in found[:20] if isinstance(item, Skipped)] == [DAMAGED] * 20
    assert [item["a"] for item in found[20:]] == [f"row {i} of the table" for i in range(20, 40)]


def test_read_rows_first_row_does_not_read_the_file(tmp_path):
    blobs = [random.Random(i).randbytes(20_000) for i in range(1000)]
    options = {"row_group_size": 500, "write_batch_size": 10, "use_dictionary": False}  # pages of a megabyte
    pq.write_table(pa.table({"image": blobs}), tmp_path / "a.parquet", **options)
    data = (tmp_path / "a.parquet").read_bytes()
    fs, file = counting(data, "a.parquet")
    _, row = next(read_rows([file], ["image"]))
    assert row == {"image": blobs[0]}
    assert fs.bytes_read < len(data) / 8


def test_read_rows_from_a_url_gives_the_same(tmp_path):
    write_parquet(tmp_path / "0.parquet", [{"a": 1}, {"a": 2}])
    fsspec.filesystem("memory").pipe("/tables/0.parquet", (tmp_path / "0.parquet").read_bytes())
    assert list(read_rows(find_tables("memory://tables"), ["a"])) == list(read_rows(find_tables(tmp_path), ["a"]))
