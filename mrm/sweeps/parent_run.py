"""The MLflow run of a sweep: the parent of its members' runs.

It is a help to look at them; a sweep goes on where it cannot be written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mrm.code_state import git_commit
from mrm.config import RunConfig
from mrm.errors import ConfigError
from mrm.sweeps.members import FAILED, FINISHED, INTERRUPTED, Member
from mrm.tracking import VALUE_LIMIT, opening, tracking_uri

STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", INTERRUPTED: "KILLED"}
ROLE = {"role": "sweep"}  # tells it from the runs that train

log = logging.getLogger(__name__)


def store_of(config: RunConfig) -> dict[str, str]:
    """Store and experiment that a member's run goes to."""
    return {"tracking_uri": tracking_uri(config), "experiment": config.logger.experiment_name}


def open_parent(config: RunConfig, folder: Path, command: Sequence[str], earlier: str | None) -> dict[str, str] | None:
    """Makes the run, or opens the one that the sweep has already.

    Args:
        config: of a member, whose store and experiment are used.
        folder: the sweep's.
        command: words of the command line.
        earlier: id of the run that an earlier command made.

    Returns:
        tracking_uri, experiment and run_id; None where it cannot be written.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    store = store_of(config)
    tags = {
        **ROLE,
        "sweep": folder.name,
        "sweep_folder": str(folder),
        "command": " ".join(command)[:VALUE_LIMIT],
        "git_commit": git_commit(),
    }
    try:
        with opening(config) as artifacts:
            client = MlflowClient(store["tracking_uri"])
            if earlier is not None:
                try:
                    client.update_run(earlier, status="RUNNING")
                    return {**store, "run_id": earlier}
                except MlflowException as error:
                    log.warning("The sweep's earlier run in MLflow is not found, it gets a new one: %s", error)
            found = client.get_experiment_by_name(store["experiment"])
            made = found.experiment_id if found else client.create_experiment(store["experiment"], artifacts)
            return {**store, "run_id": client.create_run(made, run_name=folder.name, tags=tags).info.run_id}
    except (ConfigError, OSError) as error:
        log.warning("The sweep gets no run of its own in MLflow: %s", error)
        return None


def close_parent(parent: dict[str, str], state: str, members: Sequence[Member], record: Path | None) -> None:
    """Closes the run, and adds the members' numbers and the record.

    Args:
        parent: as `open_parent` gave it.
        state: of the sweep.
        members: all of the command.
        record: `sweep.json`; None where it does not tell of the sweep's end.
    """
    from mlflow.tracking import MlflowClient

    run_id = parent["run_id"]
    try:
        client = MlflowClient(parent["tracking_uri"])
        client.set_terminated(run_id, STATUS[state])  # first: the rest may find no room
        client.log_metric(run_id, "members", len(members))
        for name in (FINISHED, FAILED, INTERRUPTED):
            client.log_metric(run_id, name, sum(member.state == name for member in members))
        if record is not None:
            client.log_artifact(run_id, str(record))
    except Exception as error:  # of MLflow, a database or the network; all of it stands in the record too
        log.warning("The sweep's run in MLflow is not up to date: %s", error)
