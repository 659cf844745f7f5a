"""In which order a judge is shown the responses, the way back, and whether a place was favoured.

An order is a tuple over places: `order[place]` is the number of the response shown there. Drawing one is a hash, so that
any process, and any version of Python, draws the same one for the same call. Pure functions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mrm.construction.style import accuracy_interval

T = TypeVar("T")


def shown_order(n: int, seed: int, key: str, judge: str, repeat: int = 0) -> tuple[int, ...]:
    """The order in which a judge is shown the responses of one record.

    The first asking never shows the given order where there is another, and is uniform over the others; each further one
    shows an order that was not shown before, until all were. Two responses are so shown exchanged, then as given.

    Args:
        n: number of responses, at least 1.
        seed: of the run.
        key: of the record.
        judge: its name; judges see different orders.
        repeat: 0, 1, ...: how often it was asked before.
    """
    if n < 1 or repeat < 0:
        raise ValueError(f"n={n}, repeat={repeat}: an order needs a response, and a repeat of at least 0.")
    repeat %= math.factorial(n)
    given = tuple(range(n))
    drawn: list[tuple[int, ...]] = []
    draw = 0
    while len(drawn) <= repeat:
        order = tuple(sorted(given, key=lambda i, d=draw: _digest(seed, key, judge, d, i)))  # type: ignore[misc]
        if order not in drawn and (drawn or n == 1 or order != given):
            drawn.append(order)
        draw += 1
    return drawn[repeat]


def shuffle(values: Sequence[T], order: Sequence[int]) -> list[T]:
    """[K] values by place, of [K] values by response number."""
    _check_order(values, order)
    return [values[number] for number in order]


def unshuffle(values: Sequence[T], order: Sequence[int]) -> list[T]:
    """[K] values by response number, of [K] values by place: the inverse of `shuffle`."""
    _check_order(values, order)
    by_number = dict(zip(order, values, strict=True))
    return [by_number[number] for number in range(len(order))]


@dataclass(frozen=True)
class PositionBias:
    """Whether one judge favours a place.

    Args:
        calls: askings that were counted.
        left_out: askings without a score for each of at least two responses.
        first_wins: share in which the response shown first has the highest score, a tie among m counting 1 / m; NaN
            without calls.
        low, high: its 95 % interval; askings about one record count as what they are, not as independent.
        expected: mean of 1 / K: the share without a bias, where orders say nothing about quality.
        mean_by_place: mean overall score by place, from the first.
        calls_by_place: how many scores are behind each.
        repeated: times that a record was asked again in another order.
        changed: share of these in which the winner was another one; where there are ties, one minus the share of common
            winners among all winners. NaN without repeats.
        changed_low, changed_high: its 95 % interval.
    """

    calls: int
    left_out: int
    first_wins: float
    low: float
    high: float
    expected: float
    mean_by_place: tuple[float, ...]
    calls_by_place: tuple[int, ...]
    repeated: int
    changed: float
    changed_low: float
    changed_high: float


def position_bias(
    orders: Sequence[Sequence[int]], overalls: Sequence[Sequence[float | None]], records: Sequence[str]
) -> PositionBias:
    """Measures one judge over its listwise askings.

    Args:
        orders: [N] the order shown in each, place -> response number.
        overalls: [N] the overall scores of each, by response number; None where there is none.
        records: [N] which record each is about; equal for the same responses asked in another order.
    """
    counted = [
        (record, tuple(order), [float(score) for score in scores if score is not None])
        for record, order, scores in zip(records, orders, overalls, strict=True)
        if len(order) > 1 and all(score is not None for score in scores)
    ]
    codes = {record: code for code, record in enumerate(dict.fromkeys(record for record, _, _ in counted))}
    first: list[float] = []
    by_place: list[list[float]] = []
    asked: dict[str, tuple[tuple[int, ...], set[int]]] = {}
    changes: list[tuple[int, float]] = []
    for record, order, scores in counted:
        winners = {number for number, score in enumerate(scores) if score == max(scores)}
        first.append(1 / len(winners) if order[0] in winners else 0.0)
        for place, score in enumerate(shuffle(scores, order)):
            if place == len(by_place):
                by_place.append([])
            by_place[place].append(score)
        before = asked.get(record)
        if before is not None and before[0] != order:
            changes.append((codes[record], 1 - len(before[1] & winners) / len(before[1] | winners)))
        asked[record] = (order, winners)
    share, low, high = _share(first, [codes[record] for record, _, _ in counted])
    changed, changed_low, changed_high = _share([change for _, change in changes], [code for code, _ in changes])
    return PositionBias(
        calls=len(counted),
        left_out=len(orders) - len(counted),
        first_wins=share,
        low=low,
        high=high,
        expected=sum(1 / len(order) for _, order, _ in counted) / len(counted) if counted else math.nan,
        mean_by_place=tuple(sum(scores) / len(scores) for scores in by_place),
        calls_by_place=tuple(map(len, by_place)),
        repeated=len(changes),
        changed=changed,
        changed_low=changed_low,
        changed_high=changed_high,
    )


def _share(values: Sequence[float], groups: Sequence[int]) -> tuple[float, float, float]:
    if not values:
        return math.nan, math.nan, math.nan
    right = np.array(values, np.float64)
    return float(right.mean()), *accuracy_interval(right, np.array(groups, np.int64))


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _check_order(values: Sequence[object], order: Sequence[int]) -> None:
    if sorted(order) != list(range(len(values))):
        raise ValueError(f"order {tuple(order)} is not a permutation of {len(values)} places.")
