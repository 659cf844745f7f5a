"""MM-RLHF's pairs: an image or the frames of a video."""

import pytest

from datamodules.sources import mm_rlhf
from mrm.errors import ConfigError
from mrm.preference import Message
from tests.datamodules.sources.helpers import png, write_files, write_jsonl, write_zip

IMAGE = {"image": "mcq/073712.png", "prompt": "What?", "chosen": "A cat.", "rejected": "A dog.", "chosen_reason": "So."}
VIDEO = {"video": "videos/v1", "prompt": "What happens?", "chosen": "It runs.", "rejected": "It sits."}
FRAMES = {f"videos/v1/{i:03d}.png": png(f"rgb({i},0,0)") for i in range(9)}


def read_one(folder, record, **options):
    write_files(folder, {"mcq/073712.png": png()})
    write_zip(folder / "videos.zip", FRAMES)
    write_jsonl(folder / "dpo_pairs.jsonl", [record])
    (item,) = mm_rlhf.read(folder, **options)
    return item


def test_read_image_pair(tmp_path):
    sample = read_one(tmp_path, IMAGE)
    assert (sample.key, sample.images) == ("mm_rlhf-0000000", (png(),))
    assert sample.prompt == (Message("user", "<image>\nWhat?"),)
    assert sample.responses == ("A cat.", "A dog.") and sample.pairs[0].strength is None
    assert sample.meta["chosen_reason"] == "So."


def test_read_video_shows_frames_at_equal_distances(tmp_path):
    sample = read_one(tmp_path, VIDEO, frames=3)
    assert sample.images == tuple(png(f"rgb({i},0,0)") for i in (0, 4, 8))
    assert sample.prompt == (Message("user", "<image>\n<image>\n<image>\nWhat happens?"),)


@pytest.mark.parametrize(("n", "count", "expected"), [(9, 5, "02468"), (3, 8, "012"), (5, 1, "2"), (10, 2, "09")])
def test_spread_has_the_first_and_the_last(n, count, expected):
    assert "".join(mm_rlhf.spread([str(i) for i in range(n)], count)) == expected


@pytest.mark.parametrize(
    ("record", "options", "reason"),
    [
        (VIDEO, {"frames": 0}, "video"),
        ({**VIDEO, "video": "videos/v2"}, {}, "image missing"),
        ({**IMAGE, "video": "videos/v1"}, {}, "malformed field"),
        ({**IMAGE, "image": None}, {}, "malformed field"),
        ({**IMAGE, "image": "../a.png"}, {}, "unsafe path"),
        ({**IMAGE, "chosen": 3}, {}, "malformed field"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, record, options, reason):
    assert read_one(tmp_path, record, **options).reason == reason


@pytest.mark.parametrize(
    ("first", "told"),
    [({"id": 1, "ranks": [1, 2]}, "fields: id, ranks"), ("[", "fields: none"), ("7", "fields: no record")],
)
def test_read_tells_what_the_file_of_ranks_holds_and_goes_on(tmp_path, caplog, first, told):
    write_jsonl(tmp_path / "data.jsonl", [first])
    assert read_one(tmp_path, IMAGE).pairs[0].strength is None
    assert "data.jsonl is not read, strength is unknown" in caplog.text and told in caplog.text


def test_read_frames_below_zero_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="frames"):
        mm_rlhf.read(tmp_path, frames=-1)
