"""What tells that an input is the one that was prepared: the files that its readers see, and no others."""

import hashlib
from pathlib import Path

import fsspec
import pytest

from datamodules.recipe import input_digest
from mrm.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/b.json", "a.txt", "a/c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[{name}]")
    return tmp_path / "in"


def test_input_digest_is_of_names_sizes_and_the_contents_of_json(folder):
    text = "a/b.json\0" + "10\0[a/b.json]" + "a/c.png\0" + "9\0" + "a.txt\0" + "7\0"
    assert input_digest(folder) == hashlib.sha256(text.encode()).hexdigest()
    one = hashlib.sha256(b".\x0010\0[a/b.json]").hexdigest()
    assert input_digest(folder / "a/b.json") == one


@pytest.mark.parametrize("name", [".hidden", ".git/x", "shards/prepared.json", "shards/shard-000000.tar", "a/dead"])
@pytest.mark.parametrize("is_remote", [False, True])
def test_input_digest_leaves_out_what_readers_do_not_see(folder, name, is_remote):
    store = fsspec.filesystem("memory")

    def add(inside: str, text: str) -> None:
        (folder / inside).parent.mkdir(exist_ok=True)
        (folder / inside).write_text(text)
        store.pipe_file(f"/digested/{inside}", text.encode())

    for file in ("a/b.json", "a.txt"):
        add(file, "[]")
    add("shards/prepared.json", "{}")
    given = "memory://digested" if is_remote else folder
    before = input_digest(given)
    if name == "a/dead":
        (folder / name).symlink_to(folder / "nothing")
    else:
        add(name, "anything")
    assert input_digest(given) == before
    add("a.txt", "another length")
    assert input_digest(given) != before
    store.rm("/digested", recursive=True)


def test_input_digest_of_nothing_names_the_setting(tmp_path):
    with pytest.raises(ConfigError, match="decontaminate: there is no file or folder .*none"):
        input_digest(tmp_path / "none", "decontaminate")
