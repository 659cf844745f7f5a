import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset

from datamodules.index import Index
from datamodules.shards import ShardWriter, read_record, read_sample, sniff_extension, verify_shards
from mrm.errors import RecordError, ShardError
from mrm.preference import Pair
from tests.datamodules.making import make_dataset, make_image, make_sample


@pytest.mark.parametrize(
    ("kind", "extension"),
    [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tiff")],
)
def test_sniff_extension_known_format_is_named(kind: str, extension: str) -> None:
    assert sniff_extension(make_image(kind=kind)) == extension


def test_sniff_extension_unknown_bytes_is_none() -> None:
    assert sniff_extension(b"<svg/>") is None


def test_read_sample_returns_what_was_written(tmp_path: Path) -> None:
    samples = [
        make_sample("text-only", images=()),
        make_sample("long-" + "x" * 190, images=[make_image(1), make_image(2, "JPEG")]),
        make_sample(
            "ranked", responses=4, pairs=[Pair(3, 0, 1.0), Pair(1, 2, None)], meta={"truth": {"errors": [1, 0, 2, 0]}}
        ),
        make_sample("many", images=[make_image(n) for n in range(12)]),
    ]
    index = make_dataset(tmp_path / "set", samples, max_samples=2)
    assert [path.name for path in index.shard_files] == ["shard-000000.tar", "shard-000001.tar"]
    assert [read_sample(index, row) for row in range(4)] == samples


def test_shard_writer_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_dataset(tmp_path / name, [make_sample(f"k{n}", images=[make_image(n)]) for n in range(5)])
    assert (tmp_path / "a/shard-000000.tar").read_bytes() == (tmp_path / "b/shard-000000.tar").read_bytes()
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_shard_writer_max_bytes_starts_a_new_shard(tmp_path: Path) -> None:
    assert len(make_dataset(tmp_path / "set", 5, max_bytes=1).shard_files) == 5


def test_shard_writer_duplicate_key_is_refused_and_the_rest_kept(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "set") as writer:
        writer.write(make_sample("a"))
        with pytest.raises(RecordError, match="'a'") as caught:
            writer.write(make_sample("a"))
    assert caught.value.reason == "duplicate key"
    assert list(Index.load(tmp_path / "set").keys) == ["a"]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (make_sample("b", images=[make_image(), b"not an image"]), "unknown image format"),
        (make_sample("b", meta={"score": float("nan")}), "meta not json"),
        (make_sample("b", meta={"score": {1, 2}}), "meta not json"),
    ],
)
def test_shard_writer_bad_sample_leaves_no_trace(tmp_path: Path, sample, reason: str) -> None:
    with ShardWriter(tmp_path / "set") as writer:
        writer.write(make_sample("a"))
        with pytest.raises(RecordError) as caught:
            writer.write(sample)
    assert caught.value.reason == reason
    with tarfile.open(tmp_path / "set/shard-000000.tar") as tar:
        assert tar.getnames() == ["a.json", "a.0.png"]


def test_shard_writer_failed_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"), ShardWriter(tmp_path / "set") as writer:
        writer.write(make_sample("a"))
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


def test_shard_writer_no_sample_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no sample was written"), ShardWriter(tmp_path / "set"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_shard_writer_directory_with_shards_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 1)
    with pytest.raises(ShardError, match="already exists"):
        ShardWriter(tmp_path / "set")


def test_shard_writer_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="remote shards can only be read"):
        ShardWriter("s3://bucket/set")


def test_verify_shards_altered_byte_is_found_by_digest_only(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 3)
    shard = tmp_path / "set/shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    verify_shards(tmp_path / "set")
    with pytest.raises(ShardError, match="shard-000000.tar.*sha256"):
        verify_shards(tmp_path / "set", digests=True)


