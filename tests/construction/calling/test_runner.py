import asyncio
import json
import os
import random
import signal
import threading
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.calling.answer_log import ANSWERS, AnswerLog
from mrm.construction.calling.budget import Budget, Price
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Answer, Call, CallError, UnusableAnswer
from mrm.construction.calling.run_settings import RunSettings, Tries, backoff_s
from mrm.construction.calling.runner import run_calls
from mrm.errors import ConfigError, ResumableError
from tests.construction.asking_helpers import QUICK, accept_scores, make_call, make_calls, outcome, run, server_model
from tests.construction.fault_server import FAULTS, UNUSABLE, FaultServer

GOOD = json.dumps({"scores": [1, 2, 3]})


class Asked:
    """An async function that notes what it is asked, and does what it is told."""

    def __init__(self, behave=lambda call, attempt: GOOD) -> None:
        self.times: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self._behave = behave

    async def __call__(self, call: Call):
        self.times[call.record] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.001)
            result = self._behave(call, self.times[call.record])
            return await result if asyncio.iscoroutine(result) else result
        finally:
            self.at_once -= 1


def model(asked, name: str = "judge", **settings) -> CallableModel:
    return CallableModel(name, asked, identity={"model": name}, **settings)


def faults(call: Call, attempt: int):
    raise CallError("server error", "503", retry=True)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("kind", sorted({*FAULTS, *UNUSABLE}))
def test_every_fault_is_met_and_overcome(kind, api, tmp_path):
    plan = lambda record, attempt: kind if record == "r1" and attempt <= 2 else "good"  # noqa: E731
    with FaultServer(plan) as server:
        account = run(make_calls(3), server_model(server.url, api=api), tmp_path)
    assert account.answered == 3 and account.complete and not account.failed
    # A slow answer is an answer all the same.
    assert server.asked == {"r0": 1, "r1": 1 if kind == "slow" else 3, "r2": 1}


@pytest.mark.parametrize(
    "kind, reason, times",
    [
        ("500", "server error", 6),
        ("dropped", "connection", 6),
        ("truncated JSON", "no JSON", 3),
        ("wrong count", "wrong count", 3),
        ("string scores", "not integers", 3),
        ("out of range", "out of range", 3),
        ("refusal", "refused", 3),
        ("content filter", "refused", 3),
        ("empty", "empty", 3),
        ("cut off", "cut off", 3),
        ("policy", "content policy", 1),
    ],
)
def test_what_stays_bad_is_listed_with_its_reason_after_its_tries(kind, reason, times, tmp_path):
    plan = lambda record, attempt: kind if record == "r1" else "good"  # noqa: E731
    with FaultServer(plan) as server:
        account = run(make_calls(3), server_model(server.url), tmp_path)
        assert server.asked["r1"] == times
    assert account.failed == {reason: 1} and account.named[reason] == ["r1 (listwise, judge, repeat 0)"]
    assert account.answered == 2 and account.complete
    assert outcome(tmp_path)[1] == {make_call("r1").key: reason}


def test_unusable_answers_are_kept_raw_with_what_they_cost(tmp_path):
    asked = Asked(lambda call, attempt: Answer("not JSON", 100, 10))
    account = run([make_call("r0")], model(asked, price=Price(1.0, 10.0)), tmp_path)
    with AnswerLog(tmp_path) as log:
        lines = list(log.failures())
        assert log.spent.tokens == 330
    assert [(line["text"], line["final"]) for line in lines] == [("not JSON", False)] * 2 + [("not JSON", True)]
    assert (account.input_tokens, account.output_tokens) == (300, 30)
    assert account.cost == pytest.approx(3 * (100 * 1 + 10 * 10) / 1e6)


def test_a_rerun_asks_only_what_failed(tmp_path):
    asked = Asked(lambda call, attempt: "bad" if call.record == "r1" and attempt <= 3 else GOOD)
    first = run(make_calls(4), model(asked), tmp_path)
    second = run(make_calls(4), model(asked), tmp_path)
    assert (first.answered, first.failed.total()) == (3, 1)
    assert (second.answered, second.reused, second.failed.total()) == (1, 3, 0)
    assert asked.times == {"r0": 1, "r1": 4, "r2": 1, "r3": 1}


