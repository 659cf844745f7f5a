"""What no kind of call can use: refusals, answers that were cut off, empty ones."""

from __future__ import annotations

from mrm.construction.calling.calls import Answer, UnusableAnswer
from mrm.construction.calling.server_requests import CUT_OFF, FILTERED, REFUSAL


def check_answer(answer: Answer) -> None:
    """Refuses what no kind of call can use.

    Raises:
        UnusableAnswer: "refused", "cut off" or "empty".
    """
    if answer.finish in (REFUSAL, FILTERED):
        raise UnusableAnswer("refused", f"the model refused to answer (finish {answer.finish!r})")
    if answer.finish == CUT_OFF:
        raise UnusableAnswer("cut off", "the answer was cut off at the limit of tokens; raise max_tokens")
    if not answer.text.strip():
        raise UnusableAnswer("empty", f"the answer is empty (finish {answer.finish!r})")
