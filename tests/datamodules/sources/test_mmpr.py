"""MMPR: meta.json, annotations and images, packed as published or unpacked."""

import json
from operator import length_hint

import pytest

from datamodules.sources import mmpr
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError, RecordError
from mrm.preference import Message
from tests.datamodules.sources.helpers import png, write_files, write_json, write_zip

META = {
    "openbmb/RLAIF-V-Dataset": {
        "root": "MMPR/images/RLAIF-V",
        "annotation": "/mnt/somewhere/MMPR/annotations/openbmb_RLAIF-V-Dataset.jsonl",
        "data_augment": False,
        "repeat_time": 1,
        "length": 1,
    },
    "mixed": {"root": "MMPR/images/mixed", "annotation": "annotations/mixed.jsonl", "length": 3},
}
PAIR = {"chosen": "Yes.", "rejected": "No."}
LINES = {
    "openbmb_RLAIF-V-Dataset.jsonl": [{"image": "a.jpg", "question": "<image>\nIs it?", **PAIR}],
    "mixed.jsonl": [
        {"image": ["b/1.jpg", "b/2.jpg"], "question": "Same?", **PAIR},
        {"question": "Is 1 less than 2?", **PAIR},
        {"image": "../a.jpg", "question": "Q", **PAIR},
    ],
}
IMAGES = {
    "images/RLAIF-V/a.jpg": png("red"),
    "images/mixed/b/1.jpg": png("green"),
    "images/mixed/b/2.jpg": png("blue"),
}


def annotations():
    return {f"annotations/{name}": "\n".join(map(json.dumps, lines)).encode() for name, lines in LINES.items()}


def split(folder):
    data = (folder / "images.zip").read_bytes()
    (folder / "images.zip").unlink()
    for i, part in enumerate(("aa", "ab", "ac")):
        third = len(data) // 3 + 1
        (folder / f"images.zip_{part}").write_bytes(data[i * third : (i + 1) * third])


def make(folder, form, meta=META):
    write_json(folder / "meta.json", meta)
    if form == "unpacked":
        write_files(folder, {**annotations(), **IMAGES})
        return folder
    write_zip(folder / "annotations.zip", annotations())
    write_zip(
        folder / "images.zip", {f"MMPR/{name}": data for name, data in IMAGES.items()} if form == "top" else IMAGES
    )
    if form == "parts":
        split(folder)
    return folder


@pytest.mark.parametrize("form", ["unpacked", "zips", "parts", "top"])
def test_read_every_layout_gives_the_same(tmp_path, form):
    items = mmpr.read(make(tmp_path, form))
    assert length_hint(items) == 4
    one, two, none, bad = items
    assert one.prompt == (Message("user", "<image>\nIs it?"),) and one.images == (png("red"),)
    assert two.prompt == (Message("user", "<image>\n<image>\nSame?"),) and two.images == (png("green"), png("blue"))
    assert none.prompt == (Message("user", "Is 1 less than 2?"),) and none.images == ()
    assert one.responses == ("Yes.", "No.") and one.meta["part"] == "openbmb/RLAIF-V-Dataset"
    assert (two.key, bad.key, bad.reason) == ("mmpr-mixed-0000000", "mmpr-mixed-0000002", "unsafe path")


def test_read_part_reads_only_that(tmp_path):
    (item,) = mmpr.read(make(tmp_path, "zips"), subset="openbmb/RLAIF-V-Dataset")
    assert item.images == (png("red"),)
    with pytest.raises(ConfigError, match="meta.json names no 'other'; it names mixed"):
        mmpr.read(tmp_path, subset="other")


def test_read_part_without_annotations_is_counted(tmp_path):
    meta = {"gone": {"root": "MMPR/images/gone", "annotation": "gone.jsonl", "length": 5}, **META}
    gone, *rest = mmpr.read(make(tmp_path, "zips", meta))
    assert (gone.key, gone.reason, len(rest)) == ("gone", "annotations missing", 4)


