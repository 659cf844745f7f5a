"""How a run asks: limits, tries and waits."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from mrm.construction.calling.budget import Budget
from mrm.construction.calling.calls import CallError
from mrm.errors import ConfigError

RATE_LIMIT = "rate limit"  # the reason of a CallError that says: later
NO_CREDIT = "no credit"  # that no call gets through any more


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run.

    Args:
        concurrency: calls at once over all models, at most; each model has its own limit beside it.
        timeout_s: seconds that one attempt may take.
        fault_tries: attempts at a call that meets faults (5xx, time-out, connection).
        rate_limit_tries: attempts at a call that is told to come later (429): a server's limit is no fault of the call, and
            with more calls at once than it allows each is told so several times.
        unusable_tries: attempts at a call whose answers cannot be used.
        base_s, longest_s: the n-th wait is drawn from 0 to min(longest_s, base_s x 2^(n-1)) seconds.
        longest_wait_s: a server that asks for more is asked again after it.
        refusals: a model that has answered is not asked again, and the run ends in its error, when as many calls in a row were
            refused as by a wrong setting; one that never has, at the first. The other models are asked all the same.
        outage_calls, outage_s: a model is not asked again in this run when as many calls in a row were given up for faults
            and as many seconds passed without an answer, so that the other models go on.
        ahead: calls taken from the iterable for each model before they are begun; their images are in memory.
        grace_s: seconds that calls under way may take to finish when the run is stopped.
        budget: what may be spent.

    Raises:
        ConfigError: for settings that cannot be.
    """

    concurrency: int = 256
    timeout_s: float = 600.0
    fault_tries: int = 6
    rate_limit_tries: int = 30
    unusable_tries: int = 3
    base_s: float = 1.0
    longest_s: float = 60.0
    longest_wait_s: float = 600.0
    refusals: int = 20
    outage_calls: int = 20
    outage_s: float = 120.0
    ahead: int = 256
    grace_s: float = 5.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        whole = (
            "concurrency",
            "fault_tries",
            "rate_limit_tries",
            "unusable_tries",
            "refusals",
            "outage_calls",
            "ahead",
        )
        problems = [f"{name}={getattr(self, name)}: must be at least 1" for name in whole if getattr(self, name) < 1]
        for name in ("base_s", "longest_s", "longest_wait_s", "outage_s", "grace_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                problems.append(f"{name}={getattr(self, name)}: must be at least 0, and finite")
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            problems.append(f"timeout_s={self.timeout_s}: must be above 0, and finite")
        if problems:
            raise ConfigError(f"running calls: {'; '.join(problems)}.")


def backoff_s(tries: int, settings: RunSettings, rng: random.Random) -> float:
    """Seconds before the next attempt: exponential, with full jitter.

    Args:
        tries: attempts that failed so far, from 1.
        settings: the run's.
        rng: the source of chance.
    """
    most = min(settings.longest_s, settings.base_s * 2.0 ** min(tries - 1, 60))
    return rng.uniform(0, most)


class Tries:
    """Attempts at one call, by how they ended.

    Attributes:
        made: attempts.
        unusable: of them, answers that could not be used.
        faults: of them, no answer; told to come later included.
        limited: of those, told to come later.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.made = self.unusable = self.faults = self.limited = 0
        self._settings = settings

    def count(self, error: CallError) -> bool:
        """Counts a fault; whether it was the last try."""
        limited = error.reason == RATE_LIMIT
        self.faults += 1
        self.limited += limited
        if not error.retry:
            return True
        if limited:
            return self.limited >= self._settings.rate_limit_tries
        return self.faults - self.limited >= self._settings.fault_tries