def test_equal_calls_are_asked_once(tmp_path):
    asked = Asked()
    account = run([make_call("r0")] * 5 + [make_call("r1")], model(asked), tmp_path)
    assert asked.times == {"r0": 1, "r1": 1}
    assert (account.calls, account.answered, account.reused) == (6, 2, 4) and account.complete


def test_equal_calls_fail_together(tmp_path):
    asked = Asked(lambda call, attempt: "bad")
    account = run([make_call("r0")] * 5, model(asked), tmp_path)
    assert asked.times == {"r0": 3} and account.failed == {"no JSON": 5} and account.balanced


def test_calls_at_once_keep_to_the_models_limit_and_the_total(tmp_path):
    asked = {name: Asked() for name in "ab"}
    models = {name: model(asked[name], name, concurrency=limit) for name, limit in (("a", 2), ("b", 50))}
    calls = [make_call(f"r{number}", model=name) for number in range(40) for name in "ab"]
    account = run(calls, models, tmp_path, settings=replace(QUICK, concurrency=5))
    assert account.answered == 80
    assert asked["a"].most_at_once <= 2 and asked["b"].most_at_once <= 5
    assert asked["b"].most_at_once >= 3


def test_a_server_sees_no_more_calls_at_once_than_allowed(tmp_path):
    with FaultServer(latency_s=0.01) as server:
        run(make_calls(40), server_model(server.url, concurrency=4), tmp_path)
        assert 1 < server.most_at_once <= 4


def test_calls_are_taken_as_they_are_needed(tmp_path):
    taken, ahead = [0], []

    def endless():
        for number in range(500):
            taken[0] += 1
            yield make_call(f"r{number}")

    asked = Asked(lambda call, attempt: ahead.append(taken[0] - len(ahead)) or GOOD)
    run(endless(), model(asked, concurrency=2), tmp_path, settings=replace(QUICK, ahead=10))
    assert len(ahead) == 500 and max(ahead) <= 10 + 2 + 1


def test_retry_after_holds_back_every_call_to_the_model(tmp_path):
    times: list[float] = []

    def behave(call: Call, attempt: int):
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise CallError("rate limit", "429", retry=True, retry_after=0.3)
        return GOOD

    account = run(make_calls(20), model(Asked(behave), concurrency=1), tmp_path)
    assert account.answered == 20 and account.retried == {"rate limit": 1}
    assert min(times[1:]) - times[0] >= 0.29


def test_retry_after_holds_back_calls_that_queued_for_their_turn(tmp_path):
    times: dict[str, float] = {}

    async def behave(call: Call, attempt: int) -> str:
        times.setdefault(f"{call.model} {call.record}", asyncio.get_running_loop().time())
        if call.model == "b":
            await asyncio.sleep(0.05)
        elif call.record == "r0" and attempt == 1:
            raise CallError("rate limit", "429", retry=True, retry_after=0.3)
        return GOOD

    # Two may ask at once: the first of each model; the second of `a` has its turn after the first was told to wait.
    calls = [make_call(record, model=name) for record in ("r0", "r1") for name in "ab"]
    models = {name: model(Asked(behave), name, concurrency=2) for name in "ab"}
    assert run(calls, models, tmp_path, settings=replace(QUICK, concurrency=2)).answered == 4
    assert times["a r1"] - times["a r0"] >= 0.29


def test_a_server_that_asks_for_too_long_is_asked_again_after_the_longest_wait(tmp_path, caplog):
    def behave(call: Call, attempt: int):
        if attempt == 1:
            raise CallError("rate limit", "429", retry=True, retry_after=90_000)
        return GOOD

    settings = replace(QUICK, longest_wait_s=0.01)
    account = run(make_calls(2), model(Asked(behave), concurrency=1), tmp_path, settings=settings)
    assert account.answered == 2 and account.complete and "90000 s" in caplog.text


