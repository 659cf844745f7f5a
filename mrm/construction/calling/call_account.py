"""What became of a run's calls: every one is answered, reused, failed or not asked, and the four add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mrm.construction.calling.calls import Answer, Call

NAMED = 20  # failed calls named for each reason; failures.jsonl names all


@dataclass
class CallAccount:
    """The account of a run; grows while it goes on.

    Args:
        calls: taken from the iterable.
        answered: asked and accepted in this run.
        reused: answered by the log, or by an equal call of this run.
        failed: reason -> calls that were given up.
        named: reason -> the first of them, in words.
        not_asked: why ("budget", "stopped", "outage of NAME", ...) -> calls. A further run asks them.
        retried: reason -> attempts that were repeated.
        input_tokens, output_tokens, cost: paid for in this run, unusable answers included.
        seconds: of the run.
        stopped: why the run ended before its calls did; "" where it did not.
    """

    calls: int = 0
    answered: int = 0
    reused: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    not_asked: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    stopped: str = ""

    @property
    def done(self) -> int:
        """Calls that are dealt with."""
        return self.answered + self.reused + self.failed.total() + self.not_asked.total()

    @property
    def balanced(self) -> bool:
        return self.done == self.calls

    @property
    def complete(self) -> bool:
        """Whether every call that there was is answered or failed: a further run would only ask what failed."""
        return self.balanced and not self.stopped and not self.not_asked.total()

    def pay(self, answer: Answer, cost: float | None) -> None:
        """Counts what an answer took, usable or not."""
        self.input_tokens += answer.input_tokens
        self.output_tokens += answer.output_tokens
        self.cost += cost or 0.0

    def fail(self, call: Call, reason: str, record: str | None = None) -> None:
        """Counts a call that was given up; `record` is whose it was, where that is not the call's."""
        self.failed[reason] += 1
        names = self.named.setdefault(reason, [])
        if len(names) < NAMED:
            names.append(f"{record or call.record} ({call.kind}, {call.model}, repeat {call.repeat})")

    def to_json(self) -> dict[str, Any]:
        """The account as JSON types."""
        # Not dataclasses.asdict: it counts a Counter's items instead of copying them.
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    def lines(self) -> list[str]:
        """The account in words, a line a fact."""
        told = [
            f"{self.calls:,} calls: {self.answered:,} answered, {self.reused:,} reused, "
            f"{self.failed.total():,} failed, {self.not_asked.total():,} not asked",
            f"{self.input_tokens:,} input and {self.output_tokens:,} output tokens, cost {self.cost:,.2f}, "
            f"{self.seconds:,.0f} s",
        ]
        for reason, count in self.failed.most_common():
            named = ", ".join(self.named[reason][:3])
            told.append(f"failed, {reason}: {count:,}, such as {named}")
        told += [
            f"{title}: {_counts(counts)}"
            for title, counts in (("not asked", self.not_asked), ("repeated", self.retried))
            if counts
        ]
        return [*told, f"stopped: {self.stopped}"] if self.stopped else told


class Watcher(Protocol):
    """Anything that is shown a run's account while it goes on."""

    def update(self, account: CallAccount, under_way: int) -> None: ...


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
