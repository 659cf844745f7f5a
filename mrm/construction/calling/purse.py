"""The budget of a run under way: what each call is expected to take is set aside until it is known."""

from __future__ import annotations

import asyncio
import logging

from mrm.construction.calling.budget import BudgetMeter, Spent
from mrm.construction.calling.calls import Call
from mrm.construction.calling.stopping import Stop

log = logging.getLogger(__name__)


class Purse:
    """Lets calls begin as long as the budget holds them.

    Args:
        meter: the budget.
        stop: of the run; who waits for money is let go by it.

    Attributes:
        empty: in words, that the budget is reached; "" while it is not. Then it stays so for the run.
    """

    def __init__(self, meter: BudgetMeter, stop: Stop) -> None:
        self.empty = ""
        self._meter, self._stop = meter, stop
        self._holding = 0
        self._returned = asyncio.Event()

    async def take(self, call: Call) -> Spent | None:
        """What is set aside for a call, to be given back; None where the budget or the run is at its end.

        A call that does not fit waits for those under way, which mostly take less than was set aside.
        """
        if self.empty:
            return None
        expected = self._meter.estimate(call)
        while not self._stop.is_set() and not self.empty:
            if self._meter.reserve(expected):
                self._holding += 1
                return expected
            if not self._holding:
                self.empty = f"budget reached: {self._meter.told()}"
                log.warning(
                    "%s; the next call may take more than is left. Raise the budget and start again.", self.empty
                )
                break
            await self._wait()
        return None

    def give_back(self, expected: Spent) -> None:
        """Ends what `take` began: the log knows by now what the call took."""
        self._meter.release(expected)
        self._holding -= 1
        self._returned.set()
        self._returned = asyncio.Event()

    async def _wait(self) -> None:
        returned = asyncio.ensure_future(self._returned.wait())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((returned, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            returned.cancel()
            stopped.cancel()
