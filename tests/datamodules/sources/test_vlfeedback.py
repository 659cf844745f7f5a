"""VLFeedback: strengths worked out by hand, and ratings that are none."""

import json

import pytest

from datamodules.sources import vlfeedback
from datamodules.sources.base import Skipped
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.sources.helpers import hf_image, png, write_jsonl, write_parquet, write_zip

ASPECTS = ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")


def completion(name, ratings, response=None):
    return {
        "annotations": {
            aspect: {"Rating": rating, "Rationale": "So."} for aspect, rating in zip(ASPECTS, ratings, strict=True)
        },
        "model": f"model_{name}",
        "response": f"answer {name}" if response is None else response,
    }


RECORD = {
    "id": "svit-1",
    "prompt": "What is it?",
    "models": ["model_a", "model_b", "model_c", "model_d"],
    # means 5, 4, 3, 4
    "completions": [completion("a", "555"), completion("b", "435"), completion("c", "135"), completion("d", "444")],
    "img_path": "/home/me/merged_images/1.jpg",
}


@pytest.fixture
def read_all(tmp_path):
    write_zip(tmp_path / "merged_images.zip", {"merged_images/1.jpg": png()})

    def read(**changes):
        write_jsonl(tmp_path / "vlfeedback_80k.jsonl", [{**RECORD, **changes}])
        items = list(vlfeedback.read(tmp_path))
        return [i for i in items if isinstance(i, PreferenceSample)], [i for i in items if isinstance(i, Skipped)]

    return read


def test_read_all_pairs_of_unequal_means_with_their_gap(read_all):
    (sample,), skipped = read_all()
    assert sample.key == "vlfeedback-0000000-svit-1"
    assert sample.prompt == (Message("user", "<image>\nWhat is it?"),) and sample.images == (png(),)
    assert sample.responses == ("answer a", "answer b", "answer c", "answer d")
    assert sample.pairs == (
        Pair(0, 1, 0.25), Pair(0, 2, 0.5), Pair(0, 3, 0.25), Pair(1, 2, 0.25), Pair(3, 2, 0.25),
    )  # fmt: skip
    assert sample.meta["ratings"] == [5, 4, 3, 4] and sample.meta["models"][3] == "model_d"
    assert [(s.key, s.reason) for s in skipped] == [("vlfeedback-0000000-svit-1-1-3", "tie")]


def test_read_columnar_completions_are_the_same(read_all):
    rows = RECORD["completions"]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert read_all(completions=columns) == read_all()


def test_read_responses_of_one_text_are_one_with_the_mean_of_their_ratings(read_all):
    same = [
        completion("a", "555", "yes"),
        completion("b", "444"),
        completion("c", "222", "yes"),
        completion("d", "333"),
    ]
    (sample,), skipped = read_all(completions=same)
    assert sample.responses == ("yes", "answer b", "answer d") and sample.meta["ratings"] == [3.5, 4, 3]
    assert sample.pairs == (Pair(1, 0, 0.125), Pair(0, 2, 0.125), Pair(1, 2, 0.25))
    assert sample.meta["models"] == ["model_a", "model_b", "model_d"]
    assert [(s.key, s.reason) for s in skipped] == [("vlfeedback-0000000-svit-1-2", "equal responses")]


def test_read_no_two_pairs_say_the_opposite(read_all):
    completions = [completion("x", ratings, "yes") for ratings in ("555", "333", "111")] + [
        completion("y", "444", "no")
    ]
    ((sample,), _) = read_all(completions=completions)
    assert [(sample.responses[pair.chosen], sample.responses[pair.rejected]) for pair in sample.pairs] == [
        ("no", "yes")
    ]


def test_read_means_that_differ_by_rounding_are_a_tie(read_all):
    # (4 + 13/3) / 2 = 25/6 = (11/3 + 14/3) / 2, but not in floating point
    ratings = {"a": "444", "b": "544", "c": "344", "d": "554"}
    completions = [completion(name, each, "yes" if name in "ab" else "no") for name, each in ratings.items()]
    samples, skipped = read_all(completions=completions)
    assert not samples and [s.reason for s in skipped] == ["equal responses", "equal responses", "tie"]


def test_read_rating_that_is_no_number_leaves_its_response_out(read_all):
    completions = [completion("a", ["5", "N/A", "5"]), *RECORD["completions"][1:3]]
    (sample,), skipped = read_all(completions=completions)
    assert sample.responses == ("answer b", "answer c") and sample.pairs == (Pair(0, 1, 0.25),)
    assert [(s.key, s.reason) for s in skipped] == [("vlfeedback-0000000-svit-1-0", "no rating")]
    assert "'Visual Faithfulness' is rated 'N/A'" in skipped[0].detail


@pytest.mark.parametrize("rating", ["nan", "inf", "0", "6", "10", ""])
def test_read_rating_out_of_range_is_none(read_all, rating):
    samples, skipped = read_all(completions=[completion("a", [rating, "5", "5"]), completion("b", "111")])
    assert not samples and [s.reason for s in skipped] == ["no rating"]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"completions": [completion("a", "555"), completion("a", "111")]}, ["equal responses"]),
        ({"completions": [completion("a", "555", ""), completion("b", "111")]}, ["empty response"]),
        ({"completions": [completion("a", "555"), completion("b", "555")]}, ["tie"]),
        ({"completions": [completion("a", "555")]}, ["too few responses"]),
        ({"completions": {"response": ["a"], "model": []}}, ["malformed field"]),
        ({"completions": ["a"]}, ["malformed field"]),
        ({"completions": None}, ["malformed field"]),
        ({"img_path": "merged_images/2.jpg"}, ["tie", "image missing"]),
        ({"img_path": "merged_images/../../2.jpg"}, ["tie", "unsafe path"]),
    ],
)
def test_read_bad_record_is_told_and_counted(read_all, changes, reasons):
    samples, skipped = read_all(**changes)
    assert not samples and [s.reason for s in skipped] == reasons


def test_read_parquet_conversion_with_the_images_in_it(tmp_path):
    row = {**RECORD, "completions": json.loads(json.dumps(RECORD["completions"])), "image": hf_image("blue")}
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [row])
    sample = next(item for item in vlfeedback.read(tmp_path) if isinstance(item, PreferenceSample))
    assert sample.images == (png("blue"),) and len(sample.pairs) == 5