def test_told_to_come_later_has_more_tries_than_a_fault(tmp_path):
    def behave(call: Call, attempt: int):
        if attempt <= 10:
            raise CallError("rate limit", "429", retry=True)
        return GOOD

    assert run(make_calls(2), model(Asked(behave)), tmp_path).answered == 2


def test_an_outage_of_one_model_does_not_keep_the_others(tmp_path):
    asked = {"down": Asked(faults), "up": Asked()}
    models = {name: model(asked[name], name, concurrency=4) for name in asked}
    calls = [make_call(f"r{number}", model=name) for number in range(200) for name in asked]
    settings = replace(QUICK, outage_calls=5, outage_s=0.0, ahead=4, base_s=0.001)
    account = run(calls, models, tmp_path, settings=settings)
    assert account.answered == 200 and account.balanced and not account.complete
    assert account.failed["server error"] + account.not_asked["outage of down"] == 200
    assert account.failed["server error"] < 20


def test_a_short_silence_is_no_outage(tmp_path):
    settings = replace(QUICK, outage_calls=2, outage_s=1000.0, fault_tries=1)
    account = run(make_calls(30), model(Asked(faults), concurrency=1), tmp_path, settings=settings)
    assert account.failed == {"server error": 30} and account.complete


def test_faults_between_answers_are_no_outage(tmp_path):
    asked = Asked(lambda call, attempt: GOOD if int(call.record[1:]) % 3 == 0 else faults(call, attempt))
    settings = replace(QUICK, outage_calls=5, outage_s=0.0, fault_tries=1)
    account = run(make_calls(60), model(asked, concurrency=1), tmp_path, settings=settings)
    assert account.answered == 20 and account.failed == {"server error": 40} and account.complete


def test_an_attempt_that_takes_too_long_is_repeated(tmp_path):
    async def behave(call: Call, attempt: int) -> str:
        await asyncio.sleep(60 if attempt == 1 else 0)
        return GOOD

    account = run(make_calls(3), model(Asked(behave)), tmp_path, settings=replace(QUICK, timeout_s=0.2))
    assert account.answered == 3 and account.retried == {"time-out": 3}


def test_a_fatal_fault_stops_the_run_and_keeps_what_was_answered(tmp_path):
    def behave(call: Call, attempt: int):
        if int(call.record[1:]) >= 5:
            raise CallError("refused", "server 'judge': wrong key in KEY", retry=False, fatal=True)
        return GOOD

    asked = Asked(behave)
    with pytest.raises(ConfigError, match="wrong key in KEY"):
        run(make_calls(1000), model(asked, concurrency=2), tmp_path, settings=replace(QUICK, refusals=3))
    answered, failed = outcome(tmp_path)
    assert len(answered) == 5 and len(failed) == 2 and asked.times.total() < 20


def test_a_refused_model_is_asked_no_more_and_the_others_to_their_end(tmp_path, caplog):
    def refuse(call: Call, attempt: int):
        raise CallError("refused", f"server {call.model!r}: wrong key", retry=False, fatal=True)

    asked = {"good": Asked(), "bad": Asked(refuse), "worse": Asked(refuse)}
    models = {name: model(asked[name], name, concurrency=2) for name in asked}
    calls = [make_call(f"r{number}", model=name) for number in range(300) for name in asked]
    with pytest.raises(ConfigError, match=r"(?s)'bad': wrong key.*'worse': wrong key.*900 calls: 300 answered"):
        run(calls, models, tmp_path)
    answered, failed = outcome(tmp_path)
    assert len(answered) == asked["good"].times.total() == 300 and not failed
    assert asked["bad"].times.total() <= 2 and "bad refused: no further call to it" in caplog.text
    mended = {name: model(Asked(), name) for name in asked}
    again = run(calls, mended, tmp_path)
    assert (again.answered, again.reused) == (600, 300) and again.complete


