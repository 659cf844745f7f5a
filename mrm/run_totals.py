"""Figures of a whole run, as metrics: what results.json holds beside the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STARTS = "starts"
TOTALS = ("open_pairs", "active_pairs", STARTS, "seconds", "peak_memory_mib", "peak_gpu_memory_mib")


def totals(results: Mapping[str, Any]) -> dict[str, float]:
    """Metric -> figure.

    Args:
        results: of results.json.

    Returns:
        Pairs, starts, seconds, MiB; where it was evaluated while training: how many times, whether that stopped the training (1 or 0), and,
        where the best weights are kept, the best evaluation's step and figure.
    """
    found = {name: float(results[name]) for name in TOTALS if isinstance(results.get(name), (int, float))}
    told = results.get("evaluation") or {}
    chosen = told.get("best") or {}
    found |= {
        f"evaluation/{name}": float(value)
        for name, value in (
            ("times", told.get("evaluations")),
            ("stopped_early", told.get("stopped_early")),
            ("best_step", chosen.get("step")),
            ("best_value", chosen.get("figures", {}).get(chosen.get("metric"))),
        )
        if value is not None
    }
    return found
