"""Whatever JSON a record holds, a reader makes items of it or refuses it by RecordError; nothing else comes out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.sources import jsonl, llama_factory, math_v, mj_bench
from datamodules.sources.images import Images
from datamodules.sources.location import Location
from mrm.errors import RecordError

NOWHERE = Path("/nonexistent")
IMAGES = {"images": Images(Location.of(NOWHERE))}

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
    (mj_bench.parse_record, IMAGES, {"caption": "c", "label_0": 1, "image_0": "a.png", "image_1": "b.png"}),
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
    changed = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(good, VALUES)))
    lacking = data.draw(st.sets(st.sampled_from(sorted(good)), max_size=2))
    record = {name: value for name, value in {**good, **changed}.items() if name not in lacking}
    try:
        made = parse(record, key="k", **arguments)
        for item in made if isinstance(made, Iterable) else [made]:
            assert item.key
    except RecordError as error:
        assert error.reason and str(error)


@ON_SLOW_MACHINES
@given(question=st.fixed_dictionaries({}, optional=dict.fromkeys(("question", "options"), VALUES)))
def test_format_question_any_json_is_text_or_a_record_error(question):
    try:
        assert isinstance(math_v.format_question(question), str)
    except RecordError as error:
        assert error.reason
