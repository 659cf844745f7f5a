"""The noise that each round estimated from the scores, with its error, beside the true noise where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from callbacks.report_sources import ALL

Z = 1.96  # 95 % intervals
WIDTH = 120.0  # user units of the drawn interval


@dataclass(frozen=True)
class NoiseRow:
    """Shares of wrong labels in use before a round, in [0, 1]; None where not known.

    Args:
        round: its number. source: whose pairs, or all.
        estimate: from the scores. low, high: its 95 % interval, cut to [0, 1].
        unknown: why there is no estimate.
        true_before, true_after: before and after the round, where the truth is known.
        x: places of low, estimate, high and true_before in a picture of `WIDTH` units, None where not known.
    """

    round: int
    source: str
    estimate: float | None
    low: float | None
    high: float | None
    unknown: str
    true_before: float | None
    true_after: float | None
    x: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)


def noise_rows(rounds: Sequence[Mapping[str, Any]]) -> list[NoiseRow]:
    """One row an estimate: of each round, and of its sources that have one of their own.

    Args:
        rounds: the rounds' records; those without `noise_estimate` or `noise_estimate_unknown` give no row.
    """
    rows = []
    for record in rounds:
        groups = [(ALL, record), *(record.get("sources") or {}).items()]
        rows += [_row(int(record["round"]), name, group) for name, group in groups if _tried(group)]
    ends = [value for row in rows for value in (row.high, row.true_before) if value is not None]
    scale = WIDTH / max([*ends, 0.01])
    return [_placed(row, scale) for row in rows]


def _tried(group: Mapping[str, Any]) -> bool:
    return group.get("noise_estimate") is not None or bool(group.get("noise_estimate_unknown"))


def _row(number: int, source: str, group: Mapping[str, Any]) -> NoiseRow:
    estimate, error = group.get("noise_estimate"), group.get("noise_estimate_error")
    told = estimate is not None and error is not None
    return NoiseRow(
        number,
        source,
        estimate,
        max(estimate - Z * error, 0.0) if told else None,
        min(estimate + Z * error, 1.0) if told else None,
        str(group.get("noise_estimate_unknown") or ""),
        group.get("noise_before"),
        group.get("noise_after"),
    )


def _placed(row: NoiseRow, scale: float) -> NoiseRow:
    values = (row.low, row.estimate, row.high, row.true_before)
    low, estimate, high, true = (None if value is None else round(value * scale, 1) for value in values)
    return replace(row, x=(low, estimate, high, true))
