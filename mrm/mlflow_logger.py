"""Lightning's MLflow logger, made fit for a store that is away or busy for a while.

Figures that the store does not take are kept and given to it later, with the times that they were measured at, so that tracking
never ends a training. `metrics.jsonl` in the run's folder has them in any case.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from mrm.errors import ConfigError

HOLD_S = (
    10.0  # that figures wait for the others of their logging interval, at most: a call costs more than what it brings
)
RETRY_S, MOST_RETRY_S = (
    20.0,
    600.0,
)  # between attempts while the store is away, twice as long after each: one may hold a step up
LAST_TRIES = 4  # at the run's end, LAST_PAUSE_S apart
LAST_PAUSE_S = 5.0
BATCH = 1000  # metrics, and
PARAMS_BATCH = 100  # parameters or tags that MLflow takes in one call
LARGEST = sys.float_info.max
REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # the store is there, and will never take this
CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # MLflow's: minutes, in a training step
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

log = logging.getLogger(__name__)


def be_brief() -> None:
    """A server that does not answer holds the training up for seconds; what the environment sets holds."""
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)


class PatientMLFlowLogger(MLFlowLogger):
    """Takes every figure at once, and gives those of a logging interval to the store in one call, as soon as that takes it.

    Lightning calls `save` at the end of each interval.

    Attributes:
        kept_open: whether the run goes on behind what Lightning ends well, training or tests: that alone does not close it then. A failure does.
        refused: figures that the store will never take.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics: list[Any] = []
        self._params: list[Any] = []
        self._tags: list[Any] = []
        self._inputs: list[Any] = []
        self._known: dict[tuple[str, int], float] = {}
        self._away = False
        self._retry_at, self._pause = 0.0, RETRY_S
        self.kept_open = False
        self.refused = 0
        self._failed = False

    @property
    def tracking_uri(self) -> str:
        """Of the store."""
        return str(self._tracking_uri)

    @property
    def waiting(self) -> int:
        """Figures, parameters, tags and inputs that the store has not taken yet."""
        return len(self._metrics) + len(self._params) + len(self._tags) + len(self._inputs)

    @property
    def lacks(self) -> bool:
        """Whether the store was not given something that it should have."""
        return self._failed or self.waiting > 0 or self.refused > 0

    def goes_on(self) -> bool:
        """Goes on with the run of the id that this was made with; False where the store does not have it, being another.

        Raises:
            ConfigError: for a run that was deleted there.
            Exception: of MLflow, for a store that cannot be opened.
        """
        try:
            run = self.experiment.get_run(str(self.run_id))
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        if run.info.lifecycle_stage == "deleted":
            raise ConfigError(
                f"{self.tracking_uri}: the run {self.run_id} was deleted there; bring it back by `mlflow runs restore --run-id {self.run_id}`, or"
                " choose another store."
            )
        return True

    def begin(self, began_ms: int | None = None) -> str:
        """Begins a new run in the store.

        Args:
            began_ms: milliseconds since 1970; now without it.

        Returns:
            Its id.

        Raises:
            ConfigError: for an experiment that was deleted there.
            Exception: of MLflow, for a store that cannot be opened.
        """
        from mlflow.tracking.context.registry import resolve_tags

        client, name = self._mlflow_client, self._experiment_name
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"{self.tracking_uri}: the MLflow experiment {name!r} was deleted there; bring it back by `mlflow experiments restore"
                f" --experiment-id {found.experiment_id}`, or give another logger.experiment_name."
            )
        place = found.experiment_id if found else client.create_experiment(name, self._artifact_location)
        tags = (
            resolve_tags(self.tags) if began_ms is None else self.tags
        )  # user and program, which are not those of then
        made = client.create_run(place, start_time=began_ms, tags=tags, run_name=self._run_name)
        self._run_id = made.info.run_id
        _ = self.experiment  # takes it up
        return str(self._run_id)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        told = [(_name(key), float(value)) for key, value in metrics.items()]
        self._metrics += [Metric(key, value, now, step or 0) for key, value in told if self._is_new(key, step, value)]
        if self._metrics and now - self._metrics[0].timestamp > 1000 * HOLD_S:
            self.flush()

    @rank_zero_only
    def save(self) -> None:
        """Gives the store what waits."""
        self.flush()

    def _is_new(self, key: str, step: int | None, value: float) -> bool:
        """False where the store has this very figure from before the run was killed, whose steps are done again."""
        known = self._known.pop((key, step or 0), None)
        return known is None or not _same(known, value)

    def catch_up(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Gives the store what it lacks of an earlier start of this run, which was killed while figures waited.

        What it has is remembered, so that figures which come out the same when steps are done again are not written twice.

        Args:
            history: `{"step", "name", "value"}` each, and maybe `"time"` in milliseconds; now without it.

        Raises:
            Exception: of MLflow, where the store is away.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        told: dict[str, dict[int, Metric]] = {}
        for entry in history:
            key, step = _name(str(entry["name"])), int(entry["step"])
            told.setdefault(key, {})[step] = Metric(key, float(entry["value"]), int(entry.get("time", now)), step)
        for key, metrics in told.items():
            found = self.experiment.get_metric_history(self.run_id, key)
            stored = {one.step: one.value for one in sorted(found, key=lambda one: one.timestamp)}
            lacking = [one for step, one in metrics.items() if step not in stored or not _same(stored[step], one.value)]
            self._metrics += lacking
            self._known |= {(key, step): value for step, value in stored.items()}
            self._known |= {(key, metric.step): metric.value for metric in lacking}
        self.flush()

    @rank_zero_only
    def log_inputs(self, inputs: Iterable[Any]) -> None:
        """Data that goes into the run: `mlflow.entities.DatasetInput`s."""
        self._inputs += inputs
        self.flush()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """A flat mapping, of values that are short enough."""
        from mlflow.entities import Param

        given = vars(params) if isinstance(params, Namespace) else params
        self._params += [Param(key, str(value)) for key, value in given.items()]
        self.flush()

    @rank_zero_only
    def set_tag(self, name: str, value: str) -> None:
        from mlflow.entities import RunTag

        self._tags.append(RunTag(name, value))
        self.flush()

    def flush(self, *, now: bool = False) -> bool:
        """Gives the store what it has not taken yet; not again soon after a failure, unless `now`.

        Returns:
            Whether nothing waits.
        """
        if not now and time.monotonic() < self._retry_at:
            return False
        for queue, name, size in (
            (self._params, "params", PARAMS_BATCH),
            (self._tags, "tags", PARAMS_BATCH),
            (self._inputs, "inputs", PARAMS_BATCH),
            (self._metrics, "metrics", BATCH),
        ):
            while queue:
                if not self._send(queue[:size], name):
                    return False
                del queue[:size]
        if self._away:
            log.info("MLflow is back, and has all figures.")
        self._away, self._retry_at, self._pause = False, 0.0, RETRY_S
        return True

    def _send(self, items: list[Any], name: str) -> bool:
        try:
            if name == "inputs":
                self.experiment.log_inputs(self.run_id, datasets=items)
            else:
                self.experiment.log_batch(run_id=self.run_id, synchronous=True, **{name: items})
        except Exception as error:  # of MLflow, SQLAlchemy, a driver, or the network: none may end a training
            if getattr(error, "error_code", None) in REFUSED and len(items) > 1:  # for one of them, maybe
                return all(self._send([item], name) for item in items)
            if getattr(error, "error_code", None) in REFUSED:
                self.refused += 1
                log.warning("MLflow refuses one of the %s, which is left out there: %s", name, _first_line(error))
                return True
            if not self._away:
                log.warning("MLflow takes no %s now, they wait: %s", name, _first_line(error))
            self._away, self._retry_at = True, time.monotonic() + self._pause
            self._pause = min(2 * self._pause, MOST_RETRY_S)
            return False
        return True

    def attempt(self, what: str, action: Callable[[], object], *, tries: int = LAST_TRIES) -> bool:
        """Tries what the end of a run needs; says so, and goes on, where the store stays away.

        Returns:
            Whether it was done.
        """
        for number in range(tries):
            try:
                action()
                return True
            except Exception as error:
                failure = error
            if number + 1 < tries:
                time.sleep(LAST_PAUSE_S)
        log.warning("MLflow lacks %s: %s", what, _first_line(failure))
        self._failed = True
        return False

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Closes the run in MLflow, unless it is kept open, after a last attempt to give it what waits."""
        if not self._initialized:
            return
        if self.kept_open and status != "failed":
            self.flush()
            return
        tries = self._give_last(status)
        self.attempt("the run's end", lambda: super(PatientMLFlowLogger, self).finalize(status), tries=tries)

    def close_as_of(self, status: str, ended_ms: int) -> None:
        """Closes a run that has ended before; one that is closed in the store stays as it is.

        Args:
            status: MLflow's, FINISHED or KILLED.
            ended_ms: milliseconds since 1970.
        """
        tries = self._give_last("success")

        def close() -> None:
            now = self.experiment.get_run(str(self.run_id)).info.status
            if now != status and (now == "RUNNING" or status == "FINISHED"):
                self.experiment.set_terminated(str(self.run_id), status, ended_ms)

        self.attempt("the run's end", close, tries=tries)

    def _give_last(self, status: str) -> int:
        """Gives the store what waits; how many tries the end itself is worth."""
        tries = LAST_TRIES if status == "success" else 1  # a failed run's process is to end
        for number in range(tries):
            if self.flush(now=True):
                break
            if number + 1 < tries:
                time.sleep(LAST_PAUSE_S)
        if self.waiting:
            log.warning("MLflow was away until the end and lacks %d figures; they are in metrics.jsonl.", self.waiting)
            tries = 1
        return tries

    def log_files(self, files: list[tuple[Path, str | None]]) -> None:
        """Adds files as artifacts, each with the folder that it is shown in; a file that is not taken is named."""
        tries = LAST_TRIES
        for path, folder in files:
            done = self.attempt(
                str(path),
                lambda path=path, folder=folder: self.experiment.log_artifact(self.run_id, str(path), folder),  # type: ignore[misc]
                tries=tries,
            )
            tries = tries if done else 1


def _same(one: float, other: float) -> bool:
    """Whether a store gives back the one for the other: it may have its largest number for an infinite one."""
    return (
        one == other
        or (one != one and other != other)
        or (abs(one) >= LARGEST and abs(other) >= LARGEST and one * other > 0)
    )


def _name(metric: str) -> str:
    """A metric's name with what MLflow takes of it."""
    return re.sub(r"[^\w/. -]", "", metric)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