def test_a_refused_model_does_not_wait_out_what_its_server_asked_for(tmp_path):
    def behave(call: Call, attempt: int):
        if call.record == "r0":
            raise CallError("rate limit", "429", retry=True, retry_after=300.0)
        raise CallError("refused", "wrong key", retry=False, fatal=True)

    with pytest.raises(ConfigError, match="wrong key"):  # else the test takes minutes
        run(make_calls(2), model(Asked(behave), concurrency=2), tmp_path)


@pytest.mark.parametrize("kind", ["refused", "outage"])
def test_nobody_left_to_ask_ends_the_run_before_all_calls_are_taken(kind, tmp_path):
    taken = [0]

    def endless():
        for number in range(10_000):
            taken[0] += 1
            yield make_call(f"r{number}")

    def behave(call: Call, attempt: int):
        raise CallError(kind, "down", retry=kind == "outage", fatal=kind == "refused")

    settings = replace(QUICK, outage_calls=3, outage_s=0.0, fault_tries=1, ahead=16)
    if kind == "refused":
        with pytest.raises(ConfigError, match="down"):
            run(endless(), model(Asked(behave)), tmp_path, settings=settings)
    else:
        account = run(endless(), model(Asked(behave)), tmp_path, settings=settings)
        assert account.balanced and not account.complete and "nobody is left to ask: outage of judge" in account.stopped
    assert taken[0] < 1000


def test_a_refusal_of_one_record_is_listed_and_the_run_goes_on(tmp_path):
    plan = lambda record, attempt: "forbidden" if record in ("r3", "r7") else "good"  # noqa: E731
    with FaultServer(plan) as server:
        account = run(make_calls(10), server_model(server.url, concurrency=1), tmp_path)
        again = run(make_calls(10), server_model(server.url, concurrency=1), tmp_path)
    assert account.answered == 8 and account.complete and account.failed == {"refused": 2}
    assert again.complete and again.failed == {"refused": 2}  # the log's answers speak for the key


def test_no_credit_ends_the_run_at_once(tmp_path):
    plan = lambda record, attempt: "quota" if record == "r3" else "good"  # noqa: E731
    with FaultServer(plan) as server, pytest.raises(ConfigError, match="quota"):
        run(make_calls(10), server_model(server.url, concurrency=1), tmp_path)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("kind", ["deep JSON", "odd date", "aborted"])
def test_a_malformed_reply_is_asked_again(kind, api, tmp_path):
    plan = lambda record, attempt: kind if record == "r1" and attempt == 1 else "good"  # noqa: E731
    with FaultServer(plan) as server:
        account = run(make_calls(3), server_model(server.url, api=api), tmp_path)
    assert account.answered == 3 and account.retried.total() == 1


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("kind", ["huge usage", "infinite usage", "negative usage", "no usage"])
def test_a_budget_holds_where_the_server_does_not_count(kind, api, tmp_path, caplog):
    with FaultServer(lambda record, attempt: kind) as server:
        settings = replace(QUICK, budget=Budget(tokens=5_000))
        judge = server_model(server.url, api=api, price=Price(1, 1), max_tokens=50)
        account = run(make_calls(500), judge, tmp_path, settings=settings)
    assert account.stopped.startswith("budget reached") and 0 < account.answered < 400
    assert 4_000 < account.input_tokens + account.output_tokens <= 6_000 and account.cost > 0
    assert caplog.text.count("tokens are estimated") == 1


def test_calls_that_are_refused_at_once_are_no_outage(tmp_path):
    def behave(call: Call, attempt: int):
        raise CallError("bad request", "400", retry=False, replied=True)

    settings = replace(QUICK, outage_calls=2, outage_s=0.0)
    account = run(make_calls(30), model(Asked(behave), concurrency=1), tmp_path, settings=settings)
    assert account.failed == {"bad request": 30} and account.complete


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3)])
def test_a_callable_that_raises_what_ends_tasks_gives_its_call_up_alone(error, tmp_path):
    def behave(call: Call, attempt: int):
        if call.record == "r1":
            raise error
        return GOOD

    sync = CallableModel("judge", lambda call: behave(call, 1), identity={}, concurrency=1)
    for number, judge in enumerate((model(Asked(behave), concurrency=1), sync)):
        account = run(make_calls(4), judge, tmp_path / str(number))
        assert account.answered == 3 and account.failed == {f"raised {type(error).__name__}": 1} and account.complete


