"""Damage and malice in shards: named and counted, and the rest still used."""

import io
import json
import logging
import os
import pickle
import re
import tarfile
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import index_build as building
from datamodules.index import INDEX_NAME, Index
from datamodules.index_build import build_index
from datamodules.reading import read_sample
from datamodules.salvage import SalvageConfig, run, salvage
from datamodules.tarscan import scan_shard
from datamodules.tarwalk import Fault
from mrm.errors import ShardError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import make_dataset, make_image, make_sample
from tests.fuzz_shards import FuzzConfig, fuzz


def write_tar(path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def record(key: str, images: int = 0) -> bytes:
    return json.dumps(make_sample(key, images=[make_image()] * images).to_json()).encode()


def typed(kind: bytes, name: str = "a.json", target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Bomb:
    """A pickle that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("faults", [None, []])
@pytest.mark.parametrize(
    "extension", ["pkl", "pickle", "pyd", "pth", "pt", "npy", "py", "sh", "svg", "txt", "json.gz", "tar"]
)
def test_scan_shard_other_members_are_refused_by_name_and_never_run(tmp_path: Path, extension: str, faults) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "run"))
    path = write_tar(tmp_path / "x.tar", [("a.json", record("a")), (f"b.{extension}", bomb)])
    with pytest.raises(ShardError, match=rf"x\.tar: member 'b\.{extension}' is refused"):
        list(scan_shard(path, faults))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd.json",
        "../a.json",
        "b/../../a.json",
        "..\\a.json",
        "C:a.json",
        "pipe:ls.json",
        "a|ls.json",
        "$(ls).json",
    ]
    + ["`ls`.json", "a;ls.json", "a\nb.json"],
)
def test_scan_shard_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.json", record("a")), (name, record("b"))])
    with pytest.raises(ShardError, match=r"x\.tar: member .* is refused: its name leads out"):
        list(scan_shard(path, []))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_scan_shard_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.json", record("a")), typed(kind, "b.json")])
    with pytest.raises(ShardError, match=r"x\.tar: member 'b\.json' is not a plain file"):
        list(scan_shard(path, []))


@pytest.mark.parametrize("url", ["pipe:cat /etc/passwd", "pipe:touch x"])
def test_index_pipe_url_is_refused(url: str) -> None:
    for read in (Index.load, build_index, salvage):
        with pytest.raises(ShardError, match="pipe:"):
            read(url)


def test_scan_shard_negative_size_ends_in_an_error_not_in_a_loop(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.json", record("a"))])
    data = bytearray(path.read_bytes())
    data[124:136] = b"\xff" * 12  # base-256: -1
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(ShardError, match=r"x\.tar: the header at byte 0 announces -1 bytes"):
        list(scan_shard(path))


def test_scan_shard_broken_header_costs_one_sample(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{key}.json", record(key)) for key in "abc"])
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 1  # each sample takes a header and a block
    path.write_bytes(data)
    faults: list[Fault] = []
    assert [scanned.sample.key for scanned in scan_shard(path, faults)] == ["a", "c"]
    assert [(fault.what, fault.reason) for fault in faults] == [("byte 1024", "broken header")]


@pytest.mark.parametrize("left", [0, 1024])
def test_scan_shard_zeros_in_place_of_members_are_no_end(tmp_path: Path, left: int) -> None:
    key = "long-" + "x" * 150  # so that a header announces the member's name
    index = make_dataset(tmp_path / "set", [make_sample(key)])
    path = index.shard_files[0]
    path.write_bytes(path.read_bytes()[:left] + bytes(4096))
    faults: list[Fault] = []
    assert not list(scan_shard(path, faults))
    assert [fault.reason for fault in faults] == ["no member"]


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100_000, b"[]", b'{"key": "b"}'])
def test_scan_shard_broken_record_costs_one_sample(tmp_path: Path, text: bytes) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.json", record("a")), ("b.json", text), ("c.json", record("c"))])
    faults: list[Fault] = []
    assert [scanned.sample.key for scanned in scan_shard(path, faults)] == ["a", "c"]
    assert [(fault.what, fault.reason) for fault in faults] == [("b", "damaged sample")]


def test_index_load_cut_shard_is_named_and_the_rest_is_read(tmp_path: Path, caplog) -> None:
    index = make_dataset(tmp_path / "set", 4, max_samples=2)
    os.truncate(index.shard_files[1], 1100)
    with caplog.at_level(logging.WARNING):
        index = Index.load(tmp_path / "set")
    assert "shard-000001.tar is cut off: 1100 bytes" in caplog.text
    assert [read_sample(index, row).key for row in range(3)] == ["k0", "k1", "k2"]
    with pytest.raises(ShardError, match=r"shard-000001\.tar: sample 'k3' cannot be read"):
        read_sample(index, 3)


def test_index_load_flipped_bytes_are_named(tmp_path: Path) -> None:
    """Also in columns that no digest covers: a strength, say."""
    make_dataset(tmp_path / "set", [make_sample("a", pairs=[Pair(0, 1, 0.123)])])
    path = tmp_path / "set" / INDEX_NAME
    whole = path.read_bytes()
    refused = 0
    for match in re.finditer(
        re.escape(np.float32(0.123).tobytes()), whole
    ):  # statistics, which nobody reads, hold it too
        at = match.start()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert Index.load(tmp_path / "set").pair_strength.tolist() == [np.float32(0.123)]
        except ShardError as error:
            assert "index.parquet: not a readable index" in str(error)
            refused += 1
    assert refused


def test_salvage_keeps_what_is_whole_and_names_the_rest(tmp_path: Path, capsys) -> None:
    samples = [make_sample(f"k{n}", images=[make_image(n)]) for n in range(6)]
    index = make_dataset(tmp_path / "set", samples, max_samples=2)
    first, second, third = index.shard_files
    data = bytearray(first.read_bytes())
    data[index.image_offset[1] + 20] ^= 1
    first.write_bytes(data)  # k1: an image altered
    os.truncate(second, int(index.json_offset[3]) + 4)  # k3: cut off
    run(SalvageConfig(str(tmp_path / "set")))
    assert "4 samples kept (held against index.parquet.before-salvage)" in capsys.readouterr().out
    after = Index.load(tmp_path / "set")
    assert [read_sample(after, row) for row in range(4)] == [samples[n] for n in (0, 2, 4, 5)]
    lines = [json.loads(line) for line in (tmp_path / "set/faults.jsonl").read_text().splitlines()]
    assert {(line["what"], line["reason"]) for line in lines} >= {("k1", "altered sample"), ("k3", "missing sample")}


def test_salvage_refused_shard_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set/x.tar", [("a.json", record("a")), typed(tarfile.SYMTYPE, "b.json")])
    write_tar(tmp_path / "set/y.tar", [("c.json", record("c")), ("d.json", b"{")])
    write_tar(tmp_path / "set/z.tar", [("c.json", record("c"))])
    found = salvage(tmp_path / "set")
    assert found.kept == ["c"] and not found.indexed
    assert found.reasons == {"refused shard": 1, "damaged sample": 1, "duplicate key": 1}


def test_salvage_nothing_left_keeps_the_old_index(tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", 1)
    os.truncate(index.shard_files[0], 100)
    before = (tmp_path / "set" / INDEX_NAME).read_bytes()
    with pytest.raises(ShardError, match="no sample"):
        salvage(tmp_path / "set")
    assert (tmp_path / "set" / INDEX_NAME).read_bytes() == before


def faults_of(directory: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (directory / "faults.jsonl").read_text().splitlines()]
    return {line["what"]: line["reason"] for line in lines}


def test_salvage_again_takes_back_what_was_mended(tmp_path: Path) -> None:
    samples = [make_sample(f"k{n}", images=[make_image(n)]) for n in range(6)]
    index = make_dataset(tmp_path / "set", samples, max_samples=2)
    whole = [path.read_bytes() for path in index.shard_files]
    for path in index.shard_files[:2]:
        path.write_bytes(b"x" + path.read_bytes()[1:])  # the first header of each
    assert len(salvage(tmp_path / "set").kept) == 4
    index.shard_files[0].write_bytes(whole[0])
    assert salvage(tmp_path / "set").kept == ["k0", "k1", "k3", "k4", "k5"]
    assert faults_of(tmp_path / "set") == {"byte 0": "broken header", "k2": "damaged sample"}
    index.shard_files[1].write_bytes(whole[1])
    assert salvage(tmp_path / "set").kept == [f"k{n}" for n in range(6)]
    assert faults_of(tmp_path / "set") == {}


def test_salvage_again_without_an_old_index_takes_back_what_was_mended(tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", 2)
    whole = index.shard_files[0].read_bytes()
    (tmp_path / "set" / INDEX_NAME).unlink()
    index.shard_files[0].write_bytes(b"x" + whole[1:])
    assert salvage(tmp_path / "set").kept == ["k1"]
    index.shard_files[0].write_bytes(whole)
    again = salvage(tmp_path / "set")
    assert again.kept == ["k0", "k1"] and not again.indexed


def test_salvage_after_shards_were_added_and_indexed_keeps_them(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 2)
    salvage(tmp_path / "set")
    write_tar(tmp_path / "set/more.tar", [("b.json", record("b"))])
    build_index(tmp_path / "set", faults=[])
    assert salvage(tmp_path / "set").kept == ["b", "k0", "k1"]


def test_salvage_again_still_names_what_nobody_else_knows(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set/x.tar", [("a.json", record("a")), ("b.json", b"{")])
    write_tar(tmp_path / "set/y.tar", [("c.json", record("c"))])
    salvage(tmp_path / "set")
    (tmp_path / "set/x.tar").unlink()
    salvage(tmp_path / "set")
    assert faults_of(tmp_path / "set") == {"b": "damaged sample"}


def test_salvage_nothing_left_still_names_the_faults(tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", 1)
    index.shard_files[0].write_bytes(b"x" + index.shard_files[0].read_bytes()[1:])
    with pytest.raises(ShardError, match="no sample"):
        salvage(tmp_path / "set")
    assert faults_of(tmp_path / "set")["byte 0"] == "broken header"


def test_salvage_holds_few_samples_of_a_tar_at_a_time(tmp_path: Path, monkeypatch) -> None:
    make_dataset(tmp_path / "set", 30)
    held: weakref.WeakSet[object] = weakref.WeakSet()
    most = []

    class Watched:
        def __init__(self, scanned) -> None:
            vars(self).update(vars(scanned))

    def watched(path, faults=None):
        for scanned in scan_shard(path, faults):
            one = Watched(scanned)
            held.add(one)
            most.append(len(held))
            yield one

    monkeypatch.setattr(building, "scan_shard", watched)
    assert len(salvage(tmp_path / "set").kept) == 30
    assert max(most) <= 3


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: text.strip() and "<image>" not in text
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def records(draw) -> PreferenceSample:
    images = tuple(
        make_image(n, draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])))
        for n in range(draw(st.integers(0, 2)))
    )
    responses = draw(st.lists(texts, min_size=2, max_size=4, unique=True))
    pairs = [(i, j) for i in range(len(responses)) for j in range(i)]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    strength = st.none() | st.floats(0, 1)
    return PreferenceSample(
        key=draw(st.from_regex(r"[A-Za-z0-9_-]{1,120}", fullmatch=True)),
        source=draw(texts),
        prompt=(Message("user", "<image>" * len(images) + draw(texts)),),
        images=images,
        responses=tuple(responses),
        pairs=tuple(Pair(i, j, draw(strength)) for i, j in chosen),
        meta=draw(st.dictionaries(texts, json_values, max_size=3)),
    )


@settings(max_examples=30, deadline=None)
@given(
    samples=st.lists(records(), min_size=1, max_size=4, unique_by=lambda sample: sample.key), shard=st.integers(1, 3)
)
def test_any_records_are_read_as_they_were_written(tmp_path_factory, samples, shard) -> None:
    index = make_dataset(tmp_path_factory.mktemp("any") / "set", samples, max_samples=shard)
    for _ in range(2):  # checked, and trusted
        assert [read_sample(index, row) for row in range(len(samples))] == samples


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=3000) | st.lists(st.binary(min_size=512, max_size=512), max_size=6).map(b"".join))
def test_any_bytes_as_a_tar_are_refused_or_named(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("any") / "x.tar"
    path.write_bytes(data)
    faults: list[Fault] = []
    try:
        found = list(scan_shard(path, faults))
    except ShardError as error:
        assert "x.tar" in str(error)
        return
    assert not found and (faults or not any(data))


def test_damaged_shards_lose_nothing_in_silence() -> None:
    outcomes = fuzz(FuzzConfig(count=150, seed=7))
    assert all(sum(counter.values()) == 150 for counter in outcomes.values())
    assert outcomes["read"]["some unreadable"] and outcomes["salvage"]["some named"]
