"""Reading by index: all bytes are checked once, and again when the file changes."""

import gc
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.reading import read_members, read_sample
from mrm.errors import ShardError
from tests.datamodules.making import make_dataset, make_image, make_sample


def test_read_sample_again_gives_an_equal_sample(tmp_path: Path) -> None:
    sample = make_sample("a", images=[make_image(1), make_image(2)], responses=3, meta={"score": [1, 2]})
    index = make_dataset(tmp_path / "set", [sample])
    assert read_sample(index, 0) == read_sample(index, 0) == sample
    assert dict(read_sample(index, 0).meta) == {"score": [1, 2]}


def test_read_sample_changed_after_it_was_read_is_named(tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", [make_sample("a")])
    read_sample(index, 0)
    path = index.shard_files[0]
    data = bytearray(path.read_bytes())
    data[index.image_offset[0] + 40] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))  # a file system's clock may be too coarse to tell two writes apart
    with pytest.raises(ShardError, match="image 0 of sample 'a' has other bytes than were indexed"):
        read_sample(index, 0)


def test_read_members_are_the_record_and_the_images_in_order(tmp_path: Path) -> None:
    images = [make_image(1), make_image(2, "JPEG")]
    index = make_dataset(tmp_path / "set", [make_sample("a", images=images), make_sample("b", images=())])
    assert read_members(index, 0)[1:] == images
    assert [text[:11] for text in (read_members(index, 0)[0], *read_members(index, 1))] == [
        b'{"key": "a"',
        b'{"key": "b"',
    ]


@pytest.mark.parametrize(("column", "value"), [("image_offset", -1), ("image_offset", 2**62), ("image_length", 2**62)])
def test_read_sample_offsets_outside_the_shard_are_named(tmp_path: Path, column: str, value: int) -> None:
    index = replace(make_dataset(tmp_path / "set", [make_sample("a")]), **{column: np.array([value])})
    with pytest.raises(ShardError, match=r"shard-000000\.tar: sample 'a' cannot be read"):
        read_sample(index, 0)


def test_read_sample_remembers_nothing_of_an_index_that_is_gone(tmp_path: Path) -> None:
    from datamodules import reading

    gc.collect()
    before = len(reading._CHECKED)
    index = make_dataset(tmp_path / "set", 1)
    read_sample(index, 0)
    assert len(reading._CHECKED) == before + 1
    del index
    gc.collect()
    assert len(reading._CHECKED) == before