def test_equal_calls_that_fail_name_each_record(tmp_path):
    calls = [make_call("r0"), replace(make_call("r0"), record="other"), replace(make_call("r0"), record="third")]
    late = (call for call in calls)
    account = run(late, model(Asked(lambda call, attempt: "bad")), tmp_path)
    assert [name.split()[0] for name in account.named["no JSON"]] == ["r0", "other", "third"]
    with AnswerLog(tmp_path, write=False) as log:
        assert {line["record"] for line in log.failures() if line["final"]} == {"r0", "other", "third"}


@pytest.mark.parametrize("error", [KeyError("in accept"), ResumableError("disk full")])
def test_a_fault_of_the_run_itself_is_raised(error, tmp_path):
    def accept(call: Call, answer: Answer) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run(make_calls(5), model(Asked()), tmp_path, accept=accept)
    assert caught.value is error


def test_an_error_of_the_iterable_is_raised_and_answers_are_kept(tmp_path):
    def broken():
        yield from make_calls(5)
        raise ValueError("cannot read record 6")

    with pytest.raises(ValueError, match="record 6"):
        run(broken(), model(Asked()), tmp_path)
    assert len(outcome(tmp_path)[0]) >= 1  # that was under way


def test_a_call_to_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="asks 'other'; there are: judge"):
        run([make_call("r0", model="other")], model(Asked()), tmp_path)


def test_a_missing_key_is_told_before_anything_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    asked = Asked()
    models = {"judge": model(asked), "b": server_model("http://127.0.0.1:9/v1", name="b", key_env="NO_SUCH_KEY")}
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        run(make_calls(3), models, tmp_path)
    assert not asked.times


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_a_rerun_goes_on(number, tmp_path):
    def behave(call: Call, attempt: int) -> str:
        if call.record == "r10":
            os.kill(os.getpid(), number)
        return GOOD

    before = signal.getsignal(number)
    asked = Asked(behave)
    account = run(make_calls(1000), model(asked, concurrency=2), tmp_path)
    assert account.stopped == f"interrupted by {number.name}" and account.balanced and not account.complete
    assert 10 <= account.answered < 50 and signal.getsignal(number) is before
    quiet = Asked()
    again = run(make_calls(1000), model(quiet, concurrency=64), tmp_path)
    assert again.reused == account.answered and again.complete
    assert not {record for record, times in asked.times.items() if times} & set(quiet.times) - {"r11", "r12"}


def test_a_run_gives_signals_back_to_whom_they_belonged(tmp_path):
    before = signal.signal(signal.SIGTERM, handler := lambda number, frame: None)
    try:
        run(make_calls(1), model(Asked()), tmp_path)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stop_does_not_wait_for_calls_that_hang(tmp_path):
    async def behave(call: Call, attempt: int) -> str:
        if call.record == "r3":
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0 if call.record == "r0" else 3600)
        return GOOD

    account = run(make_calls(50), model(Asked(behave), concurrency=4), tmp_path, settings=replace(QUICK, grace_s=0.2))
    assert account.answered == 1 and account.not_asked["stopped"] == account.calls - 1


def test_cancelling_a_run_keeps_what_was_answered(tmp_path):
    async def behave(call: Call, attempt: int) -> str:
        await asyncio.sleep(0 if call.record == "r0" else 3600)
        return GOOD

    async def cancelled() -> None:
        with AnswerLog(tmp_path) as log:
            models = {"judge": model(Asked(behave))}
            task = asyncio.create_task(run_calls(make_calls(5), models, log, accept=accept_scores))
            while not len(log):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(cancelled())
    assert len(outcome(tmp_path)[0]) == 1


