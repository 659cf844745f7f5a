"""LLaVA-Critic's comparisons, in both published forms."""

import pytest

from datamodules.sources import llava_critic
from mrm.preference import Message
from tests.datamodules.sources.helpers import hf_image, png, write_files, write_json, write_parquet

PROMPT = (
    "<image>\nGiven an image and a corresponding question, please serve as an unbiased and fair judge.\n"
    "Your task is provided as follows:\nQuestion: [What is it?]\nThe first response: [A cat.]\n"
    "The second response: [A dog.]\nASSISTANT:\n"
)


def turns(verdict, prompt=PROMPT):
    return [{"from": "human", "value": prompt}, {"from": "gpt", "value": verdict}]


ROW = {
    "id": "vlfeedback_1",
    "source": "vlfeedback",
    "conversations": turns("It has whiskers. The better response: [first]"),
}


def read_one(folder, **changes):
    write_parquet(folder / "pairwise/train-00000-of-00001.parquet", [{**ROW, "image": hf_image(), **changes}])
    write_parquet(folder / "pointwise/train-00000-of-00001.parquet", [{"id": "other"}])
    (item,) = llava_critic.read(folder)
    return item


@pytest.mark.parametrize(("better", "responses"), [("first", ("A cat.", "A dog.")), ("second", ("A dog.", "A cat."))])
def test_read_comparison_is_a_pair(tmp_path, better, responses):
    sample = read_one(tmp_path, conversations=turns(f"Because. The better response: [{better}]"))
    assert sample.key == "llava_critic-0000000-vlfeedback_1"
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),) and sample.images == (png(),)
    assert sample.responses == responses


def test_read_json_copy_with_an_image_folder(tmp_path):
    write_json(
        tmp_path / "pairwise/train_data.json", [{**ROW, "image": "images/a.jpg"}, {**ROW, "images": ["images/a.jpg"]}]
    )
    write_files(tmp_path / "pairwise", {"images/a.jpg": png("blue")})
    for sample in llava_critic.read(tmp_path):
        assert sample.images == (png("blue"),) and sample.responses == ("A cat.", "A dog.")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conversations": turns("Both responses are equally good.")}, "tie"),
        ({"conversations": turns("Hm.")}, "no verdict"),
        ({"conversations": turns("The better response: [1]", "Which is it?")}, "unparsed prompt"),
        ({"conversations": turns("The better response: [1]", PROMPT.replace("dog", "cat"))}, "equal responses"),
        ({"conversations": turns("x")[:1]}, "turn order"),
        ({"image": None}, "malformed field"),
    ],
)
def test_read_what_is_no_pair_is_skipped_by_name(tmp_path, changes, reason):
    assert read_one(tmp_path, **changes).reason == reason
