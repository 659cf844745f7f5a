"""A store that is away or busy does not end a training, and gets all figures when it is back."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient

from mrm import mlflow_logger
from mrm.mlflow_logger import RETRY_S, PatientMLFlowLogger


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatientMLFlowLogger:
    logging.getLogger("alembic").setLevel(logging.ERROR)
    monkeypatch.setattr(mlflow_logger, "LAST_PAUSE_S", 0.0)
    made = PatientMLFlowLogger(experiment_name="e", tracking_uri=f"sqlite:///{tmp_path}/m.db", synchronous=True)
    assert made.run_id
    return made


def away(monkeypatch: pytest.MonkeyPatch, code: int = TEMPORARILY_UNAVAILABLE) -> pytest.MonkeyPatch:
    def refuse(*args: object, **kwargs: object) -> None:
        raise MlflowException("database is locked", error_code=code)

    patch = pytest.MonkeyPatch()
    for name in ("log_batch", "set_terminated", "log_artifact", "log_inputs", "get_metric_history"):
        patch.setattr(MlflowClient, name, refuse)
    return patch


def data_input(name: str) -> DatasetInput:
    return DatasetInput(Dataset(name, "digest", "local", "{}"), [InputTag("mlflow.data.context", "trusted")])


def history(logger: PatientMLFlowLogger, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in logger.experiment.get_metric_history(logger.run_id, key)]


def test_logger_gives_the_store_an_interval_at_once(logger, monkeypatch) -> None:
    calls: list[int] = []
    log_batch = MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient, "log_batch", lambda *a, **k: (calls.append(len(k.get("metrics", ()))), log_batch(*a, **k))[1]
    )
    for step in range(3):
        logger.log_metrics({"loss": 1.0, "accuracy": 0.5}, step)
    assert calls == [] and logger.waiting == 6
    logger.save()
    assert calls == [6] and logger.waiting == 0
    logger.log_metrics({"loss": 1.0}, 4)
    monkeypatch.setattr(
        mlflow_logger, "HOLD_S", -1.0
    )  # none waits for long where no interval ends, as within a long round
    logger.log_metrics({"loss": 1.0}, 5)
    assert calls == [6, 2]


def test_logger_keeps_figures_while_the_store_is_away(logger, monkeypatch, caplog) -> None:
    logger.log_metrics({"loss": 3.0}, 1)
    logger.save()
    patch = away(monkeypatch)
    logger.log_metrics({"loss": 2.0}, 2)
    logger.save()
    logger.set_tag("data", "d")
    logger.log_hyperparams({"lr": 1})
    logger.log_inputs([data_input("trusted")])
    logger.log_metrics({"loss": 1.0}, 3)
    assert logger.waiting == 5
    assert caplog.text.count("they wait: database is locked") == 1  # told once
    patch.undo()
    logger.log_metrics({"loss": 0.5}, 4)
    logger.save()
    assert logger.waiting == 6  # not before RETRY_S: each attempt may hold a step up
    monkeypatch.setattr(logger, "_retry_at", 0.0)
    logger.log_metrics({"loss": 0.25}, 5)
    logger.save()
    assert history(logger, "loss") == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5), (5, 0.25)]
    assert logger._pause == RETRY_S  # as before the store went away
    run = logger.experiment.get_run(logger.run_id)
    assert run.data.params == {"lr": "1"} and run.data.tags["data"] == "d"
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["trusted"]


def test_logger_asks_a_store_that_stays_away_ever_less_often(logger, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mrm.mlflow_logger.time.monotonic", lambda: clock[0])
    patch = away(monkeypatch)
    logger.log_metrics({"loss": 1.0}, 1)
    tried = []
    for second in range(3000):
        clock[0], before = float(second), logger._retry_at
        logger.flush()
        tried += [second] if logger._retry_at != before else []
    patch.undo()
    assert tried == [0, 20, 60, 140, 300, 620, 1220, 1820, 2420]  # 10 minutes apart at most


def test_logger_of_a_run_killed_while_figures_waited_catches_up(logger) -> None:
    """What only metrics.jsonl has is given later; what comes out the same when steps are done again is not there twice."""
    logger.log_metrics({"loss": 3.0, "test/a:b": 0.5}, 1)
    logger.log_metrics({"loss": float("nan")}, 2)
    logger.save()
    again = PatientMLFlowLogger(tracking_uri=logger.tracking_uri, run_id=logger.run_id, synchronous=True)
    told = [(1, "loss", 3.0), (1, "test/a:b", 0.5), (2, "loss", float("nan")), (3, "loss", 1.0), (3, "speed", 7.0)]
    again.catch_up([{"step": step, "name": name, "value": value} for step, name, value in told])
    assert again.waiting == 0
    for step, loss in ((1, 3.0), (2, float("nan")), (3, 0.75), (4, 0.5)):
        again.log_metrics({"loss": loss}, step)
    again.log_metrics({"test/a:b": 0.5}, 1)
    again.log_metrics({"speed": 7.0}, 3)  # done again, and the same
    again.save()
    found = history(again, "loss")
    assert [step for step, _ in found] == [1, 2, 3, 3, 4] and found[2:] == [(3, 1.0), (3, 0.75), (4, 0.5)]
    assert history(again, "speed") == [(3, 7.0)] and history(again, "test/ab") == [(1, 0.5)]


def test_logger_end_gives_the_store_what_waits(logger, monkeypatch) -> None:
    patch = away(monkeypatch)
    for step in range(2500):  # more than one call takes
        logger.log_metrics({"loss": float(step)}, step)
    patch.undo()
    logger.finalize("success")
    assert history(logger, "loss") == [(step, float(step)) for step in range(2500)]
    assert logger.experiment.get_run(logger.run_id).info.status == "FINISHED"


def test_logger_kept_open_is_closed_by_a_failure_and_by_the_runs_own_end(logger) -> None:
    def status() -> str:
        return logger.experiment.get_run(logger.run_id).info.status

    logger.kept_open = True
    logger.log_metrics({"loss": 1.0}, 1)
    for ended in ("success", "finished"):  # of a training, of tests; of a job that the cluster starts again
        logger.finalize(ended)
        assert status() == "RUNNING" and history(logger, "loss") == [(1, 1.0)]
    logger.finalize("failed")
    assert status() == "FAILED"
    logger.kept_open = False
    logger.finalize("success")
    assert status() == "FINISHED"


def test_logger_store_that_stays_away_is_told_and_does_not_raise(logger, monkeypatch, caplog, tmp_path: Path) -> None:
    patch = away(monkeypatch)
    logger.log_metrics({"loss": 1.0, "accuracy": 1.0}, 1)
    logger.log_files([(tmp_path / "results.json", None)])
    logger.finalize("success")
    patch.undo()
    assert "lacks 2 figures; they are in metrics.jsonl" in caplog.text
    assert "results.json" in caplog.text and "the run's end" in caplog.text


def test_logger_what_the_store_refuses_does_not_hold_up_the_rest(logger, monkeypatch, caplog) -> None:
    logger.log_hyperparams({"lr": 1})
    logger.log_hyperparams({"lr": 2})  # MLflow lets no parameter change
    logger.log_metrics({"loss": 1.0}, 1)
    logger.save()
    assert logger.refused == 1 and "MLflow refuses one of the params" in caplog.text
    assert history(logger, "loss") == [(1, 1.0)] and logger.waiting == 0
    patch = away(monkeypatch, INVALID_PARAMETER_VALUE)
    logger.log_metrics({"loss": 1.0}, 2)
    logger.save()
    patch.undo()
    assert logger.refused == 2 and logger.waiting == 0
    logger.log_metrics({"first": 1.0, "a//b": 1.0, "last": 1.0}, 3)  # MLflow refuses the name, and the call with it
    logger.save()
    assert logger.refused == 3 and logger.waiting == 0
    assert history(logger, "first") == history(logger, "last") == [(3, 1.0)]


def test_logger_writes_not_a_number_and_odd_names(logger) -> None:
    logger.log_metrics({"test/a:b/accuracy": float("nan")}, 1)
    logger.save()
    assert "test/ab/accuracy" in logger.experiment.get_run(logger.run_id).data.metrics
