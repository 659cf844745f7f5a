"""Asks many calls of many models, and loses no answer: limits, retries, waits, budget and a clean stop.

Calls are taken one by one from an iterable of any length. Those that the log answers are not asked; an answer is in the
log as soon as it is accepted, so that a kill at any moment costs the calls under way at most.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from mrm.construction.calling.answer_checks import check_answer
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.budget import BudgetMeter, cost_of, find_model
from mrm.construction.calling.call_account import CallAccount, Watcher
from mrm.construction.calling.calls import Answer, Call, CallError, Model, UnusableAnswer
from mrm.construction.calling.lanes import Lane
from mrm.construction.calling.loops import was_cancelled
from mrm.construction.calling.outcomes import Outcomes
from mrm.construction.calling.purse import Purse
from mrm.construction.calling.run_settings import RunSettings, Tries, backoff_s
from mrm.construction.calling.run_watch import Watch
from mrm.construction.calling.stopping import Stop, stopping_signals
from mrm.errors import ConfigError

BUDGET, STOPPED = "budget", "stopped"
_NAP_S = 1.0  # between two looks whether a lane was closed
_BREATH = 64  # calls dealt with at once before others have their turn

_logger = logging.getLogger(__name__)


async def run_calls(
    calls: Iterable[Call],
    models: Mapping[str, Model],
    log: AnswerLog,
    *,
    accept: Callable[[Call, Answer], None],
    settings: RunSettings | None = None,
    progress: Watcher | None = None,
) -> CallAccount:
    """Asks what the log does not answer yet.

    Args:
        calls: any number; taken as they are needed.
        models: by name.
        log: where answers are found and kept.
        accept: raises `UnusableAnswer` for an answer that is not to be kept; empty, cut off and refused ones never are.
        settings: limits, tries, waits, budget; None takes the defaults.
        progress: is told the account several times a second.

    Returns:
        The account. `stopped` says whether SIGINT, SIGTERM or the budget ended the run: what was answered is kept, and
        the same run again goes on behind it.

    Raises:
        ConfigError: where all further calls to a model would fail (key, address, model's name), after the other models' calls;
            before, where a call's model is missing or a budget in money lacks a price. What was answered is kept.
        ResumableError: if the log cannot be written.
    """
    for name, model in models.items():
        if (check := getattr(model, "check", None)) is not None:
            check()
        if name != model.name:
            raise ConfigError(f"models[{name!r}] is called {model.name!r}; give it under its own name.")
    run = _Run(models, log, accept, settings or RunSettings(), progress)
    try:
        with stopping_signals(run.stop):
            return await run.all(calls)
    finally:
        for model in models.values():
            if (close := getattr(model, "aclose", None)) is not None:
                await close()


class _Run:
    """One run: a feeder takes calls into lanes, each lane's workers ask."""

    def __init__(
        self,
        models: Mapping[str, Model],
        log: AnswerLog,
        accept: Callable[[Call, Answer], None],
        settings: RunSettings,
        progress: Watcher | None,
    ) -> None:
        self.stop, self.account = Stop(), CallAccount()
        self._models, self._log, self._accept = models, log, accept
        self._settings = settings
        self._watch = Watch(self.account, log, progress, self.stop)
        self._lanes = {
            name: Lane(model, settings, has_answered=log.has_answers_of(name)) for name, model in models.items()
        }
        self._purse = Purse(BudgetMeter(settings.budget, log, models), self.stop)
        self._total = asyncio.Semaphore(settings.concurrency)
        self._outcomes = Outcomes(self.account, log)
        self._cut_short = ""  # why not all calls were taken
        self._busy: set[asyncio.Task[None]] = set()
        self._rng = random.Random()

    async def all(self, calls: Iterable[Call]) -> CallAccount:
        """Asks them all, or until something ends the run."""
        workers = [
            asyncio.create_task(self._work(lane))
            for lane in self._lanes.values()
            for _ in range(min(lane.model.concurrency, self._settings.concurrency))
        ]
        through = asyncio.create_task(self._through(calls, workers))
        stopped, watch = asyncio.create_task(self.stop.wait()), asyncio.create_task(self._watch.go_on())
        try:
            await asyncio.wait((through, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self.stop.is_set():
                through.cancel()
                await self._wait_for_busy()
        finally:
            for task in (through, stopped, watch, *workers):
                task.cancel()
            await asyncio.gather(through, stopped, watch, *workers, return_exceptions=True)
            await asyncio.to_thread(self._log.sync)
            self._close_account()
        if self.stop.error is not None:
            raise self.stop.error
        if refused := [str(lane.refused) for lane in self._lanes.values() if lane.refused is not None]:
            raise ConfigError("\n".join([*refused, f"All other answers are kept: {self.account.lines()[0]}."]))
        return self.account

    async def _through(self, calls: Iterable[Call], workers: Sequence[asyncio.Task[None]]) -> None:
        try:
            await self._feed(calls)
        except Exception as error:
            self.stop.set(f"{type(error).__name__}: {error}", error)
            return
        await asyncio.wait(workers)

    async def _feed(self, calls: Iterable[Call]) -> None:
        """Takes calls and hands them to their models' lanes."""
        used: dict[str, Lane] = {}
        for number, call in enumerate(calls):
            if self._outcomes.take(call):
                find_model(call, self._models)
                used[call.model] = lane = self._lanes[call.model]
                await lane.waiting.put(call)
            if number % _BREATH == 0:
                await asyncio.sleep(0)
                if used and all(lane.closed for lane in used.values()):  # the rest may be millions of calls
                    self._cut_short = "nobody is left to ask: " + ", ".join(lane.closed for lane in used.values())
                    break
        for lane in self._lanes.values():
            await lane.waiting.put(None)

    async def _work(self, lane: Lane) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self.stop.is_set() and (call := await lane.waiting.get()) is not None:
            self._busy.add(task)
            try:
                await self._deal(lane, call)
            except Exception as error:  # a fault of the run, not of a call: kept for the end
                self.stop.set(f"{type(error).__name__}: {error}", error)
            finally:
                self._busy.discard(task)
        if not self.stop.is_set():
            lane.waiting.put_nowait(None)  # for the next worker: there is room, one was just taken

    async def _deal(self, lane: Lane, call: Call) -> None:
        """Sees a call to its outcome, within the budget."""
        if lane.closed:
            self._outcomes.leave_out(call, lane.closed)
        elif (expected := await self._purse.take(call)) is not None:
            try:
                await self._ask(lane, call)
            finally:
                self._purse.give_back(expected)
        elif not self.stop.is_set():
            self._outcomes.leave_out(call, BUDGET)

    async def _ask(self, lane: Lane, call: Call) -> None:
        """Attempts until there is an outcome; without one where the run is stopped."""
        tries = Tries(self._settings)
        while await self._may_ask(lane, call):
            wait_s = 0.0
            try:
                if await self._attempt(lane, call, tries):
                    return
                continue
            except UnusableAnswer as error:
                reason, final = error.reason, tries.unusable >= self._settings.unusable_tries
            except CallError as error:
                if lane.is_fatal(error):
                    lane.refuse(error)
                    continue  # to where a closed lane's calls are left out
                lane.hear(error)
                reason, final = error.reason, tries.count(error)
                wait_s = backoff_s(tries.faults, self._settings, self._rng)
                if final:
                    self._give_up(lane, call, error, tries.made)
            if final:
                self._outcomes.fail(call, reason)
                return
            self.account.retried[reason] += 1
            await self._sleep(lane, wait_s)

    async def _may_ask(self, lane: Lane, call: Call) -> bool:
        """Waits as long as the server asked; False where the call is not to be asked (any more)."""
        while not self.stop.is_set() and not lane.closed and (wait_s := lane.held_s()) > 0:
            await self._sleep(lane, wait_s + lane.spread_s())
        if self.stop.is_set():
            return False
        if lane.closed:
            self._outcomes.leave_out(call, lane.closed)
        return not lane.closed

    async def _sleep(self, lane: Lane, seconds: float) -> None:
        """Some seconds, or until the run or the lane is at its end."""
        until = time.monotonic() + seconds
        while not (self.stop.is_set() or lane.closed) and (left_s := until - time.monotonic()) > 0:
            await self.stop.sleep(min(left_s, _NAP_S))

    async def _attempt(self, lane: Lane, call: Call, tries: Tries) -> bool:
        """One attempt: True when the answer is in the log, an error where there is none, False where it has to wait after all."""
        answer, cost = None, None
        try:
            async with self._total:
                if self.stop.is_set() or lane.held_s() > 0:  # since it queued up here
                    return False
                tries.made += 1
                lane.begins()
                began = time.monotonic()
                answer = await self._answer_in_time(lane, call)
            lane.answered()
            cost = cost_of(lane.model, answer)
            self.account.pay(answer, cost)
            check_answer(answer)
            self._accept(call, answer)
        except UnusableAnswer as error:
            tries.unusable += 1
            final = tries.unusable >= self._settings.unusable_tries
            self._log.append_failure(
                call,
                reason=error.reason,
                message=str(error),
                final=final,
                attempts=tries.made,
                answer=answer,
                cost=cost,
            )
            raise
        self._log.append(call, answer, seconds=time.monotonic() - began, attempts=tries.made, cost=cost)
        self._outcomes.answered(call)
        return True

    async def _answer_in_time(self, lane: Lane, call: Call) -> Answer:
        self._watch.under_way += 1
        try:
            return await asyncio.wait_for(lane.model.answer(call), self._settings.timeout_s)
        except asyncio.TimeoutError:
            message = f"{call.model}: no answer in {self._settings.timeout_s:g} s"
            raise CallError("time-out", message, retry=True) from None
        except asyncio.CancelledError:
            if was_cancelled():
                raise
            message = f"{call.model}: CancelledError, which nobody asked for"  # would end this worker unseen
            raise CallError("raised CancelledError", message, retry=False) from None
        finally:
            self._watch.under_way -= 1

    def _give_up(self, lane: Lane, call: Call, error: CallError, attempts: int) -> None:
        self._log.append_failure(call, reason=error.reason, message=str(error), final=True, attempts=attempts)
        lane.gave_up(error)

    async def _wait_for_busy(self) -> None:
        """Lets calls under way finish, for some seconds."""
        _logger.warning("stopping (%s): waiting for %d calls under way", self.stop.reason, len(self._busy))
        hurry = asyncio.create_task(self.stop.at_once.wait())
        waited_until = time.monotonic() + self._settings.grace_s
        while (busy := set(self._busy)) and not hurry.done() and (left := waited_until - time.monotonic()) > 0:
            await asyncio.wait({*busy, hurry}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()

    def _close_account(self) -> None:
        self._outcomes.close(STOPPED)
        self.account.stopped = self.stop.reason or self._purse.empty or self._cut_short
        self._watch.show()
