"""Puts runs into an MLflow store as `mrm.tracking` does, without training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from mrm.comparing.records import RunRecord
from mrm.config import RunConfig, to_yaml
from mrm.run_dirs import CONFIG_FILE, identity
from mrm.tracking import VALUE_LIMIT


def open_store(uri: str, experiment: str = "mrm", artifacts: str | None = None) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; made where it is new."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client, found.experiment_id if found else client.create_experiment(experiment, artifacts)


def put(
    client: MlflowClient,
    experiment: str,
    config: RunConfig,
    metrics: dict[str, float],
    *,
    history: dict[str, list[tuple[int, float]]] | None = None,
    files: dict[str, Path] | None = None,
    status: str | None = "FINISHED",
    folder: Path | None = None,
    tags: dict[str, str] | None = None,
    scratch: Path,
) -> str:
    """Writes a run as a training would leave it.

    Args:
        client, experiment: of `open_store`.
        config: what it ran.
        metrics: name -> last value. history: name -> (step, value) of those with several.
        files: artifacts beside config.yaml, by name.
        status: None leaves it running.
        folder: the run's, for its tag.
        scratch: a folder for files on their way.

    Returns:
        The run's id.
    """
    name = f"{config.experiment}-s{config.seed}"
    told: dict[str, str] = {
        **{"experiment": config.experiment, "scale": config.scale, "seed": str(config.seed), "git_commit": "c0ffee"},
        **{"run_dir": str(folder or "/nowhere"), **(tags or {})},
    }
    run_id = client.create_run(experiment, run_name=name, tags=told).info.run_id
    params = []
    for key, value in identity(config).items():
        text = str(value)
        params.append(Param(key, text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 3] + "..."))
    points = [(key, value, 0) for key, value in metrics.items()]
    points += [(key, value, step) for key, series in (history or {}).items() for step, value in series]
    logged = [Metric(key, value, number, step) for number, (key, value, step) in enumerate(points)]
    client.log_batch(run_id, metrics=logged)
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    path = scratch / CONFIG_FILE
    path.write_text(to_yaml(config))
    for file in (path, *(files or {}).values()):
        client.log_artifact(run_id, str(file))
    if status:
        client.set_terminated(run_id, status)
    return run_id


def record_values(record: RunRecord) -> dict[str, Any]:
    """What two readings of a run must agree in."""
    return {"experiment": record.experiment, "seed": record.seed, "config": record.config, "metrics": record.metrics}
