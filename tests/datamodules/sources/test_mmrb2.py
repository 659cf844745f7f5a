"""MMRB2: its JSON and Parquet forms, and pairs in both orders."""

import pytest

from datamodules.sources import mmrb2
from datamodules.sources.images import Images
from datamodules.sources.location import Location
from mrm.construction.reformulation import VERDICTS
from mrm.errors import ConfigError, RecordError
from mrm.evaluation.statements import RESPONSE_VERDICTS
from mrm.preference import Pair
from tests.datamodules.sources.helpers import hf_image, png, write_files, write_json, write_parquet

IMAGES = {"images/a.png": png("red"), "images/b.png": png("blue"), "input_images/s.png": png("green")}


def response(*parts):
    return {"model_name": "m", "response_content": [list(part) for part in parts]}


def pair(prompt, a, b, chosen="A"):
    record = {"id": "x_1", "response_a": response(*a), "response_b": response(*b), "chosen": chosen}
    return {**record, "prompt_source": "x", "human_annotations": [6, 5, 6], "prompt_content": [list(p) for p in prompt]}


ONE, TWO = [("image", "images/a.png")], [("image", "images/b.png")]
T2I = pair([("text", "A red cat.")], ONE, TWO)
EDIT = pair([("image", "input_images/s.png"), ("text", "Make it blue.")], ONE, TWO, chosen="B")
MIXED = pair([("text", "A story.")], [("text", "Once "), *ONE], [*TWO, ("text", " the end")])
TEXT = pair([("image", "input_images/s.png"), ("text", "Why?")], [("text", "So.")], [("text", "Because.")], chosen="B")
ROW = {
    "pair_id": "x_1",
    "prompt_text": "<image_1>Make it blue.",
    "prompt_images": [hf_image("green")],
    "response_a_text": "<image_1>",
    "response_a_images": [hf_image("red")],
    "response_b_text": "",
    "response_b_images": [hf_image("blue")],
    "chosen": "b",
    "prompt_source": "x",
    "human_annotations": "[1, 2, 1]",
}


def make(folder, **tasks):
    write_files(folder, IMAGES)
    for task, records in tasks.items():
        write_json(folder / f"{task}.json", {"pairs": records})
    return folder


def both_orders(tmp_path, record, task):
    write_files(tmp_path, IMAGES)
    images = Images(Location.of(tmp_path))
    return mmrb2.samples_of({**record, "task": task}, key="k", images=images)


def test_samples_of_text_to_image_are_the_trained_statements_in_both_orders(tmp_path):
    first, second = both_orders(tmp_path, T2I, "t2i")
    assert first.images == (png("red"), png("blue")) and first.pairs == (Pair(0, 1),)
    assert second.images == (png("blue"), png("red")) and second.pairs == (Pair(1, 0),)
    assert first.responses == second.responses == VERDICTS and first.meta["caption"] == "A red cat."


def test_samples_of_an_edit_show_the_source_and_the_chosen_image_first_and_second(tmp_path):
    first, second = both_orders(tmp_path, EDIT, "edit")
    assert first.images == (png("green"), png("blue"), png("red"))
    assert second.images == (png("green"), png("red"), png("blue"))


def test_samples_of_mixed_responses_compare_responses(tmp_path):
    first, _ = both_orders(tmp_path, MIXED, "interleaved")
    assert first.responses == RESPONSE_VERDICTS and "Response 1:\nOnce <image>" in first.prompt[0].content


def test_samples_of_texts_are_scored_as_they_are(tmp_path):
    (sample,) = both_orders(tmp_path, TEXT, "reasoning")
    assert sample.responses == ("Because.", "So.") and sample.prompt[0].content == "<image>Why?"


def test_samples_of_a_record_without_its_prompt_say_what_to_do(tmp_path):
    bare = {name: value for name, value in T2I.items() if name != "prompt_content"}
    with pytest.raises(RecordError, match="build_from_hf"):
        both_orders(tmp_path, bare, "t2i")


