"""The history file and the addresses of MLflow."""

from __future__ import annotations

import fcntl
import sys
import time
from pathlib import Path

import pytest

from mrm import tracking
from mrm.config import LoggerConfig, RunConfig
from mrm.errors import ConfigError
from mrm.history import HistoryLogger, read_history
from mrm.mlflow_logger import PatientMLFlowLogger
from mrm.sweeps.membership import Membership
from mrm.tracking import start_mlflow, tracking_uri, ui_command


def test_history_steps_done_again_count_once_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    history = HistoryLogger(tmp_path)
    history.log_metrics({"loss": 2.0}, 20)
    history.log_metrics({"loss": 1.0, "accuracy": 0.5}, 10)
    history.log_metrics({"loss": 3.0}, 20)  # the same step, done again after a kill
    with history.path.open("a") as file:
        file.write('{"step": 30, "na')
    found = read_history(tmp_path)
    assert [(entry["step"], entry["name"], entry["value"]) for entry in found] == [
        (10, "loss", 1.0),
        (10, "accuracy", 0.5),
        (20, "loss", 3.0),
    ]
    now = 1000 * time.time()
    assert all(now - 60_000 < entry["time"] <= now for entry in found)  # milliseconds


def test_history_after_a_cut_line_goes_on_in_a_new_one(tmp_path: Path) -> None:
    path = HistoryLogger(tmp_path).path
    path.write_text('{"step": 30, "na')
    HistoryLogger(tmp_path).log_metrics({"loss": 1.0}, 31)
    assert [entry["step"] for entry in read_history(tmp_path)] == [31]


def test_tracking_uri_is_sqlite_in_output_root_or_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # elsewhere than the environment, whose Python is then named in full
    root = tmp_path / "my runs"
    config = RunConfig(output_root=str(root))
    assert tracking_uri(config) == f"sqlite:///{root}/mlflow.db"
    command = ui_command(config)
    assert command.startswith(sys.executable)
    assert command.endswith(f" -m mlflow ui --backend-store-uri 'sqlite:///{root}/mlflow.db'")
    served = RunConfig(logger=LoggerConfig(mlflow="http://host:5000"))
    assert tracking_uri(served) == "http://host:5000"


def test_a_new_mlflow_store_is_opened_by_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []

    def is_locked() -> bool:
        with (tmp_path / ".mlflow.lock").open("w") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    class Watched(PatientMLFlowLogger):
        def begin(self, began_ms: int | None = None) -> str:  # which makes the store's tables
            held.append(is_locked())
            return super().begin(began_ms)

    monkeypatch.setattr(tracking, "PatientMLFlowLogger", Watched)
    folder = tmp_path / "run"
    folder.mkdir()
    logger = start_mlflow(RunConfig(output_root=str(tmp_path)), folder)
    assert held == [True] and not is_locked()
    assert (tmp_path / "mlflow.db").exists()
    assert logger.run_id is not None


@pytest.mark.parametrize("address", ["mysql+nodriver://host/db", "htp://host"])
def test_start_mlflow_store_that_cannot_be_opened_is_a_clear_error(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    config = RunConfig(output_root=str(tmp_path), logger=LoggerConfig(mlflow=address))
    with pytest.raises(ConfigError, match="logger.mlflow=.*MLflow cannot open this store"):
        start_mlflow(config, folder)


def test_start_mlflow_member_is_a_child_of_its_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    logger = start_mlflow(RunConfig(output_root=str(tmp_path)), folder, Membership("ablations", "0a1b"))
    tags = logger.experiment.get_run(logger.run_id).data.tags
    assert tags["sweep"] == "ablations" and tags["mlflow.parentRunId"] == "0a1b"
    again = start_mlflow(RunConfig(output_root=str(tmp_path)), folder, Membership("ablations", "0a1b"))
    assert again.run_id == logger.run_id and again.refused == again.waiting == 0
