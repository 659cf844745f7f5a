"""Any callable as a model, sync or async: `(Call) -> str | Answer`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mrm.construction.calling import token_estimates
from mrm.construction.calling.budget import Price
from mrm.construction.calling.calls import Answer, Call, CallError, UnusableAnswer
from mrm.construction.calling.server_requests import MOST_TOKENS
from mrm.errors import ConfigError


class CallableModel:
    """A callable as a `Model`. A sync one runs in threads of its own, so that it does not hold up other calls.

    Args:
        name: unique in a run.
        function: takes a `Call`, gives a text or an `Answer`, or an awaitable of one. It may raise `CallError` and
            `UnusableAnswer`; any other error gives the call up, and the run goes on.
        identity: what decides its answers, JSON-able; change it when the callable changes, else old answers are reused.
        concurrency: calls at once, at most.
        price: money per million tokens; None where nobody knows.

    Raises:
        ConfigError: for settings that cannot be.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Call], Any],
        *,
        identity: Mapping[str, Any],
        concurrency: int = 8,
        price: Price | None = None,
    ) -> None:
        if concurrency < 1 or not callable(function):
            raise ConfigError(f"model {name!r}: function must be callable, and concurrency={concurrency} at least 1.")
        self.name, self.identity, self.concurrency, self.price = name, identity, concurrency, price
        self._function = function
        # An object whose call is async is found by its type's.
        self._is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))

    async def answer(self, call: Call) -> Answer:
        """See `Model.answer`."""
        try:
            result = await self._function(call) if self._is_async else await _in_thread(self._function, call)
            if inspect.isawaitable(result):
                result = await result
        except (CallError, UnusableAnswer, ConfigError):
            raise
        except (Exception, SystemExit) as error:
            message = f"model {self.name!r}: {type(error).__name__}: {error}"
            raise CallError(f"raised {type(error).__name__}", message, retry=False) from error
        if isinstance(result, str):
            result = Answer(result)
        if isinstance(result, Answer):
            return self._counted(call, result)
        message = f"model {self.name!r} gave a {type(result).__name__}; it must give a text or an Answer."
        raise CallError("no answer", message, retry=False, fatal=True)

    def _counted(self, call: Call, answer: Answer) -> Answer:
        """With estimates where it has a price and says no tokens: else no budget in money would hold."""
        counts = answer.input_tokens, answer.output_tokens
        if not isinstance(answer.text, str) or not all(_is_count(count) for count in counts):
            message = f"model {self.name!r} gave an Answer whose text is no str or whose tokens are no counts: {counts!r:.100}"
            raise CallError("no answer", message, retry=False, fatal=True)
        if any(counts) or self.price is None or not (self.price.input or self.price.output):
            return answer
        taken, given = token_estimates.input_tokens(call.chat), token_estimates.text_tokens(answer.text)
        return replace(answer, input_tokens=taken, output_tokens=given)


def _is_count(count: object) -> bool:
    return isinstance(count, int) and 0 <= count <= MOST_TOKENS


async def _in_thread(function: Callable[[Call], Any], call: Call) -> Any:
    """Runs a sync callable beside the event loop.

    In a daemon thread: one that hangs is given up at the time limit, and keeps neither the run nor the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: Any = None
        problem: Exception | None = None
        try:
            result = function(call)
        except StopIteration as error:  # which a future cannot carry
            problem = RuntimeError(f"StopIteration: {error}")
        except Exception as error:
            problem = error
        except BaseException as error:  # SystemExit would end this thread alone, and the call would wait for ever
            name = type(error).__name__
            problem = CallError(f"raised {name}", f"{call.model}: {name}: {error}", retry=False)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=work, daemon=True, name="mrm-callable").start()
    return await future
