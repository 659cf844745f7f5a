"""Whatever JSON a record holds, a reader makes a sample of it or refuses it by RecordError; nothing else comes out."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.sources import jsonl, llama_factory, math_v, mj_bench
from mrm.errors import RecordError

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
FIELDS = {
    jsonl.parse_record: (
        "key",
        "source",
        "prompt",
        "images",
        "responses",
        "pairs",
        "chosen",
        "rejected",
        "strength",
        "meta",
    ),
    llama_factory.parse_record: (
        "conversations",
        "messages",
        "instruction",
        "input",
        "history",
        "chosen",
        "rejected",
        "images",
        "system",
    ),
    mj_bench.parse_record: ("caption", "label_0", "image_0", "image_1"),
}
EXTRA = {jsonl.parse_record: {"source": "s"}, llama_factory.parse_record: {"source": "s"}, mj_bench.parse_record: {}}


ON_SLOW_MACHINES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("parse", FIELDS, ids=lambda parse: parse.__module__.rsplit(".")[-1])
@ON_SLOW_MACHINES
@given(data=st.data())
def test_parse_record_any_json_is_a_sample_or_a_record_error(parse, data):
    record = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS[parse], VALUES)))
    try:
        parse(record, key="k", folder=Path("/nonexistent"), **EXTRA[parse])
    except RecordError as error:
        assert error.reason and str(error)


@ON_SLOW_MACHINES
@given(question=st.fixed_dictionaries({}, optional=dict.fromkeys(("question", "options"), VALUES)))
def test_format_question_any_json_is_text_or_a_record_error(question):
    try:
        assert isinstance(math_v.format_question(question), str)
    except RecordError as error:
        assert error.reason
