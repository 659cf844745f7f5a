import pytest

from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.budget import Budget, BudgetMeter, Price, Spent, estimate, estimate_call
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Answer
from mrm.construction.calling.token_estimates import OUTPUT_TOKENS, input_tokens
from mrm.errors import ConfigError
from tests.construction.asking_helpers import make_call, make_calls, server_model

JUDGE = CallableModel("judge", str, identity={}, price=Price(2.0, 10.0))


def test_price_is_per_million_tokens():
    assert Price(2.0, 10.0).of(1_000_000, 500_000) == 7.0


@pytest.mark.parametrize("make", [lambda: Price(-1, 0), lambda: Price(0, float("nan")), lambda: Budget(money=-1.0)])
def test_amounts_that_cannot_be_are_refused(make):
    with pytest.raises(ConfigError, match="at least 0"):
        make()


def test_estimate_call_without_answers_takes_the_rule(tmp_path):
    call = make_call("r0")
    with AnswerLog(tmp_path) as log:
        expected = estimate_call(call, JUDGE, log)
    taken, given = input_tokens(call.chat), OUTPUT_TOKENS["listwise"]
    assert expected == Spent(1, taken, given, (taken * 2 + given * 10) / 1e6)


def test_estimate_call_learns_output_from_the_answers(tmp_path):
    with AnswerLog(tmp_path) as log:
        for record, tokens in (("a", 10), ("b", 21)):
            log.append(make_call(record), Answer("x", 1, tokens), seconds=1, attempts=1, cost=None)
        assert estimate_call(make_call("r0"), JUDGE, log).output_tokens == 16
        assert estimate_call(make_call("r0", kind="pointwise"), JUDGE, log).output_tokens == OUTPUT_TOKENS["pointwise"]


def test_estimate_call_keeps_the_models_limit(tmp_path):
    with AnswerLog(tmp_path) as log:
        assert estimate_call(make_call("r0"), server_model("http://h/v1", max_tokens=9), log).output_tokens == 9


def test_estimate_counts_calls_reused_and_cost_by_model_and_kind(tmp_path):
    free = CallableModel("free", str, identity={})
    calls = [*make_calls(4), make_call("r3"), make_call("r0", model="free", kind="pointwise")]
    with AnswerLog(tmp_path) as log:
        log.append(calls[0], Answer("x", 10, 100), seconds=1, attempts=1, cost=None)
        told = estimate(calls, {"judge": JUDGE, "free": free}, log)
        one = estimate_call(calls[1], JUDGE, log)
    assert told.asked["judge", "listwise"].calls == 3 and told.reused == {("judge", "listwise"): 2}
    assert told.asked["judge", "listwise"].output_tokens == 300 and told.unpriced == ("free",)
    assert told.total.calls == 4 and told.total.cost == pytest.approx(3 * one.cost)


def test_estimate_of_an_unknown_model_is_told(tmp_path):
    with AnswerLog(tmp_path) as log, pytest.raises(ConfigError, match="there are: none"):
        estimate(make_calls(1), {}, log)


def test_meter_sets_aside_and_gives_back(tmp_path):
    with AnswerLog(tmp_path) as log:
        meter = BudgetMeter(Budget(tokens=100), log, {"judge": JUDGE})
        part = Spent(1, 30, 20)
        assert [meter.reserve(part), meter.reserve(part), meter.reserve(part)] == [True, True, False]
        meter.release(part)
        assert meter.reserve(part)


def test_meter_counts_what_the_log_spent(tmp_path):
    with AnswerLog(tmp_path) as log:
        log.append_failure(
            make_call("a"), reason="r", message="m", final=True, attempts=1, answer=Answer("x", 60, 0), cost=0.6
        )
    with AnswerLog(tmp_path) as log:
        assert not BudgetMeter(Budget(tokens=100), log, {}).reserve(Spent(1, 41, 0))
        assert BudgetMeter(Budget(tokens=100), log, {}).reserve(Spent(1, 40, 0))
        assert not BudgetMeter(Budget(money=1.0), log, {}).reserve(Spent(1, 0, 0, 0.5))
        assert "60 of 100 tokens" in BudgetMeter(Budget(tokens=100), log, {}).told()
        assert BudgetMeter(Budget(), log, {"judge": JUDGE}).estimate(make_call("a")) == Spent()
