import asyncio
import threading

import pytest

from mrm.construction.calling.budget import Price
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Answer, Call, CallError, Model, UnusableAnswer
from mrm.errors import ConfigError
from tests.construction.asking_helpers import make_call


def ask(function, **settings) -> Answer:
    model = CallableModel("m", function, identity={"v": 1}, **settings)
    return asyncio.run(model.answer(make_call("r0")))


def test_a_callable_is_a_model():
    assert isinstance(CallableModel("m", str, identity={}), Model)


def test_a_sync_callable_runs_in_another_thread():
    assert ask(lambda call: f"{threading.current_thread() is threading.main_thread()} {call.record}").text == "False r0"


def test_an_async_callable_runs_in_the_event_loop():
    async def answer(call: Call) -> Answer:
        await asyncio.sleep(0)
        return Answer(threading.current_thread().name, 3, 4)

    assert ask(answer) == Answer("MainThread", 3, 4)


def test_an_object_with_an_async_call_is_awaited():
    class Judge:
        async def __call__(self, call: Call) -> str:
            return "yes"

    assert ask(Judge()).text == "yes"


def test_a_sync_callable_that_gives_an_awaitable_is_awaited():
    async def later() -> str:
        return "later"

    assert ask(lambda call: later()).text == "later"


@pytest.mark.parametrize("error", [CallError("busy", "busy", retry=True), UnusableAnswer("no JSON", "none")])
def test_faults_that_are_told_pass_through(error):
    def answer(call: Call) -> str:
        raise error

    with pytest.raises(type(error)) as caught:
        ask(answer)
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyError("x"), StopIteration(), TimeoutError()])
def test_any_other_error_gives_the_call_up(error):
    def answer(call: Call) -> str:
        raise error

    with pytest.raises(CallError, match=type(error).__name__) as caught:
        ask(answer)
    assert not caught.value.retry and not caught.value.fatal


@pytest.mark.parametrize("answer", [Answer("x", -1, 0), Answer("x", 10**400), Answer("x", None), Answer(None)])
def test_an_answer_that_cannot_be_is_told(answer):
    with pytest.raises(CallError, match="no counts"):
        ask(lambda call: answer)


def test_a_callable_with_a_price_that_counts_nothing_is_estimated():
    answer = ask(lambda call: "x" * 40, price=Price(1, 1))
    assert answer.input_tokens > 0 and answer.output_tokens == 10
    assert ask(lambda call: "x" * 40, price=Price(0, 0)).output_tokens == 0


def test_a_result_of_another_type_stops_the_run():
    with pytest.raises(CallError, match="gave a int") as caught:
        ask(lambda call: 3)
    assert caught.value.fatal


def test_a_sync_callable_that_hangs_does_not_keep_the_loop():
    release = threading.Event()

    async def give_up() -> None:
        model = CallableModel("m", lambda call: release.wait(60) and "late", identity={})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.answer(make_call("r0")), 0.05)

    asyncio.run(give_up())  # would wait for threads of its own executor
    left = [thread for thread in threading.enumerate() if thread.name == "mrm-callable"]
    assert [thread.daemon for thread in left] == [True]  # so that the process can end, too
    release.set()


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="concurrency=0"):
        CallableModel("m", str, identity={}, concurrency=0)
