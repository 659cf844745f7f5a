import dataclasses
import hashlib
import io
import json
import os
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datamodules import index_table
from datamodules.index import Index
from datamodules.index_build import build_index
from datamodules.index_seal import seal
from datamodules.reading import read_members
from datamodules.shards import read_sample
from mrm.errors import ShardError
from mrm.preference import Pair
from tests.datamodules.making import make_dataset, make_image, make_sample


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def record(key: str, images: int = 0) -> bytes:
    return json.dumps(make_sample(key, images=[make_image()] * images).to_json()).encode()


def test_index_load_columns_are_the_samples(tmp_path: Path) -> None:
    index = make_dataset(
        tmp_path / "set",
        [
            make_sample("a", images=[make_image(size=(8, 6)), make_image(size=(4, 4))]),
            make_sample("b", images=[], responses=3, pairs=[Pair(2, 0, None), Pair(0, 1, 0.25)], source="other"),
        ],
    )
    assert len(index) == 2 and index.n_pairs == 3
    assert list(index.keys) == ["a", "b"] and list(index.sources) == ["made", "other"]
    assert index.pair_start.tolist() == [0, 1, 3]
    assert index.pair_sample.tolist() == [0, 1, 1] and index.pair_number.tolist() == [0, 0, 1]
    assert index.pair_chosen.tolist() == [0, 2, 0] and index.pair_rejected.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(index.pair_strength, np.array([0.5, np.nan, 0.25], np.float32))
    assert index.n_responses.tolist() == [2, 3]
    # "<image><image>What is in a?" is 14 + 13 characters, "answer 0 to a" 13
    assert index.text_chars.tolist() == [27 + 2 * 13, 13 + 3 * 13]
    assert index.image_pixels.tolist() == [8 * 6 + 4 * 4, 0]
    assert index.image_start.tolist() == [0, 2, 2]
    images = [make_image(size=(8, 6)), make_image(size=(4, 4))]
    assert index.image_crc.tolist() == [zlib.crc32(image) for image in images]
    assert index.image_digest.tolist() == [int(hashlib.sha256(image).hexdigest()[:16], 16) for image in images]
    assert index.json_crc.tolist() == [zlib.crc32(read_members(index, row)[0]) for row in range(2)]


