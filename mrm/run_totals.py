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
    told = results.get("evaluation")
    if told:
        found |= {
            "evaluation/times": float(told["evaluations"]),
            "evaluation/stopped_early": float(told["stopped_early"]),
        }
        chosen = told["best"]
        if chosen is not None:
            found |= {"evaluation/best_step": float(chosen["step"])}
            found |= {"evaluation/best_value": float(chosen["figures"][chosen["metric"]])}
    return found
