"""EvalMuse: mean scores within a prompt, images from the published parts of a zip."""

import pytest

from datamodules.sources import evalmuse
from datamodules.sources.base import Skipped
from tests.datamodules.sources.helpers import png, write_json, write_zip


def entry(name, scores, prompt="a red cube", **rest):
    return {
        "prompt_id": "p1",
        "prompt": prompt,
        "type": "real",
        "img_path": f"SDXL-Turbo/{name}.png",
        "total_score": scores,
        "element_score": {"cube (object)": [1, 1, 0]},
        "promt_meaningless": [0, 0, 0],
        "split_confidence": [1, 1, 1],
        "attribute_confidence": [1, 1, 1],
        **rest,
    }


def make(folder, entries, inside="images/"):
    members = {f"{inside}SDXL-Turbo/{name}.png": png(f"rgb({i},0,0)") for i, name in enumerate("abc")}
    data = write_zip(folder / "x.zip", members).read_bytes()
    (folder / "x.zip").unlink()
    half = len(data) // 2
    (folder / "images.zip.part-aa").write_bytes(data[:half])
    (folder / "images.zip.part-ab").write_bytes(data[half:])
    write_json(folder / "train_list.json", entries)
    return folder


@pytest.mark.parametrize("inside", ["images/", ""])
def test_read_every_two_of_a_prompt_by_mean_score(tmp_path, inside):
    entries = [entry("a", [1, 2, 3]), entry("c", [5], "other"), entry("b", [4, 4, 4]), entry("c", [2, 2])]
    by_key = {item.key: item for item in evalmuse.read(make(tmp_path, entries, inside))}
    ba, tie, bc = (by_key[f"evalmuse-000000-{pair}"] for pair in ("0-1", "0-2", "1-2"))
    assert (ba.preferred, ba.other, ba.strength) == (png("rgb(1,0,0)"), png("rgb(0,0,0)"), 0.5)  # (4 - 2) / 4
    assert (bc.preferred, bc.strength, bc.caption) == (png("rgb(1,0,0)"), 0.5, "a red cube")
    assert tie.reason == "tie" and by_key["evalmuse-000001"].reason == "only one image"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"promt_meaningless": [1, 1, 0]}, "meaningless prompt"),
        ({"total_score": []}, "malformed field"),
        ({"total_score": [0, 3]}, "malformed field"),
        ({"total_score": 3}, "malformed field"),
        ({"img_path": None}, "malformed field"),
        ({"img_path": "SDXL-Turbo/none.png"}, "image missing"),
    ],
)
def test_read_bad_entry_is_skipped_with_its_reason(tmp_path, changes, reason):
    entries = [{**entry("a", [1]), **changes}, entry("b", [5]), entry("c", [4])]
    items = list(evalmuse.read(make(tmp_path, entries)))
    assert reason in [item.reason for item in items if isinstance(item, Skipped)]
    assert sum(not isinstance(item, Skipped) for item in items) == 1
