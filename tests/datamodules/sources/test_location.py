"""Paths and URLs as one kind of thing, and what a URL must be."""

from pathlib import Path

import fsspec
import pytest

from datamodules.sources.location import Location, existing, is_url, join
from mrm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "url"),
    [("s3://bucket/a", True), ("zip://a.json::memory://b.zip", True), ("a/b.json", False), ("C:/data", False), ("a:b", False)],
)  # fmt: skip
def test_is_url_needs_a_scheme(text, url):
    assert is_url(text) is url


def test_of_file_url_is_the_local_path(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    by_url, by_path = Location.of(f"file://{tmp_path}/a.json"), Location.of(tmp_path / "a.json")
    assert by_url == by_path and str(by_url) == str(tmp_path / "a.json")
    assert (by_path.name, by_path.stem, by_path.suffix, by_path.is_local) == ("a.json", "a", ".json", True)


def test_of_memory_url_keeps_its_scheme_and_opens():
    fsspec.filesystem("memory").pipe("/place/a.txt", b"abc")
    location = existing("memory://place")
    assert location.is_dir() and not location.is_local
    (child,) = location.children()
    assert str(child) == "memory:///place/a.txt" and child.size() == 3
    assert location.relative(child) == "a.txt"
    with child.open() as stream:
        assert stream.read() == b"abc"


def test_of_unknown_scheme_is_one_clear_error():
    with pytest.raises(ConfigError, match="nosuch://a cannot be opened"):
        Location.of("nosuch://a")


def test_existing_nothing_there_raises(tmp_path):
    with pytest.raises(ConfigError, match="no file or folder"):
        existing(tmp_path / "none")
    with pytest.raises(ConfigError, match="no file or folder memory:///none"):
        existing("memory://none")


def test_files_are_all_but_the_hidden(tmp_path):
    for name in ("b/a.txt", "a.txt", ".git/x", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    place = Location.of(tmp_path)
    assert [place.relative(file) for file in place.files()] == ["a.txt", "b/a.txt"]
    assert [child.name for child in place.children()] == ["a.txt", "b"]


@pytest.mark.parametrize(
    ("root", "inside", "whole"),
    [("s3://b/x/", "a.json", "s3://b/x/a.json"), ("data", "s3://b/a.json", "s3://b/a.json")],
)
def test_join_keeps_urls(root, inside, whole):
    assert join(root, inside) == whole


def test_join_local_paths_and_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert join("~/data", "a.json") == Path("/home/me/data/a.json")
    assert join("data", "/b.json") == Path("/b.json")


def test_files_leave_out_what_was_prepared_within(tmp_path):
    for name in ("a.parquet", "shards/index.parquet", "shards/prepared.json", "shards2/b.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    place = existing(tmp_path)
    assert [place.relative(file) for file in place.files()] == ["a.parquet", "shards2/b.parquet"]
    assert len(existing(tmp_path / "shards").files()) == 2
