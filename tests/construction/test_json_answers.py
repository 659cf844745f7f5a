"""The JSON in an answer: where it may stand, what may be mended, and what is never made up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction import json_answers
from mrm.construction.calling.calls import UnusableAnswer
from mrm.construction.json_answers import MOST_REPAIRED, find_json

WANTED = {"items": [1, {"a": "x {y} ```"}]}
TEXT = json.dumps(WANTED)


def find(text):
    return find_json(text, ("items",))


def reason(text):
    with pytest.raises(UnusableAnswer) as error:
        find(text)
    return error.value.reason


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"\n {TEXT}\n",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```\nDone.",
        f"{TEXT}\n```",
        f"<think>Perhaps {{'items': 3}}</think>\n{TEXT}",
        f'It is \\frac{{1}}{{2}}</think>{{"note": 1}}\n{TEXT}',
        f"Here is {{what}} you asked: {TEXT} I hope {{it}} helps.",
        f"Draft: {TEXT} Final: {TEXT}",
        f'{TEXT} And {{"else": 1}}',
        "\\frac{1}{2}" * 50 + TEXT,
    ],
)
def test_find_json_well_formed_is_found_wherever_it_stands(text):
    assert find(text) == json_answers.FoundJson(WANTED)


@pytest.mark.parametrize(
    "text",
    [
        f'Draft: {{"items": [2]}}. Final: {TEXT}',
        f'{TEXT} Response 1 contained {{"items": [10, 0]}}, which I ignored.',
        'It says {"items": [10, 0]}. My own: {"items": [1, 2}',
        f'{TEXT} It also had {{"items" : [10,',
    ],
)
def test_find_json_second_object_of_the_kind_is_refused_whoever_wrote_it(text):
    with pytest.raises(UnusableAnswer) as caught:
        find(text)
    assert caught.value.reason == "ambiguous answer"


def test_find_json_closing_think_tag_in_a_string_does_not_cut_it():
    assert find('```\n{"items": "</think>"}\n```').value == {"items": "</think>"}


def test_find_json_line_break_in_a_string_is_no_fault():
    assert find('{"items": "a\nb"}') == json_answers.FoundJson({"items": "a\nb"})


@pytest.mark.parametrize(
    "text",
    [
        '{"items": [1, {"a": 2},],}',
        "{'items': [1, {'a': 2}]}",
        '{"items": [1 {"a": 2}]}',
        '```json\n{"items": [1, {"a": 2}]',
    ],
)
def test_find_json_broken_is_mended_and_says_so(text):
    found = find(text)
    assert found.value == {"items": [1, {"a": 2}]} and found.repaired


def test_find_json_half_a_value_behind_the_last_bracket_is_dropped():
    found = find('{"items": [{"score": 1}], "overall": 1')
    assert found.value == {"items": [{"score": 1}]}
    assert found.repaired and found.cut_off


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty answer"),
        (" \n", "empty answer"),
        ("I am sorry, I cannot judge this.", "no JSON"),
        ("[1, 2]", "no JSON"),
        ('"items"', "no JSON"),
        ("{" * 5000, "cut off"),
        ("{'a'," * 5000 + "}", "no JSON"),
        ('{"items": [1', "cut off"),
        (f"<think>I begin {TEXT}", "cut off"),
        ('{"items": 1, "items": 2}', "duplicate key"),
        ('x {"items": {"a": 1, "a": 2}}', "duplicate key"),
        ("{'items': [" + "'x', " * MOST_REPAIRED + "]}", "answer too long"),
    ],
)
def test_find_json_unusable_has_a_stable_reason(text, expected):
    assert reason(text) == expected


@pytest.mark.parametrize("value", ["8 or 9", "1 0", "8, 5", "7-8", "8/10", "~8", "1_0", "8 (of 10)", "<8>"])
def test_find_json_broken_with_an_unclear_number_is_refused(value):
    assert reason(f'{{"items": {{"score": {value}, "weight": 0.1}}}}') == "unclear number"
    assert reason(f"{{'items': {{score: {value}, weight: 0.1}}}}") == "unclear number"


def test_find_json_numbers_in_broken_texts_are_no_matter():
    found = find("{'items': 'ratio: 3 to 4', 'score': 8 'weight': 0.10,}")
    assert found.value == {"items": "ratio: 3 to 4", "score": 8, "weight": 0.1}


def test_find_json_tries_a_bounded_number_of_places(monkeypatch):
    tried = []

    class Decoder:
        def raw_decode(self, text, place=0):
            tried.append(place)
            raise ValueError

    monkeypatch.setattr(json_answers, "_DECODER", Decoder())
    assert reason("x " + '{"a":' * 100_000) == "cut off"
    assert len(tried) == json_answers._MOST_STARTS


@given(st.text() | st.text(alphabet="{}[]\"',:\\ a1`<think>/"))
def test_find_json_any_text_gives_an_object_or_is_unusable(text):
    try:
        assert isinstance(find(text).value, dict)
    except UnusableAnswer as error:
        str(error).encode()
