"""What no kind of call can use: refusals, answers that were cut off, empty ones."""

from __future__ import annotations

from mrm.construction.calling.calls import Answer, UnusableAnswer
from mrm.construction.calling.server_requests import CUT_OFF, FILTERED, REFUSAL

# As servers say it, in lower case: OpenAI, Anthropic's and Gemini's compatible endpoints, TGI, Cohere; "" says nothing.
GOOD = ("", "stop", "completed", "complete", "end_turn", "eos", "eos_token", "stop_sequence", "finished")
REFUSED = (REFUSAL, FILTERED, "safety", "recitation", "prohibited_content", "blocklist", "spii", "image_safety")
CUT = (CUT_OFF, "max_tokens", "max_output_tokens", "model_length")


def check_answer(answer: Answer) -> None:
    """Refuses what no kind of call can use.

    Raises:
        UnusableAnswer: "refused", "cut off", "not finished" or "empty".
    """
    finish = answer.finish.strip().lower()
    shown = repr(answer.finish[:100])
    if finish in REFUSED or finish.startswith(FILTERED):
        raise UnusableAnswer("refused", f"the model refused to answer (finish {shown})")
    if finish in CUT:
        raise UnusableAnswer("cut off", "the answer was cut off at the limit of tokens; raise max_tokens")
    if finish not in GOOD:
        raise UnusableAnswer("not finished", f"the answer did not come to its end (finish {shown})")
    if not answer.text.strip():
        raise UnusableAnswer("empty", f"the answer is empty (finish {shown})")