def test_describe_counts_two_orders_where_responses_hold_images():
    found = [mmrb2.describe({**r, "task": t}) for r, t in ((T2I, "t2i"), (MIXED, "interleaved"), (TEXT, "reasoning"))]
    assert [(one.category, one.orders) for one in found] == [("t2i", 2), ("interleaved", 2), ("reasoning", 1)]
    assert [(one.chosen, one.rejected) for one in found] == [(None, None), ("Once", "the end"), ("Because.", "So.")]


def test_read_folder_takes_the_image_tasks_and_balances_the_orders(tmp_path):
    samples = list(mmrb2.read(make(tmp_path, t2i=[T2I] * 2, edit=[EDIT] * 4, reasoning=[TEXT])))
    assert len(samples) == 6 and len({sample.key for sample in samples}) == 6
    assert sum(sample.pairs == (Pair(0, 1),) for sample in samples) == 3
    assert [sample.meta["task"] for sample in samples] == ["t2i"] * 2 + ["edit"] * 4
    assert len(list(mmrb2.read(tmp_path, tasks="reasoning, t2i"))) == 3


def test_read_one_file_is_the_task_of_its_name(tmp_path):
    make(tmp_path, reasoning=[TEXT], mine=[T2I])
    (sample,) = mmrb2.read(tmp_path / "reasoning.json")
    assert sample.meta["task"] == "reasoning"
    with pytest.raises(ConfigError, match="tasks=edit: .*reasoning.json holds the task reasoning"):
        list(mmrb2.read(tmp_path / "reasoning.json", tasks="edit"))
    with pytest.raises(ConfigError, match="mine.json tells no task"):
        mmrb2.read(tmp_path / "mine.json")
    (sample,) = mmrb2.read(tmp_path / "mine.json", tasks="t2i")
    assert sample.meta["task"] == "t2i"


def test_read_parquet_of_the_hub_gives_what_the_json_gives(tmp_path):
    write_parquet(tmp_path / "edit/test-00000-of-00001.parquet", [ROW])
    make(tmp_path / "json", edit=[EDIT])
    (hub,) = mmrb2.read(tmp_path / "edit/test-00000-of-00001.parquet")
    (built,) = mmrb2.read(tmp_path / "json", tasks="edit")
    assert (hub.prompt, hub.images, hub.responses, hub.pairs) == (
        built.prompt,
        built.images,
        built.responses,
        built.pairs,
    )
    (again,) = mmrb2.read(tmp_path, tasks="edit")
    assert again.images == hub.images


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chosen": "C"}, "malformed field"),
        ({"response_a": response(("video", "a.mp4"))}, "malformed field"),
        ({"response_a": {"model_name": "m"}}, "missing field"),
        ({"response_b": response(*ONE)}, "equal images"),
        ({"response_b": response(("image", "images/none.png"))}, "image missing"),
    ],
)
def test_read_bad_record_is_skipped_with_its_reason(tmp_path, changes, reason):
    (item,) = mmrb2.read(make(tmp_path, t2i=[{**T2I, **changes}]), tasks="t2i")
    assert item.reason == reason and "t2i.json:pairs[0]" in item.detail


def test_read_more_places_than_images_is_named(tmp_path):
    write_parquet(tmp_path / "edit/test-0.parquet", [{**ROW, "prompt_text": "<image_1><image_2>x"}])
    (item,) = mmrb2.read(tmp_path, tasks="edit")
    assert item.reason == "image count"


@pytest.mark.parametrize(
    ("tasks", "told"), [("t2", "'t2' is none of t2i"), (" ,", "is none of"), ("edit", "nothing of the task 'edit'")]
)
def test_read_tasks_that_are_not_there_are_told(tmp_path, tasks, told):
    with pytest.raises(ConfigError, match=told):
        mmrb2.read(make(tmp_path, t2i=[T2I]), tasks=tasks)


@pytest.mark.parametrize("content", ['{"pairs"', '{"pairs": 3}', "[3"])
def test_read_file_that_is_no_list_of_pairs_is_told(tmp_path, content):
    (tmp_path / "t2i.json").write_text(content)
    with pytest.raises(ConfigError, match="t2i.json"):
        mmrb2.read(tmp_path / "t2i.json")
