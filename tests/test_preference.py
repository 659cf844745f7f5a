"""What a record refuses, by the reason that is counted."""

import json
from typing import Any

import pytest

from mrm.errors import RecordError
from mrm.preference import Message, PreferenceSample, language_of

RECORD = {
    "key": "k",
    "source": "s",
    "prompt": [{"role": "user", "content": "Q"}],
    "responses": ["yes", "no"],
    "pairs": [{"chosen": 0, "rejected": 1}],
}
LONE = json.loads('"half \\ud83d"')  # half of a surrogate pair


def reason(images: Any = (), **changes: Any) -> str:
    with pytest.raises(RecordError) as caught:
        PreferenceSample.from_json({**RECORD, **changes}, images)
    assert "'k'" in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"source": LONE},
        {"prompt": [{"role": "user", "content": LONE}]},
        {"responses": ["yes", LONE]},
    ],
)
def test_from_json_text_that_is_no_utf8_is_bad_text(changes: dict[str, Any]) -> None:
    assert reason(**changes) == "bad text"


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_from_json_image_outside_a_user_turn_is_image_place(role: str) -> None:
    prompt = [{"role": role, "content": "<image>"}, {"role": "user", "content": "Q"}]
    assert reason(prompt=prompt, images=[b"x"]) == "image place"


@pytest.mark.parametrize("name", ["prompt", "responses", "pairs"])
@pytest.mark.parametrize("value", ["ab", {"a": 1}, None, 3])
def test_from_json_other_than_a_list_is_malformed(name: str, value: object) -> None:
    assert reason(**{name: value}) == "malformed field"


def test_from_json_images_as_bytes_are_malformed() -> None:
    assert reason(images=b"abc") == "malformed field"


def test_sample_responses_as_a_string_are_malformed() -> None:
    good = PreferenceSample.from_json(RECORD, [])
    with pytest.raises(RecordError, match="`responses` is str, it must be a list"):
        PreferenceSample(good.key, good.source, good.prompt, (), "yn", good.pairs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"pairs": [{"chosen": 0, "rejected": 1, "strenght": 0.9}]}, "Did you mean 'strength'?"),
        ({"prompt": [{"role": "user", "content": "Q", "image": "a.png"}]}, "`prompt[0]` has an unknown field 'image'"),
    ],
)
def test_from_json_unknown_field_within_is_named(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(RecordError) as caught:
        PreferenceSample.from_json({**RECORD, **changes}, [])
    assert caught.value.reason == "unknown field" and found in str(caught.value)


@pytest.mark.parametrize("meta", [[], 0, "", [["a", 1]]])
def test_from_json_meta_that_is_no_object_is_malformed(meta: object) -> None:
    assert reason(meta=meta) == "malformed field"


def test_from_json_meta_may_be_null() -> None:
    assert dict(PreferenceSample.from_json({**RECORD, "meta": None}, []).meta) == {}


@pytest.mark.parametrize("changes", [{"pairs": [[0, 1]]}, {"pairs": [{"chosen": 0}]}, {"prompt": ["Q"]}])
def test_from_json_entry_of_another_form_is_malformed(changes: dict[str, Any]) -> None:
    assert reason(**changes) == "malformed field"


def test_language_of_looks_at_the_last_turn_only():
    chinese, english = Message("user", "这是什么?"), Message("user", "What is it?")
    assert language_of((english, chinese)) == "zh"
    assert language_of((chinese, english)) == "en"
