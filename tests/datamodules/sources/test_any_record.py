"""Whatever JSON a record holds, a reader makes items of it or refuses it by RecordError; nothing else comes out."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.sources import (
    evalmuse,
    genai_bench,
    hpdv2,
    hpdv3,
    image_reward_db,
    jsonl,
    llama_factory,
    llava_critic,
    llava_rlhf,
    math_v,
    mj_bench,
    mm_rlhf,
    mm_rlhf_rewardbench,
    mmpr,
    mmrb2,
    multimodal_rewardbench,
    omni_rewardbench,
    pickapic_v2,
    povid,
    r1_reward_rl,
    rlaif_v,
    rlhf_v,
    spa_vl,
    unified_reward,
    vl_rewardbench,
    vlfeedback,
    wildvision_battle,
)
from datamodules.sources.images import Images
from datamodules.sources.location import Location
from mrm.errors import RecordError
from mrm.preference import PreferenceSample

NOWHERE = Path("/nonexistent")
IMAGES = {"images": Images(Location.of(NOWHERE))}

HUMAN, GPT = {"from": "human", "value": "p"}, {"from": "gpt", "value": "a"}
TALK = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]
PAIR = {"question": "p", "chosen": "a", "rejected": "b", "image": {"bytes": b"x", "path": None}}
RATED = {"annotations": {aspect: {"Rating": "3"} for aspect in vlfeedback.ASPECTS}, "model": "m", "response": "a"}
COMPARED = "Question: [p]\nResponse 1: [a]\nResponse 2: [b]"
JUDGED = [{"from": "human", "value": COMPARED}, {"from": "gpt", "value": "The better response: [1]"}]

MARKS = "[Question]p[Assistant 1]a[End of Assistant 1][Assistant 2]b[End of Assistant 2]"
GRADED = [{"from": "human", "value": MARKS}, {"from": "gpt", "value": "8 6"}]

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "human", "<image>"])
)
TAGS = st.sampled_from(["from", "value", "role", "content", "chosen", "rejected", "strength", "a"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TAGS, inner, max_size=3), max_leaves=6
)
FROM_TABLES = st.binary(max_size=3) | st.dates() | st.decimals()  # what Parquet knows and JSON does not

# parse, its other arguments, a good record (whose images aren't there); bad ones lack some of its fields or hold anything in them
CASES: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (
        jsonl.parse_record,
        {"source": "s", "folder": NOWHERE},
        {"key": "k", "source": "s", "prompt": "p", "chosen": "a", "rejected": "b", "strength": 1, "meta": {}},
    ),
    (
        jsonl.parse_record,
        {"source": "s", "folder": NOWHERE},
        {"prompt": "p", "images": [], "responses": ["a", "b"], "pairs": [{"chosen": 0, "rejected": 1}]},
    ),
    (
        llama_factory.parse_record,
        {"source": "s", "folder": NOWHERE},
        {
            "conversations": [{"from": "human", "value": "p"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
            "images": ["a.png"],
            "system": "s",
        },
    ),
    (
        llama_factory.parse_record,
        {"source": "s", "folder": NOWHERE},
        {"instruction": "p", "input": "q", "history": [["a", "b"]], "chosen": "a", "rejected": "b"},
    ),
    (rlaif_v.parse_record, IMAGES, {**PAIR, "idx": "0", "origin_dataset": "d"}),
    (
        rlhf_v.parse_record,
        IMAGES,
        {"text": '{"question": "p", "chosen": "a", "rejected": "b"}', "image": {"bytes": b"x"}},
    ),
    (spa_vl.parse_record, IMAGES, {**PAIR, "class1": "c"}),
    (
        vlfeedback.parse_record,
        IMAGES,
        {
            "prompt": "p",
            "completions": [RATED, {**RATED, "response": "b"}],
            "img_path": "a.jpg",
            "image": {"bytes": b"x"},
        },
    ),
    (
        povid.parse_record,
        IMAGES,
        {"image": "a.jpg", "conversations": [HUMAN, GPT], "rejected_conversations": [HUMAN, GPT]},
    ),
    (
        mmpr.parse_record,
        {**IMAGES, "root": "r/", "part": "p"},
        {"image": [], "question": "p", "chosen": "a", "rejected": "b"},
    ),
    (
        mm_rlhf.parse_record,
        {**IMAGES, "frames": 2},
        {"image": "a.jpg", "video": None, "prompt": "p", "chosen": "a", "rejected": "b"},
    ),
    (
        llava_rlhf.parse_record,
        IMAGES,
        {"image": "a.jpg", "conversations": [HUMAN, GPT], "output_1": GPT, "output_2": GPT, "preference": 1},
    ),
    (
        r1_reward_rl.parse_record,
        IMAGES,
        {"question": "p", "message": f'[{{"content": {json.dumps(COMPARED)}}}]', "answer": ["1"], "image": "QUJD"},
    ),
    (llava_critic.parse_grades, IMAGES, {"conversations": GRADED, "image": {"bytes": b"x"}}),
    (llava_critic.parse_record, IMAGES, {"conversations": JUDGED, "image": {"bytes": b"x"}}),
    (
        wildvision_battle.parse_record,
        IMAGES,
        {
            "conversation_a": TALK,
            "conversation_b": TALK,
            "winner": "model_a",
            "image": {"bytes": b"x"},
            "language": "e",
        },
    ),
    (unified_reward.parse_record, IMAGES, {"conversations": JUDGED, "images": ["a.jpg"]}),
    (unified_reward.parse_record, IMAGES, {"problem": COMPARED, "solution": "Answer 1 is better", "images": ["a.jpg"]}),
    (unified_reward.parse_record, IMAGES, {"caption": "c", "jpg_0": "a.jpg", "jpg_1": "b.jpg", "label_0": 1}),
    (
        pickapic_v2.parse_record,
        IMAGES,
        {"caption": "c", "jpg_0": b"a", "jpg_1": b"b", "label_0": 1.0, "label_1": 0.0, "has_label": True},
    ),
    (
        hpdv2.parse_choice,
        {**IMAGES, "folder": "train"},
        {"human_preference": [1, 0], "prompt": "c", "file_path": ["a.jpg", "b.jpg"]},
    ),
    (
        hpdv2.parse_ranking,
        {**IMAGES, "folder": "test"},
        {"prompt": "c", "image_path": ["a.jpg", "b.jpg"], "rank": [1, 2]},
    ),
    (hpdv3.parse_record, IMAGES, {"prompt": "c", "path1": "a.jpg", "path2": "b.jpg", "choice_dist": [2, 1]}),
    (
        genai_bench.parse_record,
        IMAGES,
        {"prompt": "c", "left_image": {"bytes": b"a"}, "right_image": {"bytes": b"b"}, "vote_type": "leftvote"},
    ),
    (mj_bench.parse_record, IMAGES, {"caption": "c", "label_0": 1, "image_0": "a.png", "image_1": "b.png"}),
    (
        vl_rewardbench.parse_record,
        IMAGES,
        {"id": "i", "query": "p", "response": ["a", "b"], "human_ranking": [1, 0], "image": {"bytes": b"x"}},
    ),
    (vl_rewardbench.parse_record, IMAGES, {"prompt": "p", "chosen": "a", "rejected": "b", "image": {"bytes": b"x"}}),
    (
        mm_rlhf_rewardbench.parse_record,
        {**IMAGES, "frames": 2},
        {"id": "i", "image": "mcq/a.jpg", "video": None, "prompt": "p", "chosen": "a", "rejected": "b"},
    ),
    (
        multimodal_rewardbench.parse_record,
        IMAGES,
        {"ID": "i", "Text": "p", "Image": "a.jpg", "Output1": "a", "Output2": "b", "Better": "Output1", "Meta": {}},
    ),
    (
        omni_rewardbench.parse_record,
        IMAGES,
        {
            "prompt": "p",
            "criteria": "c",
            "response1": "a",
            "response2": "b",
            "criteria_preference": "response2",
            "image": {"bytes": b"x"},
        },
    ),
    (
        mmrb2.samples_of,
        IMAGES,
        {
            "id": "i",
            "task": "reasoning",
            "prompt_content": [["text", "p"]],
            "response_a": {"response_content": [["text", "a"]]},
            "response_b": {"response_content": [["text", "b"]]},
            "chosen": "A",
        },
    ),
    (
        mmrb2.samples_of,
        IMAGES,
        {
            "pair_id": "i",
            "task": "edit",
            "prompt_text": "p",
            "prompt_images": [{"bytes": b"x"}],
            "response_a_text": "<image_1>",
            "response_a_images": [{"bytes": b"y"}],
            "response_b_text": None,
            "response_b_images": [{"bytes": b"z"}],
            "chosen": "b",
        },
    ),
    (mj_bench.parse_row, IMAGES, {"caption": "c", "label": 0, "image0": {"bytes": b"a"}, "image1": {"bytes": b"b"}}),
]
ON_SLOW_MACHINES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def case_name(case):
    parse, _, record = case
    return f"{parse.__module__.rpartition('.')[2]}-{parse.__name__}-{next(iter(record))}"


@pytest.mark.parametrize("case", CASES, ids=case_name)
@ON_SLOW_MACHINES
@given(data=st.data())
def test_parse_any_json_is_items_or_a_record_error(case, data):
    parse, arguments, good = case
    values = VALUES | FROM_TABLES if hasattr(sys.modules[parse.__module__], "read_rows") else VALUES
    changed = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(good, values)))
    lacking = data.draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    record = {name: value for name, value in {**good, **changed}.items() if name not in lacking}
    try:
        made = parse(record, key="k", **arguments)
        for item in made if isinstance(made, Iterable) else [made]:
            assert item.key
            json.dumps(
                item.to_json() if isinstance(item, PreferenceSample) else dict(getattr(item, "meta", {})),
                allow_nan=parse is jsonl.parse_record,
            )
    except RecordError as error:
        assert error.reason and str(error)


@pytest.mark.parametrize(
    ("module", "good"),
    [
        (image_reward_db, {"image_path": "a.jpg", "prompt_id": "p", "prompt": "c", "rank": 1}),
        (evalmuse, {"img_path": "a.jpg", "prompt": "c", "total_score": [3], "promt_meaningless": [0]}),
    ],
    ids=["image_reward_db", "evalmuse"],
)
@ON_SLOW_MACHINES
@given(data=st.data())
def test_parse_entry_any_json_is_a_graded_image_or_a_record_error(module, good, data):
    changed = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(good, VALUES)))
    lacking = data.draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    try:
        *_, graded = module.parse_entry({n: v for n, v in {**good, **changed}.items() if n not in lacking})
        assert math.isfinite(graded.grade) and isinstance(graded.path, str)
    except RecordError as error:
        assert error.reason and str(error)


@ON_SLOW_MACHINES
@given(question=st.fixed_dictionaries({}, optional=dict.fromkeys(("question", "options"), VALUES)))
def test_format_question_any_json_is_text_or_a_record_error(question):
    try:
        assert isinstance(math_v.format_question(question), str)
    except RecordError as error:
        assert error.reason


DESCRIBED = [
    (vl_rewardbench, {"id": "RLHF-1", "query": "p", "response": ["a", "b"], "human_ranking": [1, 0]}),
    (mm_rlhf_rewardbench, {"id": "i", "image": "mcq/a.jpg", "video": None, "chosen": "a", "rejected": "b"}),
    (
        multimodal_rewardbench,
        {"ID": "i", "Output1": "a", "Output2": "b", "Better": "Output1", "Meta": {"Category": "vqa"}},
    ),
    (omni_rewardbench, {"id": "i", "response1": "a", "response2": "b", "criteria_preference": "response2"}),
    (
        mmrb2,
        {
            "id": "i",
            "task": "reasoning",
            "response_a": {"response_content": [["text", "a"]]},
            "response_b": {"response_content": [["text", "b"]]},
            "chosen": "A",
        },
    ),
    (
        mmrb2,
        {"pair_id": "i", "task": "edit", "response_a_text": "a", "response_a_images": [], "response_b_text": "b", "chosen": "b"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("module", "good"), DESCRIBED, ids=lambda value: getattr(value, "NAME", ""))
@ON_SLOW_MACHINES
@given(data=st.data())
def test_describe_any_json_is_a_benchmarks_pair_or_a_record_error(module, good, data):
    changed = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(good, VALUES)))
    lacking = data.draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    try:
        pair = module.describe({name: value for name, value in {**good, **changed}.items() if name not in lacking})
        assert isinstance(pair.id, str) and isinstance(pair.category, str) and pair.orders in (1, 2)
        assert all(text is None or isinstance(text, str) for text in (pair.chosen, pair.rejected))
    except RecordError as error:
        assert error.reason and str(error)