def test_index_build_again_equals_the_writers(tmp_path: Path) -> None:
    first = make_dataset(
        tmp_path / "set", [make_sample(f"k{n}", images=[make_image(n)]) for n in range(5)], max_samples=2
    )
    (tmp_path / "set/index.parquet").unlink()
    again = build_index(tmp_path / "set")
    assert again.fingerprint == first.fingerprint
    for name in ("keys", "shard", "json_offset", "image_offset", "pair_sample", "text_chars"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_index_fingerprint_depends_on_contents_not_on_shards(tmp_path: Path) -> None:
    samples = [make_sample(f"k{n}", images=[make_image(n)]) for n in range(4)]
    prints = [
        make_dataset(tmp_path / "a", samples).fingerprint,
        make_dataset(tmp_path / "b", samples, max_samples=1).fingerprint,
        make_dataset(tmp_path / "c", [*samples[:3], make_sample("k3", images=[make_image(9)])]).fingerprint,
        make_dataset(
            tmp_path / "d", [*samples[:3], make_sample("k3", images=[make_image(3)], pairs=[Pair(1, 0)])]
        ).fingerprint,
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_index_build_foreign_tar_is_read(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "set/any-name.tar",
        [("./a.JPG", make_image(kind="JPEG")), ("./a.json", record("a", 1)), ("b.1.webp", make_image(1, "WEBP"))]
        + [("b.0.jpeg", make_image(2, "JPEG")), ("b.json", record("b", 2))],
    )
    index = build_index(tmp_path / "set")
    assert read_sample(index, 0).images == (make_image(kind="JPEG"),)
    assert read_sample(index, 1).images == (make_image(2, "JPEG"), make_image(1, "WEBP"))


def test_index_build_members_of_a_sample_may_lie_apart(tmp_path: Path) -> None:
    """As `tar cf x.tar *.json *.png` writes them."""
    members = [(f"{key}.json", record(key, 2)) for key in "ab"]
    members += [(f"{key}.{n}.png", make_image(10 * n + ord(key))) for n in (1, 0) for key in "ba"]
    write_tar(tmp_path / "set/x.tar", members)
    index = build_index(tmp_path / "set")
    assert list(index.keys) == ["a", "b"]
    assert read_sample(index, 0).images == (make_image(ord("a")), make_image(10 + ord("a")))
    assert read_sample(index, 1).images == (make_image(ord("b")), make_image(10 + ord("b")))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_index_build_any_tar_format_with_folders_and_long_names(tmp_path: Path, form: int) -> None:
    folder, key = "f" * 90, "k" * (60 if form == tarfile.USTAR_FORMAT else 160)
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set/x.tar", "w", format=form) as tar:
        info = tarfile.TarInfo(folder)
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        for name, data in ((f"{key}.png", make_image()), (f"{key}.json", record(key, 1))):
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mtime, info.uname = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1, "Zoë"
            tar.addfile(info, io.BytesIO(data))
    index = build_index(tmp_path / "set")
    assert read_sample(index, 0).key == key and read_sample(index, 0).images == (make_image(),)


def test_index_build_in_pieces_equals_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [make_sample(f"k{n}", images=[make_image(n)] * (n % 3), source=f"s{n % 4}") for n in range(11)]
    whole = make_dataset(tmp_path / "set", samples, max_samples=4)
    monkeypatch.setattr(index_table, "BATCH_ROWS", 2)
    monkeypatch.setattr(index_table, "GROUP_ROWS", 4)
    build_index(tmp_path / "set")
    assert pq.ParquetFile(tmp_path / "set/index.parquet").num_row_groups == 3
    pieces = Index.load(tmp_path / "set")
    for field in dataclasses.fields(Index):
        if field.name not in ("source", "source_names"):
            np.testing.assert_array_equal(getattr(pieces, field.name), getattr(whole, field.name), field.name)
    assert list(pieces.sources) == list(whole.sources) == [f"s{n % 4}" for n in range(11)]


def test_index_build_holds_few_samples_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image weighs 1 MB, all of them 24 MB."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 600, 600, 3), dtype=np.uint8)
    members = []
    for number, pixels in enumerate(noise):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        members += [(f"k{number}.json", record(f"k{number}", 1)), (f"k{number}.png", buffer.getvalue())]
    write_tar(tmp_path / "set/x.tar", members)
    del members, noise, buffer
    tracemalloc.start()
    try:
        assert len(build_index(tmp_path / "set")) == 24
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()


def test_index_build_image_without_readable_header_has_no_size(tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", [make_sample("a", images=[make_image()[:12]])])
    assert index.image_pixels.tolist() == [0]


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1536, 2100, 2560, 3072])
def test_index_build_tar_cut_anywhere_is_named(tmp_path: Path, cut: int) -> None:
    """Samples of one block each: header, data, header, data, ...; 1024, 2048 and 3072 fall between members."""
    write_tar(tmp_path / "set/x.tar", [(f"{key}.json", record(key)) for key in "abc"])
    os.truncate(tmp_path / "set/x.tar", cut)
    with pytest.raises(ShardError, match=r"x\.tar"):
        build_index(tmp_path / "set")


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("a.json", record("a")), ("a.pyd", b"")], r"'a\.pyd' is refused"),
        ([("a.json", record("a")), ("a.0.svg", b"")], r"'a\.0\.svg' is refused"),
        ([("a.json", record("a")), ("a.b.json", record("a"))], r"'a\.b\.json' is refused"),
        ([("a.json", record("a")), ("a.json", record("a"))], "'a' is a duplicate"),
        (
            [("a.json", record("a")), ("b.json", record("b")), ("a.json", record("a"))],
            "'a' is a duplicate: 'a.json' stands there twice",
        ),
        ([("/a.json", record("a"))], r"'/a\.json' is refused: its name leads out of the shard"),
        ([("x/../../a.json", record("a"))], r"'x/\.\./\.\./a\.json' is refused: its name leads out of the shard"),
        ([("x/a.json", record("a")), ("y/a.json", record("a"))], "'a' is a duplicate"),
        ([("a.0.png", make_image())], "'a' has no a.json"),
        ([("a.json", record("a", 1)), ("a.1.png", make_image())], "without a gap"),
        ([("a.json", record("a", 1)), ("a.png", make_image()), ("a.0.png", make_image())], "two images number 0"),
        ([("a.json", record("a", 1))], "1 `<image>` marker.* but 0 image"),
        ([("a.json", b"{")], "a.json is not a valid sample"),
        ([("a.json", b"\xff")], "a.json is not a valid sample"),
        ([("a.json", b"[]")], "must be a JSON object"),
        ([("a.json", record("b"))], "says its key is 'b'"),
    ],
)
def test_index_build_bad_members_are_named(tmp_path: Path, members, found: str) -> None:
    write_tar(tmp_path / "set/x.tar", members)
    with pytest.raises(ShardError, match=rf"x\.tar: .*{found}"):
        build_index(tmp_path / "set")


