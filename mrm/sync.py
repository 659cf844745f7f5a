"""`python -m mrm.sync run=DIR`: gives MLflow what it lacks of a run, such as after its server was away at the run's end.

A run's folder has all that MLflow is given: figures by step with the times that they were measured at, configuration, data sets, ledgers,
results, and the model. What the store has already is not written twice. Several runs are written run=[A,B]. mlflow=ADDRESS gives them to
another store than the one that they were tracked in, as runs of their own there. A run that has not finished gets its figures so far.

All of it: docs/tracking.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import MISSING
from rich.console import Console

from mrm.cli import settings_command
from mrm.config import RunConfig
from mrm.curate_config import file_names
from mrm.errors import ConfigError, MrmError, ResumableError
from mrm.history import read_history
from mrm.mlflow_logger import PatientMLFlowLogger
from mrm.mlflow_run import give_files, log_data, read_end
from mrm.run_dirs import LOCK_FILE, RESULTS_FILE, close_run_dir, lock_run_dir, read_config, read_state
from mrm.run_record import read_data, read_starts
from mrm.sweeps.membership import Membership
from mrm.sweeps.record import read_tracked
from mrm.tracking import catch_up, open_mlflow, run_tags, tracking_uri


@dataclass
class SyncConfig:
    """What the command takes."""

    run: Any = MISSING  # a run's folder; several: [A,B]
    mlflow: str | None = None  # a store's address; null takes that of the run's configuration
    experiment_name: str | None = None  # MLflow's experiment in it; null takes that of the run's configuration
    log_model: bool | None = None  # whether the saved model is copied; null as the run's configuration says


def sync(folder: Path, config: SyncConfig) -> PatientMLFlowLogger:
    """Gives a store what it lacks of one run. All of it is read before anything is given.

    It holds the run's lock all the while, so that the run does not go on before it is done.

    Args:
        folder: the run's.
        config: where to.

    Returns:
        What the run is tracked by; `lacks` says whether the store has all.

    Raises:
        ConfigError: for a folder that is no run's, whose run goes on, or whose files are damaged; for a store that cannot be opened.
        LedgerError: for a ledger that cannot be read.
    """
    if not read_state(folder):
        raise ConfigError(f"run={str(folder)!r}: is no run's folder; give one with a run.json.")
    with _locked(folder):
        return _give(folder, config)


def _give(folder: Path, config: SyncConfig) -> PatientMLFlowLogger:
    state, settings = read_state(folder), _settings(folder, config)
    history, data, starts = read_history(folder), read_data(folder), read_starts(folder)
    end = read_end(folder, history) if state.get("finished") else None
    times = [entry["time"] for entry in history if "time" in entry]
    noted = _milliseconds(starts[0].get("started")) if starts else None
    began_ms = min(times, default=_modified_ms(folder)) if noted is None else noted
    ended_ms = _modified_ms(folder / RESULTS_FILE) if end else max(times, default=_modified_ms(folder))
    commit = str(starts[-1].get("commit", "")) if starts else ""
    tags = run_tags(settings, folder, commit=commit, digest=state["fingerprint"], sweep=_membership(settings, state))
    logger, begun = open_mlflow(settings, folder, tags, began_ms=began_ms)
    if not begun:
        _check_experiment(logger, config)
        logger.set_tag("run_dir", str(folder))  # it may have been moved
    catch_up(logger, state["identity"], history)
    if data is not None:
        log_data(logger, data.accounts, data.fingerprint)
    if end is not None:
        last = [{"step": 0, "name": name, "value": value, "time": ended_ms} for name, value in end.totals.items()]
        logger.attempt("figures of the whole run", lambda: logger.catch_up(last), tries=1)
        asked = settings.logger.log_model if config.log_model is None else config.log_model
        give_files(logger, end, model=asked, replace=False)
    logger.close_as_of("KILLED" if end is None else "FINISHED", ended_ms)
    return logger


def _settings(folder: Path, config: SyncConfig) -> RunConfig:
    """The run's configuration, with the store that is asked for; by default that of the folder which it lies in now."""
    found = replace(read_config(folder), output_root=str(folder.parent))
    mlflow = config.mlflow if config.mlflow is not None else found.logger.mlflow
    name = config.experiment_name if config.experiment_name is not None else found.logger.experiment_name
    made = replace(found, logger=replace(found.logger, mlflow=mlflow, experiment_name=name))
    if mlflow is None and not (store := folder.parent / "mlflow.db").is_file():
        raise ConfigError(
            f"run={str(folder)!r}: there is no {store}; give mlflow=sqlite:///{store} to make it, or another store's address."
        )
    return made


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a run that ended from going on meanwhile; raises a ConfigError for one that is running."""
    if not lock_run_dir(folder):
        raise ConfigError(f"run={str(folder)!r}: is running, it holds {folder / LOCK_FILE}; wait for it or end it.")
    try:
        yield
    finally:
        close_run_dir(folder)


def _check_experiment(logger: PatientMLFlowLogger, config: SyncConfig) -> None:
    if config.experiment_name is None:
        return
    client = logger.experiment
    own = client.get_experiment(client.get_run(str(logger.run_id)).info.experiment_id).name
    if own != config.experiment_name:
        raise ConfigError(
            f"experiment_name={config.experiment_name!r}: {logger.tracking_uri} has the run already, in {own!r}; leave experiment_name out."
        )


def _membership(config: RunConfig, state: dict[str, Any]) -> Membership | None:
    """The sweep that the run is a member of, with the sweep's own run where that is in the same store."""
    if not state.get("sweep"):
        return None
    tracked = read_tracked(Path(config.output_root) / "sweeps" / state["sweep"]) or {}
    same_store = tracked.get("tracking_uri") == tracking_uri(config)
    return Membership(state["sweep"], tracked.get("run_id") if same_store else None)


def _milliseconds(told: object) -> int | None:
    try:
        return int(1000 * datetime.fromisoformat(str(told)).timestamp())
    except ValueError:
        return None


def _modified_ms(path: Path) -> int:
    return path.stat().st_mtime_ns // 10**6


def run(config: SyncConfig) -> None:
    """Gives the store all runs that are named, and says what became of each.

    Raises:
        ConfigError: naming those that it could not be given, once the others are there; a ResumableError where trying again may help.
    """
    folders = [Path(name).expanduser().resolve() for name in file_names(config.run) if name]
    if not folders:
        raise ConfigError(f"run={config.run!r}: name at least one run's folder.")
    console, problems, again = Console(), [], True
    for folder in folders:
        try:
            logger = sync(folder, config)
        except MrmError as error:
            problems.append(str(error))
            again = False
            continue
        if logger.lacks:
            problems.append(f"run={str(folder)!r}: {logger.tracking_uri} still lacks something, see above; try again.")
        else:
            told = f"{folder.name} is in {logger.tracking_uri} as run {logger.run_id}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)
    if problems:
        raise (ResumableError if again else ConfigError)("\n".join(problems))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(SyncConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
