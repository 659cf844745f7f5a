"""One model's side of a run: its waiting calls, how long the server asked to be left alone, and whether it is up."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from mrm.construction.calling.calls import Call, CallError, Model
from mrm.construction.calling.run_settings import NO_CREDIT, RunSettings

_SPREAD_S = 0.5  # those that waited for one moment must not all come at it

log = logging.getLogger(__name__)


class Lane:
    """One model in a run.

    Args:
        model: the model.
        settings: the run's.
        has_answered: whether an earlier run has answers of it.

    Attributes:
        waiting: calls that were taken and not begun; None ends a worker.
        closed: why no further call is begun ("outage of NAME", "NAME refused"); "" while they are.
        refused: the fault that makes all further calls fail, of a setting that a person has to mend; None where there is none.
    """

    def __init__(self, model: Model, settings: RunSettings, *, has_answered: bool = False) -> None:
        self.model = model
        self.waiting: asyncio.Queue[Call | None] = asyncio.Queue(settings.ahead)
        self.closed = ""
        self.refused: CallError | None = None
        self._settings = settings
        self._held_until = 0.0
        self._rng = random.Random()  # of its own: a run beside a training must not move the training's chance
        self._given_up = 0  # calls, since the last answer
        self._last_answer: float | None = None  # or when it was first asked
        self._has_answered, self._refused = has_answered, 0

    def begins(self) -> None:
        """An attempt begins."""
        if self._last_answer is None:
            self._last_answer = time.monotonic()

    def held_s(self) -> float:
        """Seconds until the next attempt may be made; 0 or less where it may now."""
        return self._held_until - time.monotonic()

    def spread_s(self) -> float:
        """A random further wait for those that were held back together."""
        return self._rng.uniform(0, min(_SPREAD_S, self._settings.base_s))

    def hear(self, error: CallError) -> None:
        """Obeys what a fault says for all calls of the model."""
        if error.replied:
            self._is_up()
        if error.retry_after is None:
            return
        longest_s = self._settings.longest_wait_s
        if error.retry_after > longest_s and self.held_s() <= 0:
            log.warning(
                "%s asks to wait %.0f s; it is asked again in %.0f s.", self.model.name, error.retry_after, longest_s
            )
        self._held_until = max(self._held_until, time.monotonic() + min(longest_s, error.retry_after))

    def is_fatal(self, error: CallError) -> bool:
        """Whether a fault is that of every call to the model: one record may be refused as if a setting were wrong."""
        if not error.fatal:
            return False
        self._refused += 1
        return error.reason == NO_CREDIT or not self._has_answered or self._refused >= self._settings.refusals

    def answered(self) -> None:
        """An answer came, usable or not: the model is up."""
        self._is_up()
        self._has_answered, self._refused = True, 0

    def _is_up(self) -> None:
        self._given_up, self._last_answer = 0, time.monotonic()

    def gave_up(self, error: CallError) -> None:
        """A call was given up for a fault; many in a row over some time are an outage."""
        if not error.retry:
            return
        self._given_up += 1
        silent_s = time.monotonic() - (self._last_answer or 0.0)
        if self._given_up >= self._settings.outage_calls and silent_s >= self._settings.outage_s:
            self._close(f"outage of {self.model.name}", error)

    def refuse(self, error: CallError) -> None:
        """Every further call would fail as this one did: none is begun. The other models go on."""
        if self.refused is None:
            self.refused = error
            self._close(f"{self.model.name} refused", error)

    def _close(self, reason: str, error: CallError) -> None:
        if not self.closed:
            self.closed = reason
            log.warning(
                "%s: no further call to it in this run; the next one asks them. The last fault: %s", reason, error
            )