def test_index_build_joined_tars_are_refused_at_their_byte(tmp_path: Path) -> None:
    for name in "xy":
        write_tar(tmp_path / f"{name}/{name}.tar", [(f"{name}.json", record(name))])
    joined, second = tmp_path / "x/x.tar", tmp_path / "y/y.tar"
    end = joined.stat().st_size
    joined.write_bytes(joined.read_bytes() + second.read_bytes())
    with pytest.raises(ShardError, match=rf"x\.tar: something follows the archive's end, at byte {end};.*of its own"):
        build_index(tmp_path / "x")


def test_index_build_long_padding_is_no_harm(tmp_path: Path) -> None:
    write_tar(tmp_path / "set/x.tar", [("a.json", record("a"))])
    with (tmp_path / "set/x.tar").open("ab") as file:
        file.write(bytes(3 * 2**20))
    assert list(build_index(tmp_path / "set").keys) == ["a"]


def test_index_build_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set/x.tar", "w") as tar:
        link = tarfile.TarInfo("a.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ShardError, match=r"'a\.json' is not a plain file"):
        build_index(tmp_path / "set")


def test_index_build_duplicate_key_over_shards_names_both(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_tar(tmp_path / f"set/{name}.tar", [("a.json", record("a"))])
    with pytest.raises(ShardError, match=r"y\.tar: duplicate key 'a', also in x\.tar"):
        build_index(tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["x.tar", "y.tar"]


def test_index_keys_of_equal_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_table, "number_of", lambda key: 7)
    parts = {name: make_dataset(tmp_path / name, 3, prefix=name) for name in "ab"}
    assert len(Index.concat(parts)) == 6
    with pytest.raises(ShardError, match="duplicate key 'a0' in data sets 'a' and 'c'"):
        Index.concat({**parts, "c": parts["a"]})


def test_index_build_shard_that_differs_from_manifest_is_named(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 3)
    write_tar(tmp_path / "set/shard-000000.tar", [("a.json", record("a"))])
    with pytest.raises(ShardError, match=r"shard-000000\.tar: .*manifest"):
        build_index(tmp_path / "set")


@pytest.mark.parametrize("harm", ["longer", "missing", "extra"])
def test_index_load_shards_that_do_not_fit_are_named(tmp_path: Path, harm: str) -> None:
    make_dataset(tmp_path / "set", 3, max_samples=2)
    shard = tmp_path / "set/shard-000001.tar"
    if harm == "longer":
        shard.write_bytes(shard.read_bytes() + b"\0")
    elif harm == "missing":
        shard.unlink()
    else:
        shard = shard.with_name("shard-000002.tar")
        shard.write_bytes(b"")
    with pytest.raises(ShardError, match=f"does not fit its shards: {shard.name}"):
        Index.load(tmp_path / "set")


@pytest.mark.parametrize("harm", ["none", "garbage", "no directory", "no shards", "url"])
def test_index_load_without_index_says_what_to_do(tmp_path: Path, harm: str) -> None:
    make_dataset(tmp_path / "set", 1)
    path: str | Path = tmp_path / "set"
    if harm == "none":
        (tmp_path / "set/index.parquet").unlink()
    elif harm == "garbage":
        (tmp_path / "set/index.parquet").write_bytes(b"PAR1")
    elif harm == "no directory":
        path = tmp_path / "nowhere"
    elif harm == "no shards":
        (tmp_path / "set/shard-000000.tar").unlink()
    else:
        path = "ftp://host/set"
    found = {"none": "no index", "garbage": "not a readable index", "no directory": "no such directory"}
    with pytest.raises(
        ShardError, match=found.get(harm, {"no shards": r"no \*\.tar", "url": "is refused"}.get(harm, ""))
    ):
        Index.load(path)


def test_index_concat_reads_from_both(tmp_path: Path) -> None:
    first = make_dataset(
        tmp_path / "a", [make_sample(f"a{n}", images=[make_image(n)] * n) for n in range(3)], max_samples=2
    )
    ranked = make_sample("b0", responses=3, pairs=[Pair(0, 1), Pair(2, 1)], images=[make_image(7)])
    second = make_dataset(tmp_path / "b", [ranked, make_sample("b1")])
    both = Index.concat({"first": first, "second": second})
    assert [read_sample(both, row).key for row in range(5)] == ["a0", "a1", "a2", "b0", "b1"] == list(both.keys)
    assert read_sample(both, 3) == ranked
    assert both.dataset.tolist() == [0, 0, 0, 1, 1] and both.dataset_names == ("first", "second")
    assert both.pair_sample.tolist() == [0, 1, 2, 3, 3, 4] and both.pair_start.tolist() == [0, 1, 2, 3, 5, 6]
    assert both.fingerprint not in (first.fingerprint, second.fingerprint)


def test_index_concat_sources_keep_their_names(tmp_path: Path) -> None:
    parts = {}
    for name, sources in (("a", "xyx"), ("b", "zx")):
        samples = [make_sample(f"{name}{n}", images=(), source=source) for n, source in enumerate(sources)]
        parts[name] = make_dataset(tmp_path / name, samples)
    assert list(Index.concat(parts).sources) == ["x", "y", "x", "z", "x"]


def test_index_load_any_byte_changed_is_noticed(tmp_path: Path) -> None:
    """Also in headers of pages, in the footer, in the seal itself, and in what only statistics look at."""
    make_dataset(tmp_path / "set", 2)
    path = tmp_path / "set/index.parquet"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        with pytest.raises(ShardError, match=r"not a readable index|written in format"):
            Index.load(tmp_path / "set")
    path.write_bytes(whole)
    assert len(Index.load(tmp_path / "set")) == 2


def test_index_load_bytes_changed_says_how_to_rebuild(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 300)
    path = tmp_path / "set/index.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ShardError, match=r"its bytes are not those that were written.*datamodules\.reindex shards="):
        Index.load(tmp_path / "set")


def test_index_load_without_a_seal_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 2)
    path = tmp_path / "set/index.parquet"
    metadata = dict(pq.read_metadata(path).metadata)
    del metadata[b"seal"]
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(ShardError, match=r"it has no seal.*reindex"):
        Index.load(tmp_path / "set")


@pytest.mark.parametrize("number", [-1, 1])
def test_index_load_shard_that_is_not_there_is_refused(tmp_path: Path, number: int) -> None:
    """A rightly sealed file that somebody wrote wrongly."""
    make_dataset(tmp_path / "set", 2)
    path = tmp_path / "set/index.parquet"
    table, metadata = index_table.read_index(path, index_table.SCHEMA.names)
    place = index_table.SCHEMA.get_field_index("shard")
    table = table.set_column(place, index_table.SCHEMA.field(place), pa.array([0, number], pa.int32()))
    with index_table.parquet_writer(path) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(index_table.file_metadata(metadata.shards, metadata.fingerprint))
    seal(path)
    with pytest.raises(ShardError, match="column 'shard' holds other numbers than 0 to 0"):
        Index.load(tmp_path / "set")


def test_index_load_another_format_says_how_to_rebuild(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 2)
    path = tmp_path / "set/index.parquet"
    metadata = {**pq.read_metadata(path).metadata, b"format": b"2"}
    del metadata[b"seal"]  # which it did not have
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(ShardError, match=r"format 2, this version reads 3; rebuild it: .*reindex shards=.*set"):
        Index.load(tmp_path / "set")


def test_index_concat_duplicate_key_names_key_and_data_sets(tmp_path: Path) -> None:
    indexes = {name: make_dataset(tmp_path / name, 2) for name in ("first", "second")}
    with pytest.raises(
        ShardError, match=r"'k0' in data sets 'first' and 'second'.*data\.datasets\.second\.options\.name="
    ):
        Index.concat(indexes)
