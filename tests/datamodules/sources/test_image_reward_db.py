"""ImageRewardDB: ranks within a prompt, from folders and from their zips."""

import json

import pytest

from datamodules.sources import image_reward_db
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError
from tests.datamodules.sources.helpers import png, write_files, write_zip


def entry(name, rank, prompt_id="p-1", **rest):
    return {
        "image_path": f"images/train/train_1/{name}.webp",
        "prompt_id": prompt_id,
        "prompt": f"prompt of {prompt_id}",
        "classification": "Abstract",
        "image_amount_in_total": 3,
        "rank": rank,
        "overall_rating": 6,
        "image_text_alignment_rating": 5,
        "fidelity_rating": 5,
        **rest,
    }


ENTRIES = [entry("a", 2), entry("x", 1, "p-2"), entry("b", 1), entry("c", 2), entry("y", 2, "p-2")]
IMAGES = {f"{name}.webp": png(f"rgb({i},0,0)") for i, name in enumerate("abcxy")}


def make(folder, entries, packed=False):
    files = {**IMAGES, "train_1.json": json.dumps(entries).encode()}
    if packed:
        write_zip(folder / "images/train/train_1.zip", files)
    else:
        write_files(folder / "images/train/train_1", files)
    write_files(folder / "images/test/test_1", {"test_1.json": b"[]"})
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_read_every_two_of_a_prompt_by_rank(tmp_path, packed):
    items = list(image_reward_db.read(make(tmp_path, ENTRIES, packed)))
    ba, tie, bc, xy = items
    assert (ba.preferred, ba.other, ba.strength) == (IMAGES["b.webp"], IMAGES["a.webp"], 0.5)  # (2 - 1) / (3 - 1)
    assert (bc.preferred, bc.other, bc.caption) == (IMAGES["b.webp"], IMAGES["c.webp"], "prompt of p-1")
    assert (tie.key, tie.reason) == ("image_reward_db-train_1-p-1-0-2", "tie")
    assert (xy.preferred, xy.strength, xy.key) == (IMAGES["x.webp"], 1.0, "image_reward_db-train_1-p-2-0-1")
    assert ba.meta["preferred_meta"]["overall_rating"] == 6


@pytest.mark.parametrize("path", ["a.webp", "./a.webp", "train_1/a.webp", "images/train/train_1/a.webp"])
def test_read_path_from_any_folder_up(tmp_path, path):
    (item,) = image_reward_db.read(make(tmp_path, [entry("", 1, image_path=path), entry("b", 2)]))
    assert item.preferred == IMAGES["a.webp"]


@pytest.mark.parametrize(
    ("entries", "reasons"),
    [
        ([entry("a", 1)], ["only one image"]),
        ([entry("a", 0), entry("b", 1), entry("c", 2)], ["malformed field", None]),
        ([entry("a", "first")], ["malformed field"]),
        ([entry("a", 1), entry("none", 2)], ["image missing"]),
        ([entry("a", 1), entry("b", 2, image_path="../b.webp")], ["unsafe path"]),
        ([3], ["not a record"]),
    ],
)
def test_read_bad_entry_is_skipped_and_the_others_are_read(tmp_path, entries, reasons):
    items = image_reward_db.read(make(tmp_path, entries))
    assert [item.reason if isinstance(item, Skipped) else None for item in items] == reasons


def test_read_folder_without_lists_says_where_they_belong(tmp_path):
    with pytest.raises(ConfigError, match="images/validation/validation_1/"):
        image_reward_db.read(make(tmp_path, ENTRIES), split="validation")