def test_a_run_in_another_thread_needs_no_signals(tmp_path):
    accounts = []
    thread = threading.Thread(target=lambda: accounts.append(run(make_calls(3), model(Asked()), tmp_path)))
    thread.start()
    thread.join()
    assert accounts[0].answered == 3


def test_a_budget_in_tokens_stops_the_run_and_counts_earlier_runs(tmp_path):
    asked, overshoot = Asked(lambda call, attempt: Answer(GOOD, 50, 50)), 4 * 100  # the calls under way
    limited = replace(QUICK, budget=Budget(tokens=5_000))
    first = run(make_calls(200), model(asked, concurrency=4), tmp_path, settings=limited)
    assert first.balanced and first.stopped.startswith("budget reached") and first.answered >= 30
    assert first.input_tokens + first.output_tokens <= 5_000 + overshoot
    assert first.not_asked == {"budget": 200 - first.answered}
    again = run(make_calls(200), model(asked, concurrency=4), tmp_path, settings=limited)
    assert again.reused == first.answered and 100 * (first.answered + again.answered) <= 5_000 + overshoot
    more = replace(QUICK, budget=Budget(tokens=100_000))
    assert run(make_calls(200), model(asked), tmp_path, settings=more).complete
    assert max(asked.times.values()) == 1


def test_a_budget_in_money_is_overshot_by_the_calls_under_way_at_most(tmp_path):
    asked = Asked(lambda call, attempt: Answer(GOOD, 100_000, 0))  # far more than was estimated: 0.1 a call
    priced = model(asked, price=Price(1.0, 1.0), concurrency=4)
    account = run(make_calls(200), priced, tmp_path, settings=replace(QUICK, budget=Budget(money=2.0)))
    assert 2.0 - 0.1 < account.cost <= 2.0 + 4 * 0.1 + 1e-9 and account.not_asked["budget"] == 200 - account.answered


def test_a_budget_in_money_needs_every_price(tmp_path):
    with pytest.raises(ConfigError, match="none for judge"):
        run(make_calls(1), model(Asked()), tmp_path, settings=replace(QUICK, budget=Budget(money=1.0)))


def test_progress_is_told_the_account(tmp_path):
    seen = []

    class Watcher:
        def update(self, account, under_way):
            seen.append((account.done, under_way))

    run(make_calls(5), model(Asked()), tmp_path, progress=Watcher())
    assert seen[-1] == (5, 0)


def test_a_progress_that_fails_ends_the_run_and_keeps_the_answers(tmp_path):
    class Broken:
        def update(self, account, under_way):
            if account.answered < 5:
                raise OverflowError("no room")

    async def behave(call: Call, attempt: int) -> str:
        await asyncio.sleep(0 if call.record in ("r0", "r1") else 0.4)
        return GOOD

    with pytest.raises(OverflowError, match="no room"):
        run(make_calls(6), model(Asked(behave), concurrency=6), tmp_path, progress=Broken())
    assert len(outcome(tmp_path)[0]) == 6  # those under way were waited for


def test_a_run_leaves_its_log_on_the_disk(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or fsync(file))

    async def one() -> None:
        with AnswerLog(tmp_path) as log:
            assert synced == [tmp_path.stat().st_ino]
            synced.clear()
            await run_calls(make_calls(3), {"judge": model(Asked())}, log, accept=accept_scores)
            assert synced == [(tmp_path / ANSWERS).stat().st_ino]

    asyncio.run(one())


def test_a_disk_that_fails_to_sync_stops_the_run(tmp_path, monkeypatch):
    async def behave(call: Call, attempt: int) -> str:
        await asyncio.sleep(0.01)
        return GOOD

    sync = AnswerLog.sync
    broken = [True]

    def fail_once(self: AnswerLog) -> None:
        if broken.pop() if broken else False:
            raise OSError("input/output error")
        sync(self)

    monkeypatch.setattr(AnswerLog, "sync", fail_once)
    with pytest.raises(ResumableError, match="input/output error"):
        run(make_calls(5000), model(Asked(behave), concurrency=2), tmp_path)


