"""Reads runs from MLflow: a store on this machine or a tracking server.

Of a run whose folder is on this machine, what MLflow may lack (figures that it did not take, values that it cut) is read there.
Nothing is written.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mrm.comparing.records import FINISHED, RunRecord, comparable, flattened, with_defaults
from mrm.errors import ConfigError, RecordError, suggest
from mrm.evaluation.sample_scores import SCORES_FILE, SampleScores, read_scores
from mrm.history import HISTORY_FILE, read_history
from mrm.mlflow_logger import be_brief
from mrm.run_dirs import CONFIG_FILE, RESULTS_FILE, read_state, tracked_as
from mrm.run_totals import totals
from mrm.sweeps.parent_run import ROLE
from mrm.tracking import VALUE_LIMIT

PAGE = 1000  # runs of one answer of MLflow
TOTAL = "seconds"  # a figure that is logged at a run's very end

log = logging.getLogger(__name__)


def store_uri(store: str) -> str:
    """The address of a store: a URI, a folder of runs with its mlflow.db, or that file.

    Raises:
        ConfigError: where there is none; MLflow would make an empty one.
    """
    if store.startswith("sqlite:///"):
        path = Path(store.removeprefix("sqlite:///"))
    elif "://" in store:
        return store
    else:
        path = Path(store).expanduser().resolve()
        path = path / "mlflow.db" if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(
            f"store={store!r}: there is no {path}; give the output_root of runs, an mlflow.db, or an address like "
            "http://HOST:5000."
        )
    return f"sqlite:///{path}"


class Store:
    """The runs of one MLflow experiment.

    Args:
        store: as of `store_uri`.
        experiment_name: MLflow's, `logger.experiment_name` of the runs.

    Raises:
        ConfigError: for a store that cannot be read, or an experiment that it does not have.
    """

    def __init__(self, store: str, experiment_name: str) -> None:
        from mlflow.tracking import MlflowClient  # imported where used: it costs a second

        for noisy in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        be_brief()
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.uri = store_uri(store)
        self._client = self._ask(lambda: MlflowClient(self.uri))
        found = self._ask(lambda: self._client.get_experiment_by_name(experiment_name))
        if found is None:
            known = [one.name for one in self._ask(lambda: self._client.search_experiments())]
            raise ConfigError(
                f"experiment_name={experiment_name!r}: {self.uri} has no such MLflow experiment; it has {', '.join(known)}."
                f"{suggest(experiment_name, known)}"
            )
        self._experiment = found.experiment_id
        self._folder = tempfile.TemporaryDirectory(prefix="mrm-compare-")
        self._histories: dict[str, list[dict[str, Any]]] = {}
        self._scores: dict[str, Mapping[str, SampleScores]] = {}

    def _ask(self, question: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return question()
        except (MlflowException, SQLAlchemyError, ImportError) as error:
            raise ConfigError(
                f"store={self.uri!r}: MLflow cannot read it: {error} Mend the address, or start its server."
            ) from error

    def runs(self) -> tuple[list[RunRecord], list[str]]:
        """All runs that trained, and the names of those that are not of this framework. Sweeps' own runs are in neither."""
        entities, token = [], None
        while True:
            page = self._ask(
                lambda token=token: self._client.search_runs([self._experiment], max_results=PAGE, page_token=token)
            )
            entities += [one for one in page if one.data.tags.get("role") != ROLE["role"]]
            token = page.token
            if not token:
                break
        records, strangers = [], []
        for one in entities:
            tags = one.data.tags
            if "experiment" in tags and tags.get("seed", "").lstrip("-").isdigit():
                records.append(self._record(one))
            else:
                strangers.append(f"{one.info.run_name} ({one.info.run_id[:8]})")
        return records, strangers

    def _record(self, entity: Any) -> RunRecord:
        info, tags = entity.info, entity.data.tags
        folder, state = _own_folder(tags.get("run_dir"), info.run_id)
        return RunRecord(
            run_id=info.run_id,
            name=info.run_name or info.run_id,
            experiment=tags["experiment"],
            seed=int(tags["seed"]),
            scale=tags.get("scale", ""),
            status=_status(info.status, state, entity.data.metrics),
            started=info.start_time or 0,
            config=with_defaults(comparable(state.get("identity") or entity.data.params)),
            metrics=dict(entity.data.metrics),
            sweep=tags.get("sweep", ""),
            commit=tags.get("git_commit", ""),
            data=tags.get("data_fingerprint", ""),
            folder=folder,
            cut=() if state.get("identity") else _cut(entity.data.params),
        )

    def whole(self, run: RunRecord) -> RunRecord:
        """The run with its whole configuration, from the artifact, where MLflow's parameters were cut, and with all of its folder's figures."""
        if run.folder is not None:
            run = replace(run, metrics={**run.metrics, **folder_metrics(run.folder, self._history(run))})
        if not run.cut or (path := self.artifact(run, CONFIG_FILE)) is None:
            return run
        nested = yaml.safe_load(path.read_text())
        return replace(run, config=with_defaults(comparable(flattened(nested))), cut=())

    def artifact(self, run: RunRecord, name: str) -> Path | None:
        """A file of a run: in its folder, else fetched from MLflow; None where there is none."""
        if run.folder is not None and (run.folder / name).is_file():
            return run.folder / name
        target = Path(self._folder.name) / run.run_id
        target.mkdir(exist_ok=True)
        try:
            listed = {one.path for one in self._client.list_artifacts(run.run_id)}
            if name in listed:
                return Path(self._client.download_artifacts(run.run_id, name, str(target)))
        except Exception as error:  # of MLflow, of the place where artifacts lie, or of the network
            log.warning("%s of %s could not be fetched from %s: %s", name, run.told, self.uri, error)
            return None
        if not listed:  # each run that finishes gives its configuration and results
            log.warning("%s of %s: %s has no file of this run; were its artifacts moved?", name, run.told, self.uri)
        return None

    def scores(self, run: RunRecord) -> Mapping[str, SampleScores]:
        """What a run scored the pairs of its test sets; empty where it kept nothing."""
        if run.run_id not in self._scores:
            path = self.artifact(run, SCORES_FILE)
            try:
                self._scores[run.run_id] = read_scores(path) if path else {}
            except RecordError as error:
                log.warning("%s is compared without its test scores: %s", run.told, error)
                self._scores[run.run_id] = {}
        return self._scores[run.run_id]

    def history(self, run: RunRecord, names: Sequence[str]) -> list[dict[str, Any]]:
        """Metrics by step, {"step", "name", "value"} each.

        Args:
            run: of `runs`.
            names: of metrics; those that the run does not have are passed over.
        """
        if run.folder is not None and (run.folder / HISTORY_FILE).is_file():
            return [entry for entry in self._history(run) if entry["name"] in names]
        found = []
        for name in names:
            if name in run.metrics:
                points = self._ask(lambda name=name: self._client.get_metric_history(run.run_id, name))
                newest = {point.step: point for point in sorted(points, key=lambda point: point.timestamp)}
                found += [{"step": step, "name": name, "value": newest[step].value} for step in sorted(newest)]
        return found

    def _history(self, run: RunRecord) -> list[dict[str, Any]]:
        """All that stands in the run's folder, read once."""
        if run.run_id not in self._histories:
            self._histories[run.run_id] = [] if run.folder is None else read_history(run.folder)
        return self._histories[run.run_id]


def folder_metrics(folder: Path, history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Newest value of every metric in a run's folder: what a server that was away at the run's end does not have."""
    newest = {str(entry["name"]): float(entry["value"]) for entry in history}
    try:
        return newest | totals(json.loads((folder / RESULTS_FILE).read_text()))
    except (OSError, ValueError, TypeError, AttributeError):  # not finished, or damaged
        return newest


def _own_folder(path: str | None, run_id: str) -> tuple[Path | None, dict[str, Any]]:
    """A run's folder on this machine with its state: not another's that lies where a run elsewhere has its own."""
    if not path:
        return None, {}
    try:
        state = read_state(Path(path))
    except (ConfigError, json.JSONDecodeError):  # damaged; MLflow has what is needed
        return None, {}
    return (Path(path), state) if run_id in tracked_as(state) else (None, {})


def _status(told: str, state: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Whether a run has finished: MLflow says so at the end of its training already, before it is tested."""
    finished = state.get("finished") if state else told == FINISHED and TOTAL in metrics
    return FINISHED if finished else "RUNNING" if told == FINISHED else told


def _cut(params: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(key for key, text in params.items() if len(text) >= VALUE_LIMIT and text.endswith("..."))
