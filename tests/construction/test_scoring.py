"""Judges' answers: what is taken as it is, what is put right and flagged, and what is refused and why."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.calling.calls import UnusableAnswer
from mrm.construction.judge_prompts import answer_schema
from mrm.construction.rubrics import load_rubric
from mrm.construction.scoring import ResponseScore, Scoring, parse_scoring

RUBRIC = load_rubric("en")
NAMES = RUBRIC.names
WEIGHTS = dict(zip(NAMES, (0.4, 0.2, 0.15, 0.1, 0.05, 0.1), strict=True))


def criterion(score=8, weight=0.1, analysis="It is so."):
    return {"analysis": analysis, "score": score, "weight": weight}


def response(number=1, overall=8.0, **changes):
    criteria = {name: criterion(weight=WEIGHTS[name]) for name in NAMES}
    return {"response": number, "criteria": {**criteria, **changes}, "overall": overall}


def answer(*responses, **changes):
    return json.dumps({"reference": "A cat.", "responses": list(responses), **changes}, ensure_ascii=False)


def parse(text, n=1):
    return parse_scoring(text, RUBRIC, n, "listwise")


def refused(text, n=1):
    with pytest.raises(UnusableAnswer) as error:
        parse(text, n)
    return error.value.reason


def test_parse_scoring_valid_answer_by_hand():
    # 9 at 0.4 and 8 elsewhere: 8.4.
    scoring = parse(answer(response(overall=8.4, accuracy=criterion(9, 0.4, "Right."))))
    assert scoring.reference == "A cat." and scoring.flags == ()
    only = scoring.responses[0]
    assert scoring.overalls == (8.4,) and only.flags == ()
    assert only.scores == {**dict.fromkeys(NAMES, 8), "accuracy": 9}
    assert only.weights == WEIGHTS
    assert only.analyses["accuracy"] == "Right."


def test_parse_scoring_out_of_order_is_told_by_number():
    low = response(2, overall=7.6, accuracy=criterion(7, 0.4))
    assert parse(answer(low, response(1)), 2).overalls == (8.0, 7.6)


@pytest.mark.parametrize(
    "names", [("2", "1"), ("Response 2", "Response 1"), ("回答2", "回答1"), ("response_2", "response_1")]
)
def test_parse_scoring_names_are_read_as_numbers(names):
    low = response(names[0], overall=7.6, accuracy=criterion(7, 0.4))
    scoring = parse(answer(low, response(names[1])), 2)
    assert scoring.overalls == (8.0, 7.6) and scoring.flags == ()


def test_parse_scoring_responses_as_an_object_are_told_by_key():
    low = response(2, overall=7.6, accuracy=criterion(7, 0.4))
    text = json.dumps({"reference": "x", "responses": {"Response 2": low, "Response 1": response()}})
    assert parse(text, 2).overalls == (8.0, 7.6)


def test_parse_scoring_without_numbers_goes_by_place_and_says_so():
    bodies = [response(), response(overall=7.6, accuracy=criterion(7, 0.4))]
    for body in bodies:
        del body["response"]
    scoring = parse(answer(*bodies), 2)
    assert scoring.overalls == (8.0, 7.6) and scoring.flags == ("responses by place",)


def test_parse_scoring_pointwise_may_stand_without_a_list():
    text = json.dumps({"reference": "x", **response()})
    assert parse_scoring(text, RUBRIC, 1, "pointwise").overalls == (8.0,)
    assert refused(text) == "no responses"


@pytest.mark.parametrize(
    ("bodies", "reason"),
    [
        ([response()], "wrong number of responses"),
        ([response(1), response(2), response(3)], "wrong number of responses"),
        ([], "wrong number of responses"),
        ([response(1), response(1)], "duplicate response"),
        ([response(0), response(1)], "unknown response"),
        ([response(1), response(3)], "unknown response"),
        ([response(1), response("B")], "unknown response"),
        ([response(1), response(True)], "unknown response"),
        ([response(1), response(None)], "missing response number"),
        ([response(1), 8], "malformed response"),
    ],
)
def test_parse_scoring_responses_that_are_not_those_shown_are_refused(bodies, reason):
    assert refused(answer(*bodies), 2) == reason


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (11, "score out of range"),
        (-1, "score out of range"),
        ("12", "score out of range"),
        (10**30, "score out of range"),
        (8.5, "score not an integer"),
        ("8.5", "score not an integer"),
        ("8/10", "score not an integer"),
        ("eight", "score not an integer"),
        ("", "score not an integer"),
        (True, "score not an integer"),
        (math.nan, "score not an integer"),
        (math.inf, "score not an integer"),
        ([8], "score not an integer"),
        (None, "missing score"),
    ],
)
def test_parse_scoring_a_score_that_is_none_is_refused(score, reason):
    assert refused(answer(response(ethics=criterion(score)))) == reason


@pytest.mark.parametrize("said", [None, 8, "good", []])
def test_parse_scoring_a_criterion_that_is_none_is_refused(said):
    assert refused(answer(response(ethics=said))) == "missing criterion"


def test_parse_scoring_missing_criterion_is_named():
    body = response()
    del body["criteria"]["creativity"]
    with pytest.raises(UnusableAnswer, match="'creativity'") as error:
        parse(answer(body))
    assert error.value.reason == "missing criterion"


@pytest.mark.parametrize(
    ("score", "flag"), [("8", "score as string"), (" 8 ", "score as string"), (8.0, "score as float")]
)
def test_parse_scoring_an_integer_written_otherwise_is_taken_and_flagged(score, flag):
    only = parse(answer(response(ethics=criterion(score, 0.1)))).responses[0]
    assert only.scores["ethics"] == 8 and type(only.scores["ethics"]) is int
    assert only.flags == (flag,)


@pytest.mark.parametrize("score", [0, 10])
def test_parse_scoring_ends_of_the_scale_are_allowed(score):
    criteria = {name: criterion(score, WEIGHTS[name]) for name in NAMES}
    assert parse(answer(response(overall=score, **criteria))).overalls == (score,)


def weighted(*weights):
    return {name: criterion(8, weight) for name, weight in zip(NAMES, weights, strict=True)}


def test_parse_scoring_weights_that_sum_to_two_are_halved_and_flagged():
    only = parse(answer(response(**weighted(0.8, 0.4, 0.2, 0.2, 0.2, 0.2)))).responses[0]
    assert list(only.weights.values()) == pytest.approx([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    assert only.flags == ("weights normalised",) and only.overall == 8.0


@pytest.mark.parametrize("first", [0.48, 0.52])
def test_parse_scoring_rounded_weights_stay_as_they_are(first):
    only = parse(answer(response(**weighted(first, 0.1, 0.1, 0.1, 0.1, 0.1)))).responses[0]
    assert only.weights["accuracy"] == first and only.flags == ()


@pytest.mark.parametrize("wrong", [-0.1, None, "much", math.nan, math.inf, True, [0.1]])
def test_parse_scoring_a_weight_that_is_none_is_refused(wrong):
    assert refused(answer(response(**weighted(0.5, 0.1, 0.1, 0.1, 0.1, wrong)))) == "bad weights"


def test_parse_scoring_weights_of_zero_are_refused():
    assert refused(answer(response(**weighted(0, 0, 0, 0, 0, 0)))) == "bad weights"


def test_parse_scoring_weights_that_differ_between_responses_are_flagged():
    other = response(2, **weighted(0.5, 0.1, 0.1, 0.1, 0.1, 0.1))
    assert parse(answer(response(1), other), 2).flags == ("weights differ",)


@pytest.mark.parametrize("stated", [7.95, 8.05])
def test_parse_scoring_an_overall_within_the_slack_is_kept(stated):
    only = parse(answer(response(overall=stated))).responses[0]
    assert only.overall == stated and only.flags == ()


@pytest.mark.parametrize("stated", [7.94, 8.06, 80, None, "high", math.nan])
def test_parse_scoring_another_overall_is_recomputed_and_flagged(stated):
    only = parse(answer(response(overall=stated))).responses[0]
    assert only.overall == 8.0 and only.flags == ("overall recomputed",)


def test_parse_scoring_an_overall_above_the_scale_is_recomputed():
    criteria = {name: criterion(10, WEIGHTS[name]) for name in NAMES}
    assert parse(answer(response(overall=10.04, **criteria))).overalls == (10.0,)


@pytest.mark.parametrize("analysis", [None, "", " ", 3])
def test_parse_scoring_an_empty_analysis_is_flagged(analysis):
    only = parse(answer(response(ethics=criterion(8, 0.1, analysis)))).responses[0]
    assert only.analyses["ethics"] == "" and only.flags == ("no analysis",)


def test_parse_scoring_mentions_are_flagged_at_their_response():
    named = response(2, ethics=criterion(8, 0.1, "As GPT-4 would; the reference answer says so."))
    scoring = parse(answer(response(1), named), 2)
    assert scoring.responses[0].flags == ()
    assert scoring.responses[1].flags == ("names an assistant", "cites the reference")


def test_parse_scoring_an_unknown_criterion_is_flagged():
    assert parse(answer(response(beauty=criterion()))).responses[0].flags == ("unknown criterion",)


@pytest.mark.parametrize("reference", [None, "", 3])
def test_parse_scoring_no_reference_is_flagged(reference):
    scoring = parse(answer(response(), reference=reference))
    assert scoring.reference == "" and scoring.flags == ("no reference",)


def test_parse_scoring_mended_json_is_flagged():
    scoring = parse(answer(response())[:-1])
    assert scoring.flags == ("JSON repaired",) and scoring.overalls == (8.0,)


def test_parse_scoring_half_a_surrogate_pair_does_not_come_through():
    text = answer(response()).replace("A cat.", "A \\ud800 cat.").replace("It is so.", "\\udc00", 1)
    scoring = parse(text)
    assert scoring.reference == "A ? cat." and scoring.responses[0].analyses["accuracy"] == "?"


@pytest.mark.parametrize("layout", [("analysis", "score", "weight"), ("weight", "analysis", "score")])
def test_parse_scoring_cut_off_anywhere_never_makes_up_a_score(layout):
    bodies = [
        {
            "response": number,
            "criteria": {name: {key: criterion(10, 0.5, "A {b} [c].")[key] for key in layout} for name in NAMES},
            "overall": 10,
        }
        for number in (1, 2)
    ]
    text = answer(*bodies)
    whole = parse(text, 2)
    taken = 0
    for end in range(len(text)):
        try:
            scoring = parse(text[:end], 2)
        except UnusableAnswer as error:
            assert error.reason in (
                "cut off",
                "empty answer",
                "wrong number of responses",
                "missing criterion",
                "no responses",
            )
            continue
        taken += 1
        assert [r.scores for r in scoring.responses] == [r.scores for r in whole.responses]
        assert [r.weights for r in scoring.responses] == [r.weights for r in whole.responses]
        assert "JSON repaired" in scoring.flags
    assert taken < 20  # only where nothing but closing brackets or the last overall is missing


def test_parse_scoring_cut_off_in_the_second_response_says_cut_off():
    text = answer(response(1), response(2))
    assert refused(text[: len(text) * 3 // 4], 2) == "cut off"


weights_of_six = st.lists(st.integers(1, 100), min_size=6, max_size=6).map(
    lambda parts: [part / sum(parts) for part in parts]
)
words = st.text(alphabet="abc \n\"'{}[]\\,:猫，。", max_size=30)


@st.composite
def scorings(draw):
    weights = dict(zip(NAMES, draw(weights_of_six), strict=True))
    responses = []
    for _ in range(draw(st.integers(1, 4))):
        scores = {name: draw(st.integers(0, 10)) for name in NAMES}
        overall = round(sum(scores[name] * weights[name] for name in NAMES), 2)
        analyses = {name: "So: " + draw(words) for name in NAMES}
        responses.append(ResponseScore(overall, scores, weights, analyses))
    return Scoring("Own: " + draw(words), tuple(responses))


@given(scorings())
def test_parse_scoring_valid_in_is_equal_out(scoring):
    text = scoring.to_answer()
    assert parse(text, len(scoring.responses)) == scoring
    assert parse(f"<think>Hm.</think>Here:\n```json\n{text}\n```", len(scoring.responses)) == scoring


def _fits(value, schema):
    """Whether a value fits a schema of the few keywords used here."""
    kind = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}[schema["type"]]
    if not isinstance(value, kind) or value not in schema.get("enum", [value]):
        return False
    if schema["type"] == "array":
        return all(_fits(item, schema["items"]) for item in value)
    if schema["type"] == "object":
        properties = schema["properties"]
        return list(value) == list(properties) and all(_fits(value[key], properties[key]) for key in value)
    return True


@given(scorings())
def test_answer_schema_takes_valid_answers(scoring):
    assert _fits(json.loads(scoring.to_answer()), answer_schema(RUBRIC, len(scoring.responses)))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("responses", "response", "criteria", "overall", "score", "weight", *NAMES)), inner
        )
    ),
    max_leaves=12,
)


@given(st.text() | anything.map(json.dumps), st.sampled_from(["listwise", "pointwise"]))
def test_parse_scoring_any_text_is_scored_or_unusable(text, mode):
    try:
        parse_scoring(text, RUBRIC, 1, mode)
    except UnusableAnswer as error:
        assert 0 < len(error.reason) <= 30


@given(st.data())
def test_parse_scoring_one_thing_changed_is_scored_or_unusable(data):
    body = response()
    target = data.draw(st.sampled_from([body, body["criteria"], body["criteria"]["ethics"]]))
    target[data.draw(st.sampled_from(list(target)))] = data.draw(anything)
    try:
        scoring = parse(answer(body))
    except UnusableAnswer:
        return
    only = scoring.responses[0]
    assert all(type(score) is int and 0 <= score <= 10 for score in only.scores.values())
    assert abs(sum(only.weights.values()) - 1) <= 0.021
    mean = sum(only.scores[name] * only.weights[name] for name in NAMES) / sum(only.weights.values())
    assert 0 <= only.overall <= 10 and abs(only.overall - mean) <= 0.051


@given(st.data())
def test_parse_scoring_damaged_text_is_scored_or_unusable(data):
    text = answer(response(1), response(2))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text = (
            text[:place]
            + data.draw(st.sampled_from(["", '"', "{", "}", "]", ",", "\\", "x", "```"]))
            + text[place + 1 :]
        )
    try:
        assert len(parse(text, 2).overalls) == 2
    except UnusableAnswer:
        pass
