"""Where a run's figures go: a history file in its folder, always, and MLflow.

MLflow gets the composed configuration as parameters, metrics by step, the curation's counts, tags to find a run by, the data sets as
inputs, and at the end the ledger, the report, the results and the configuration as artifacts, and the model. A resumed run goes on in
the same MLflow run. `docs/tracking.md` has all of it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mrm.code_state import git_commit
from mrm.config import RunConfig
from mrm.errors import ConfigError, ResumableError
from mrm.mlflow_logger import PatientMLFlowLogger, UnknownRunError, be_brief
from mrm.run_dirs import fingerprint, identity, read_state, remember_tracked, tracked_as
from mrm.sweeps.membership import Membership

HISTORY_FILE = "metrics.jsonl"
VALUE_LIMIT = 250  # characters of a parameter that MLflow's servers of all ages take; the artifact has the whole

log = logging.getLogger(__name__)


class HistoryLogger(Logger):
    """Appends every metric to a JSON Lines file, for the report and for reading without MLflow.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / HISTORY_FILE
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):  # a kill cut the last line
            with self.path.open("a") as file:
                file.write("\n")

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        try:
            with self.path.open("a") as file:
                for name, value in metrics.items():
                    entry = {"step": step or 0, "name": name, "value": float(value), "time": int(1000 * time.time())}
                    file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise ResumableError(
                f"{self.path} cannot be appended to: {error}. Make room, or mend what is wrong with the disk, and go on with"
                " resume=auto."
            ) from error

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Parameters stand in the run's config.yaml."""


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, by step: `step`, `name`, `value`, and `time`, milliseconds since 1970.

    Steps done again after a kill count once, with their last value.
    """
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    path = folder / HISTORY_FILE
    if not path.exists():
        return []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # empty, or cut short by a kill
            continue
        newest[entry["name"], entry["step"]] = entry
    return sorted(newest.values(), key=lambda entry: entry["step"])


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
            yield (root / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        except (MlflowException, SQLAlchemyError, ImportError) as error:  # the last: of a database's driver
            raise ConfigError(
                f"logger.mlflow={uri!r}: MLflow cannot open this store: {error} Mend the address, start its server, or choose "
                "logger=none."
            ) from error


def start_mlflow(config: RunConfig, folder: Path, sweep: Membership | None = None) -> PatientMLFlowLogger:
    """Opens the run's MLflow run, or the one that an earlier start of it opened.

    Args:
        config: what is run.
        folder: the run's folder; remembers the MLflow run.
        sweep: the sweep that it is a member of.

    Raises:
        ConfigError: for a store that cannot be opened; a ResumableError where the run has done steps before.
    """
    tags = {
        "experiment": config.experiment,
        "scale": config.scale,
        "seed": str(config.seed),
        "git_commit": git_commit(),
        "config_fingerprint": fingerprint(config),
        "run_dir": str(folder),
        **(sweep.tags() if sweep else {}),
    }
    known, history = tracked_as(read_state(folder)), read_history(folder)

    def make(artifacts: str | None, run_id: str | None) -> PatientMLFlowLogger:
        made = PatientMLFlowLogger(
            experiment_name=config.logger.experiment_name,
            run_name=folder.name,
            tracking_uri=tracking_uri(config),
            tags=tags,
            artifact_location=artifacts,
            run_id=run_id,
            synchronous=True,  # asynchronous logging lost most of a killed run's figures; a call costs 4 ms
        )
        made.begin()
        return made

    try:
        with opening(config) as artifacts:
            logger, begun = None, False
            for run_id in known:
                with suppress(UnknownRunError):  # of another store
                    logger = make(artifacts, run_id)
                    break
            if logger is None:
                logger, begun = make(artifacts, None), True
                remember_tracked(folder, str(logger.run_id))
    except ConfigError as error:
        if not history:
            raise
        raise ResumableError(f"{error} {folder} stands as it was: the same command goes on.") from error
    if not begun:
        again = partial(logger.experiment.update_run, logger.run_id, status="RUNNING")
        logger.attempt("that the run goes on", again, tries=1)
    if history:
        logger.attempt("figures of before", lambda: logger.catch_up(history), tries=1)
    logger.log_hyperparams(
        {key: _shorten(value) for key, value in identity(config).items()}
    )  # again: a kill may have cut them
    return logger


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 3] + "..."
