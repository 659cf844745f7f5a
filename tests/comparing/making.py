"""Runs that never ran, for the tests of the comparison."""

from __future__ import annotations

from typing import Any

from mrm.comparing.records import RunRecord, comparable

FLIP = "data.datasets.open.options.flip_rate"


def made_run(
    experiment: str,
    seed: int,
    tests: dict[str, float] | None = None,
    *,
    config: dict[str, Any] | None = None,
    **values: Any,
) -> RunRecord:
    """A run.

    Args:
        experiment, seed: of its tags.
        tests: test set -> accuracy.
        config: keys beside those that all have.
        values: fields of the record; `metrics` beside the accuracies.
    """
    number = values.pop("number", 0)
    flat = {"experiment": experiment, "scale": "embedded", "seed": seed, "optim.lr": 1e-4, **(config or {})}
    metrics = {f"test/{name}/accuracy": value for name, value in (tests or {}).items()}
    name = f"{experiment}-s{seed}-{number}"
    return RunRecord(
        **{
            "run_id": f"{name}-{abs(hash(tuple(sorted(comparable(flat).items()))))}",
            "name": name,
            "experiment": experiment,
            "seed": seed,
            "scale": "embedded",
            "started": number,
            "config": comparable(flat),
            **values,
            "metrics": {**metrics, **values.get("metrics", {})},
        }
    )
