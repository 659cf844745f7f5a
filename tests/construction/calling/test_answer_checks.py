import pytest

from mrm.construction.calling.answer_checks import check_answer
from mrm.construction.calling.calls import Answer, UnusableAnswer


@pytest.mark.parametrize("finish", ["", "stop", "STOP", "completed", "end_turn", "eos", "stop_sequence"])
def test_answers_that_came_to_their_end_pass(finish):
    check_answer(Answer("yes", finish=finish))


@pytest.mark.parametrize(
    "finish, reason",
    [
        ("refusal", "refused"),
        ("SAFETY", "refused"),
        ("RECITATION", "refused"),
        ("content_filter: PROHIBITED_CONTENT", "refused"),
        ("PROHIBITED_CONTENT", "refused"),
        ("length", "cut off"),
        ("MAX_TOKENS", "cut off"),
        ("abort", "not finished"),
        ("error", "not finished"),
        ("cancelled", "not finished"),
        ("incomplete", "not finished"),
        ("in_progress", "not finished"),
        ("tool_calls", "not finished"),
    ],
)
def test_answers_that_did_not_come_to_their_end_are_refused(finish, reason):
    with pytest.raises(UnusableAnswer) as caught:
        check_answer(Answer("The picture shows a", finish=finish))
    assert caught.value.reason == reason
