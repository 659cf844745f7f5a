"""What calls cost: prices, a budget that stops a run in time, and an estimate of a run before it is paid for.

A budget counts what earlier runs spent, from the log. For a call under way an estimate is set aside, so that the budget
is overshot by at most what the calls under way cost more than was estimated.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrm.construction.calling import token_estimates
from mrm.construction.calling.calls import Answer, Call, Model
from mrm.errors import ConfigError

if TYPE_CHECKING:
    from mrm.construction.calling.answer_log import AnswerLog

_MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """Money for a million tokens, in any one currency.

    Raises:
        ConfigError: for what is no amount of money.
    """

    input: float
    output: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(amount) and amount >= 0 for amount in (self.input, self.output)):
            raise ConfigError(
                f"price: input={self.input}, output={self.output} must be at least 0, per million tokens."
            )

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Money for some tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / _MILLION


@dataclass(frozen=True)
class Spent:
    """What some calls took.

    Args:
        calls: answers paid for, the unusable ones too.
        input_tokens, output_tokens: of all of them.
        cost: money, as far as prices were known.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
        )

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Budget:
    """What may be spent in all, earlier runs into the same log included; None sets no limit.

    Args:
        money: in the currency of the prices.
        tokens: input and output together.

    Raises:
        ConfigError: for what is no budget.
    """

    money: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name, amount in (("money", self.money), ("tokens", self.tokens)):
            if amount is not None and not (math.isfinite(amount) and amount >= 0):
                raise ConfigError(f"budget.{name}={amount}: must be at least 0; null sets no limit.")


class BudgetMeter:
    """Spends a budget.

    Args:
        budget: the limits.
        log: gives what was spent, and what answers of a kind take.
        models: those that will be asked.

    Raises:
        ConfigError: for a budget in money and a model without a price.
    """

    def __init__(self, budget: Budget, log: AnswerLog, models: Mapping[str, Model]) -> None:
        unpriced = sorted(name for name, model in models.items() if price_of(model) is None)
        if budget.money is not None and unpriced:
            raise ConfigError(
                f"a budget in money ({budget.money:g}) needs the price of each model, and there is none for {', '.join(unpriced)}; "
                "give price_input and price_output (0 for one of your own), or a budget in tokens."
            )
        self._budget, self._log, self._models = budget, log, models
        self._reserved = Spent()

    def estimate(self, call: Call) -> Spent:
        """What a call is expected to take."""
        if self._budget.money is None and self._budget.tokens is None:
            return Spent()  # nobody asks: spares opening images
        return estimate_call(call, self._models[call.model], self._log)

    def reserve(self, expected: Spent) -> bool:
        """Sets an estimate aside; False where the budget does not hold that much."""
        total = self._log.spent + self._reserved + expected
        over_money = self._budget.money is not None and total.cost > self._budget.money
        over_tokens = self._budget.tokens is not None and total.tokens > self._budget.tokens
        if over_money or over_tokens:
            return False
        self._reserved += expected
        return True

    def release(self, expected: Spent) -> None:
        """Gives an estimate back, when the log knows what the call took."""
        self._reserved += Spent(-expected.calls, -expected.input_tokens, -expected.output_tokens, -expected.cost)

    def told(self) -> str:
        """What was spent of what, in words."""
        spent, parts = self._log.spent, []
        if self._budget.money is not None:
            parts.append(f"{spent.cost:,.2f} of {self._budget.money:,.2f} in money")
        if self._budget.tokens is not None:
            parts.append(f"{spent.tokens:,} of {self._budget.tokens:,} tokens")
        return " and ".join(parts)


def price_of(model: Model) -> Price | None:
    """A model's price; None where it has none."""
    return getattr(model, "price", None)


def cost_of(model: Model, answer: Answer) -> float | None:
    """Money for an answer; None where the model has no price."""
    price = price_of(model)
    return price.of(answer.input_tokens, answer.output_tokens) if price else None


def estimate_call(call: Call, model: Model, log: AnswerLog) -> Spent:
    """What one call is expected to take; output as the log's answers of its model and kind did on average."""
    known = log.answered_by(call.model, call.kind)
    mean = known.output_tokens / known.calls if known.calls else None
    taken = token_estimates.input_tokens(call.chat, getattr(model, "max_image_pixels", None))
    given = token_estimates.output_tokens(call.kind, mean, getattr(model, "max_tokens", None))
    price = price_of(model)
    return Spent(1, taken, given, price.of(taken, given) if price else 0.0)


@dataclass(frozen=True)
class Estimate:
    """A dry run's result.

    Args:
        asked: by (model, kind): what the calls that are not answered yet are expected to take.
        reused: by (model, kind): calls that the log answers, or that come twice.
        unpriced: models without a price; their cost is not counted.
    """

    asked: Mapping[tuple[str, str], Spent]
    reused: Mapping[tuple[str, str], int]
    unpriced: tuple[str, ...]

    @property
    def total(self) -> Spent:
        return sum(self.asked.values(), Spent())


def estimate(calls: Iterable[Call], models: Mapping[str, Model], log: AnswerLog) -> Estimate:
    """What a run would take; asks nobody. Each call is made and its images are looked at, as in a run.

    Raises:
        ConfigError: for a call to a model that is not there.
    """
    asked: dict[tuple[str, str], Spent] = defaultdict(Spent)
    reused: dict[tuple[str, str], int] = defaultdict(int)
    seen: set[bytes] = set()
    for call in calls:
        digest, place = bytes.fromhex(call.key), (call.model, call.kind)
        if digest in seen or call.key in log:
            reused[place] += 1
        else:
            asked[place] += estimate_call(call, find_model(call, models), log)
        seen.add(digest)
    unpriced = sorted({model for model, _ in asked if price_of(models[model]) is None})
    return Estimate(dict(asked), dict(reused), tuple(unpriced))


def find_model(call: Call, models: Mapping[str, Model]) -> Any:
    """The model that a call asks.

    Raises:
        ConfigError: if it is not there.
    """
    if call.model not in models:
        known = ", ".join(sorted(models)) or "none"
        raise ConfigError(f"call {call.key} of record {call.record!r} asks {call.model!r}; there are: {known}.")
    return models[call.model]