def test_read_damaged_annotations_count_each_line_and_the_next_part_is_read(tmp_path):
    make(tmp_path, "zips", dict(reversed(META.items())))
    file = tmp_path / "annotations.zip"
    data = bytearray(file.read_bytes())
    data[data.index(b"Same?")] ^= 1
    file.write_bytes(data)
    items = list(mmpr.read(tmp_path))
    assert sum(isinstance(i, Skipped) and i.reason == "damaged file" for i in items) == 3
    assert items[-1].images == (png("red"),)


@pytest.mark.parametrize("meta", [[], {"a": []}, {"a": {"root": "x"}}, {"a": {"root": 1, "annotation": "x"}}])
def test_read_other_meta_names_the_part(tmp_path, meta):
    with pytest.raises(ConfigError, match="must be an object with `root` and `annotation`"):
        mmpr.read(make(tmp_path, "zips", meta))


def test_read_missing_files_say_which(tmp_path):
    with pytest.raises(ConfigError, match="meta.json"):
        mmpr.read(tmp_path)
    write_json(tmp_path / "meta.json", META)
    with pytest.raises(ConfigError, match="annotations.zip"):
        mmpr.read(tmp_path)


@pytest.mark.parametrize(
    ("root", "below"),
    [
        ("MMPR-v1.2/images/a/b", "a/b/"),
        ("/x/images/MMPR/images/a/images/", "a/images/"),
        ("MMPR/images", ""),
        ("a", "a/"),
    ],
)
def test_below_images_is_what_follows_the_dataset(root, below):
    assert mmpr.below_images(root) == below


@pytest.mark.parametrize("zipped", [True, False])
def test_read_annotations_of_one_name_in_two_folders_are_both_read(tmp_path, zipped):
    meta = {
        name: {"root": "MMPR/images/RLAIF-V", "annotation": f"/mnt/MMPR/annotations/{name}/x.jsonl"} for name in "ab"
    }
    lines = {
        f"annotations/{name}/x.jsonl": json.dumps({"image": "a.jpg", "question": name, **PAIR}).encode()
        for name in "ab"
    }
    make(tmp_path, "zips", meta)
    (tmp_path / "annotations.zip").unlink()
    if zipped:
        write_zip(tmp_path / "annotations.zip", lines)
    else:
        write_files(tmp_path, lines)
    samples = list(mmpr.read(tmp_path))
    assert [sample.prompt[0].content for sample in samples] == ["<image>\na", "<image>\nb"]
    assert [sample.key for sample in samples] == ["mmpr-a-0000000", "mmpr-b-0000000"]


def test_read_annotations_packed_on_a_mac_are_read(tmp_path):
    make(tmp_path, "zips")
    junk = {f"__MACOSX/{name.replace('/', '/._')}": b"\0\5" for name in annotations()}
    write_zip(tmp_path / "annotations.zip", {**annotations(), **junk})
    assert sum(not isinstance(item, Skipped) for item in mmpr.read(tmp_path)) == 3


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ("/x/annotations/a/x.jsonl", "annotations/a/x.jsonl"),
        ("C:\\b\\x.jsonl", "annotations/b/x.jsonl"),
        ("elsewhere/x.jsonl", "annotations/x.jsonl"),
    ],
)
def test_annotation_of_is_the_one_whose_folders_agree_furthest(published, expected):
    paths = ["annotations/b/x.jsonl", "annotations/x.jsonl", "annotations/a/x.jsonl", "annotations/a/y.jsonl"]
    assert mmpr.annotation_of(published, paths) == expected


@pytest.mark.parametrize(
    ("published", "reason"),
    [("c/x.jsonl", "annotations ambiguous"), ("a/z.jsonl", "annotations missing"), ("", "annotations missing")],
)
def test_annotation_of_is_never_guessed(published, reason):
    with pytest.raises(RecordError) as error:
        mmpr.annotation_of(published, ["annotations/a/x.jsonl", "annotations/b/x.jsonl"])
    assert error.value.reason == reason
