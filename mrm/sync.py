"""`python -m mrm.sync run=DIR`: gives MLflow what it lacks of a run, such as after its server was away at the run's end.

A run's folder has all that MLflow is given: figures by step with the times that they were measured at, configuration, data sets, ledgers,
results, and the model. What the store has already is not written twice. Several runs are written run=[A,B]. mlflow=ADDRESS gives them to
another store than the one that they were tracked in, as runs of their own there. A run that has not finished gets its figures so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING
from rich.console import Console

from mrm.cli import settings_command
from mrm.config import RunConfig
from mrm.curate_config import file_names
from mrm.errors import ConfigError, MrmError
from mrm.mlflow_logger import PatientMLFlowLogger
from mrm.mlflow_run import finish_mlflow, log_data
from mrm.run_dirs import LOCK_FILE, close_run_dir, lock_run_dir, read_config, read_state
from mrm.run_record import read_data
from mrm.sweeps.membership import Membership
from mrm.tracking import start_mlflow


@dataclass
class SyncConfig:
    """What the command takes."""

    run: Any = MISSING  # a run's folder; several: [A,B]
    mlflow: str | None = None  # a store's address; null takes that of the run's configuration
    experiment_name: str | None = None  # MLflow's experiment in it; null as mlflow
    log_model: bool | None = None  # whether the saved model is copied; null copies one of up to 1 GB


def sync(folder: Path, config: SyncConfig) -> PatientMLFlowLogger:
    """Gives a store what it lacks of one run.

    Args:
        folder: the run's.
        config: where to.

    Returns:
        What the run is tracked by.

    Raises:
        ConfigError: for a folder that is no run's, or whose run goes on; for a store that cannot be opened.
        LedgerError: for a ledger that cannot be read.
    """
    settings = _settings(folder, config)
    if not lock_run_dir(folder):
        raise ConfigError(f"run={str(folder)!r}: is running, it holds {folder / LOCK_FILE}; wait for it or end it.")
    try:
        state = read_state(folder)
        logger = start_mlflow(settings, folder, Membership(state["sweep"]) if state.get("sweep") else None)
        data = read_data(folder)
        if data is not None:
            log_data(logger, data.accounts, data.fingerprint)
        if state.get("finished"):
            finish_mlflow(logger, folder, model=config.log_model)
        else:
            logger.finalize("KILLED")
        return logger
    finally:
        close_run_dir(folder)


def _settings(folder: Path, config: SyncConfig) -> RunConfig:
    """The run's configuration, with the store that is asked for."""
    if not read_state(folder):
        raise ConfigError(f"run={str(folder)!r}: is no run's folder; give one with a run.json.")
    found = read_config(folder)
    mlflow = config.mlflow if config.mlflow is not None else found.logger.mlflow
    name = config.experiment_name if config.experiment_name is not None else found.logger.experiment_name
    return replace(found, logger=replace(found.logger, mlflow=mlflow, experiment_name=name))


def run(config: SyncConfig) -> None:
    """Gives the store all runs that are named, and says what became of each.

    Raises:
        ConfigError: naming those that it could not be given, once the others are there.
    """
    folders = [Path(name).expanduser().resolve() for name in file_names(config.run)]
    console, problems = Console(), []
    for folder in folders:
        try:
            logger = sync(folder, config)
        except MrmError as error:
            problems.append(str(error))
            continue
        if logger.lacks:
            problems.append(f"run={str(folder)!r}: {logger.tracking_uri} still lacks something, see above; try again.")
        else:
            told = f"{folder.name} is in {logger.tracking_uri} as run {logger.run_id}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)
    if problems:
        raise ConfigError("\n".join(problems))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(SyncConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