@pytest.mark.parametrize("harm", ["cut", "missing", "extra", "no manifest", "bad manifest", "no bytes"])
def test_verify_shards_harm_is_named(tmp_path: Path, harm: str) -> None:
    make_dataset(tmp_path / "set", 3, max_samples=2)
    shard, manifest = tmp_path / "set/shard-000001.tar", tmp_path / "set/manifest.json"
    verify_shards(tmp_path / "set", digests=True)
    if harm == "cut":
        os.truncate(shard, 700)
    elif harm == "missing":
        shard.unlink()
    elif harm == "extra":
        (tmp_path / "set/more.tar").write_bytes(shard.read_bytes())
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "bad manifest":
        manifest.write_text("{}")
    else:
        manifest.write_text(manifest.read_text().replace('"bytes"', '"size"'))
    named = {
        "cut": "shard-000001.tar: 700 bytes",
        "missing": "shard-000001.tar: listed",
        "extra": "more.tar: not listed",
        "no bytes": "not a manifest",
    }
    with pytest.raises(ShardError, match=named.get(harm, "manifest")):
        verify_shards(tmp_path / "set")


def test_read_sample_shard_altered_after_indexing_is_named(tmp_path: Path) -> None:
    index = make_dataset(tmp_path / "set", 3)
    assert read_sample(index, 1).key == "k1"
    with tarfile.open(tmp_path / "set/shard-000000.tar", "w") as tar:
        for key in ("k1", "k0", "k2"):
            data = json.dumps(make_sample(key, images=(), source="k").to_json()).encode()
            info = tarfile.TarInfo(f"{key}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ShardError, match="shard-000000.tar: found sample 'k0' where the index says 'k1'"):
        read_sample(index, 1)
    os.truncate(tmp_path / "set/shard-000000.tar", 600)
    with pytest.raises(ShardError, match="sample 'k1' cannot be read"):
        read_sample(index, 1)


def test_read_sample_tar_of_equal_size_and_key_with_other_responses_is_named(tmp_path: Path) -> None:
    sample = make_sample("k", images=())
    make_dataset(tmp_path / "set", [sample])
    swapped = make_dataset(tmp_path / "other", [replace(sample, responses=sample.responses[::-1])])
    (tmp_path / "set/shard-000000.tar").write_bytes(swapped.shard_files[0].read_bytes())
    index = Index.load(tmp_path / "set")
    for read in (read_record, read_sample):
        with pytest.raises(ShardError, match="shard-000000.tar: the record of sample 'k' has other bytes than were"):
            read(index, 0)


def test_read_sample_altered_image_is_named_also_in_joined_indexes(tmp_path: Path) -> None:
    first = make_dataset(tmp_path / "a", [make_sample("a", images=[make_image(n) for n in range(3)])])
    second = make_dataset(tmp_path / "b", [make_sample("b", images=[make_image(3), make_image(4)])])
    index = Index.concat({"a": first, "b": second})
    data = bytearray(second.shard_files[0].read_bytes())
    data[second.image_offset[1] + 40] ^= 1
    second.shard_files[0].write_bytes(data)
    assert len(read_sample(index, 0).images) == 3
    with pytest.raises(ShardError, match="image 1 of sample 'b' has other bytes than were indexed"):
        read_sample(index, 1)


def test_plain_webdataset_reads_the_shards(tmp_path: Path) -> None:
    samples = [make_sample(f"k{n}", images=[make_image(n), make_image(n + 9, "JPEG")]) for n in range(3)]
    make_dataset(tmp_path / "set", samples)
    handlers = [webdataset.handle_extension("json", json.loads), webdataset.imagehandler("pil")]  # no pickles
    reader = webdataset.WebDataset(str(tmp_path / "set/shard-000000.tar"), shardshuffle=False).decode(*handlers)
    found = list(reader)
    assert [item["__key__"] for item in found] == ["k0", "k1", "k2"]
    for item, sample in zip(found, samples, strict=True):
        assert item["json"] == sample.to_json()
        assert item["0.png"].size == item["1.jpg"].size == (8, 6)