def test_a_killed_log_goes_on_with_the_line_that_was_cut_off(tmp_path):
    asked = Asked()
    run(make_calls(5), model(asked), tmp_path)
    path = tmp_path / ANSWERS
    path.write_bytes(path.read_bytes()[:-7])
    account = run(make_calls(5), model(asked), tmp_path)
    assert (account.reused, account.answered) == (4, 1) and path.read_bytes().count(b"\n") == 5


@given(st.integers(1, 5000), st.integers(0, 2**32), st.floats(0, 10), st.floats(0, 100))
def test_backoff_grows_to_its_limit_with_full_jitter(tries, seed, base_s, longest_s):
    wait_s = backoff_s(tries, RunSettings(base_s=base_s, longest_s=longest_s), random.Random(seed))
    assert 0 <= wait_s <= min(longest_s, base_s * 2.0 ** min(tries - 1, 60))


def test_tries_are_counted_by_kind():
    tries, fault = Tries(RunSettings(fault_tries=2, rate_limit_tries=3)), CallError("server error", "", retry=True)
    later, never = CallError("rate limit", "", retry=True), CallError("bad request", "", retry=False)
    assert [tries.count(error) for error in (later, fault, later, fault)] == [False, False, False, True]
    assert tries.count(later) and Tries(RunSettings()).count(never)


def test_settings_that_cannot_be_are_told_in_one_message():
    with pytest.raises(ConfigError, match="concurrency=0.*base_s=-1"):
        RunSettings(concurrency=0, base_s=-1)


def test_an_answer_is_unusable_when_its_model_says_so(tmp_path):
    def behave(call: Call, attempt: int):
        raise UnusableAnswer("nonsense", "it is nonsense")

    assert run(make_calls(1), model(Asked(behave)), tmp_path).failed == {"nonsense": 1}


@pytest.mark.parametrize("seed", range(12))
def test_accounts_balance_whatever_happens(seed, tmp_path):
    rng = random.Random(seed)
    stop_at = rng.choice([None, None, rng.randrange(100)])

    async def behave(call: Call, attempt: int):
        if stop_at is not None and sum(asked.times.values()) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(rng.choice([0, 0, 0.002, 0.01]))
        kind = rng.choice(["good"] * 6 + ["bad", "empty", "fault", "never", "later", "hang"])
        if kind in ("fault", "later", "never"):
            later = 0.01 if kind == "later" else None
            raise CallError("rate limit" if later else kind, "m", retry=kind != "never", retry_after=later)
        if kind == "hang":
            await asyncio.sleep(3600)
        return Answer({"bad": "{", "empty": ""}.get(kind, GOOD), 40, 20)

    asked = Asked(behave)
    models = {name: model(asked, name, concurrency=rng.randint(1, 8), price=Price(1, 1)) for name in "ab"}
    calls = [make_call(f"r{rng.randrange(60)}", model=rng.choice("ab")) for _ in range(100)]
    settings = replace(
        QUICK, base_s=0.002, longest_s=0.01, timeout_s=0.05, grace_s=0.2, concurrency=rng.randint(1, 10),
        ahead=rng.randint(1, 20), budget=Budget(tokens=rng.choice([None, 8_000])),
        outage_calls=rng.choice([2, 100]), outage_s=0.0,
    )  # fmt: skip
    account = run(iter(calls), models, tmp_path, settings=settings)
    answered, failed = outcome(tmp_path)
    keys = {call.key for call in calls}
    assert account.balanced and len(answered) == account.answered
    assert answered.keys() <= keys and len(failed) <= account.failed.total()
    if account.complete:
        assert answered.keys() | failed.keys() == keys and account.calls == 100
    quiet = {name: model(Asked(), name) for name in "ab"}
    again = run(calls, quiet, tmp_path)
    assert again.complete and again.answered == len(keys) - len(answered)
