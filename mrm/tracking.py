"""Where a run's figures go beside the history in its folder (`mrm.history`): MLflow.

MLflow gets the composed configuration as parameters, metrics by step, the curation's counts, tags to find a run by, the data sets as
inputs, and at the end the ledger, the report, the results and the configuration as artifacts, and the model. A resumed run goes on in
the same MLflow run. `docs/tracking.md` has all of it.
"""

from __future__ import annotations

import fcntl
import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mrm.code_state import git_commit
from mrm.config import RunConfig
from mrm.errors import ConfigError, ResumableError
from mrm.history import read_history
from mrm.mlflow_logger import PatientMLFlowLogger, be_brief
from mrm.run_dirs import fingerprint, identity, read_state, remember_tracked, tracked_as
from mrm.sweeps.membership import Membership

VALUE_LIMIT = 250  # characters of a parameter that MLflow's servers of all ages take; the artifact has the whole

log = logging.getLogger(__name__)


def tracking_uri(config: RunConfig) -> str:
    """The server, or a SQLite file under output_root: MLflow's own default store is no longer written to."""
    if config.logger.mlflow:
        return config.logger.mlflow
    return f"sqlite:///{Path(config.output_root).expanduser().resolve() / 'mlflow.db'}"


def ui_command(config: RunConfig) -> str:
    """What to type to look at the runs, with this environment's Python."""
    return f"{_python()} -m mlflow ui --backend-store-uri {shlex.quote(tracking_uri(config))}"


def sync_command(folder: Path) -> str:
    """What to type to give MLflow what it lacks of a run."""
    return f"{_python()} -m mrm.sync run={shlex.quote(str(folder))}"


def _python() -> str:
    """This environment's Python, as it is typed here."""
    python = Path(sys.executable)
    return shlex.quote(str(python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python))


@contextmanager
def opening(config: RunConfig) -> Iterator[str | None]:
    """Opens the store, for one process at a time, and gives the place of a new experiment's artifacts.

    Raises:
        ConfigError: where the store cannot be opened.
    """
    from mlflow.exceptions import MlflowException  # imported where used: it costs a second
    from sqlalchemy.exc import SQLAlchemyError

    for noisy in ("alembic", "mlflow.store.db.utils", "lightning.pytorch.loggers.mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)  # a new store tells of every table it makes
    be_brief()
    root = Path(config.output_root).expanduser().resolve()
    uri = tracking_uri(config)
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # runs that start together would all make the new store's tables
        try:
            yield _artifacts_beside(uri)
        except (MlflowException, SQLAlchemyError, ImportError) as error:  # the last: of a database's driver
            raise ConfigError(
                f"logger.mlflow={uri!r}: MLflow cannot open this store: {error} Mend the address, start its server, or choose "
                "logger=none."
            ) from error


def _artifacts_beside(uri: str) -> str | None:
    """Where a SQLite store has its artifacts: in the folder of its file. A server knows by itself."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()


def start_mlflow(config: RunConfig, folder: Path, sweep: Membership | None = None) -> PatientMLFlowLogger:
    """Opens the run's MLflow run, or the one that an earlier start of it opened.

    Args:
        config: what is run.
        folder: the run's folder; remembers the MLflow run.
        sweep: the sweep that it is a member of.

    Raises:
        ConfigError: for a store that cannot be opened; a ResumableError where the run has done steps before.
    """
    history = read_history(folder)
    tags = run_tags(config, folder, commit=git_commit(), digest=fingerprint(config), sweep=sweep)
    try:
        logger, begun = open_mlflow(config, folder, tags)
    except ConfigError as error:
        if not history:
            raise
        raise ResumableError(f"{error} {folder} stands as it was: the same command goes on.") from error
    if not begun:
        again = partial(logger.experiment.update_run, logger.run_id, status="RUNNING")
        logger.attempt("that the run goes on", again, tries=1)
    catch_up(logger, read_state(folder).get("identity") or identity(config), history)
    return logger


def run_tags(
    config: RunConfig, folder: Path, *, commit: str, digest: str, sweep: Membership | None = None
) -> dict[str, str]:
    """What a run is found by in MLflow.

    Args:
        config: what is run.
        folder: the run's.
        commit: of the code that it is run with.
        digest: of its configuration.
        sweep: the sweep that it is a member of.
    """
    return {
        "experiment": config.experiment,
        "scale": config.scale,
        "seed": str(config.seed),
        "git_commit": commit,
        "config_fingerprint": digest,
        "run_dir": str(folder),
        **(sweep.tags() if sweep else {}),
    }


def open_mlflow(
    config: RunConfig, folder: Path, tags: Mapping[str, str], *, began_ms: int | None = None
) -> tuple[PatientMLFlowLogger, bool]:
    """Opens the store, and in it the run that the folder remembers, or else a new one.

    Args:
        config: where the store is.
        folder: the run's; remembers a new one.
        tags: of a new one.
        began_ms: when a new one began, in milliseconds; now without it.

    Returns:
        What the run is tracked by, and whether it is new there.

    Raises:
        ConfigError: for a store that cannot be opened.
    """
    with opening(config) as artifacts:
        settings = {
            "experiment_name": config.logger.experiment_name,
            "run_name": folder.name,
            "tracking_uri": tracking_uri(config),
            "artifact_location": artifacts,
            "synchronous": True,  # asynchronous logging lost most of a killed run's figures; a call costs 4 ms
        }
        for run_id in tracked_as(read_state(folder)):
            logger = PatientMLFlowLogger(**settings, run_id=run_id)
            if logger.goes_on():
                return logger, False
        logger = PatientMLFlowLogger(**settings, tags=dict(tags))
        remember_tracked(folder, logger.begin(began_ms))
        return logger, True


def catch_up(logger: PatientMLFlowLogger, params: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
    """Gives the store the figures and parameters that it lacks: a kill may have cut them, or the store was away.

    Args:
        logger: of the run.
        params: as the run was begun with; a store refuses other values.
        history: of `read_history`.
    """
    if history:
        logger.attempt("figures of before", lambda: logger.catch_up(history), tries=1)
    logger.log_hyperparams({key: _shorten(value) for key, value in params.items()})


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 3] + "..."
