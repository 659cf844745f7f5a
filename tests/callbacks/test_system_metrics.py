"""What the machine does, as the run's loggers get it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from callbacks import system_metrics
from callbacks.system_metrics import SystemMetrics, gpu_figures

CPU = SimpleNamespace(device=torch.device("cpu"))


class Recorder:
    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))


def trainer(rank_zero: bool = True) -> SimpleNamespace:
    return SimpleNamespace(global_step=3, is_global_zero=rank_zero, loggers=[Recorder()])


def test_system_metrics_come_at_most_every_few_seconds_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(system_metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watched, callback = trainer(), SystemMetrics(tmp_path, every_s=10.0)
    callback.on_train_start(watched, CPU)
    for later in (5.0, 4.0, 1.0, 1.0, 9.5):  # 105, 109, 110, 111, 120.5
        now[0] += later
        callback.on_train_batch_start(watched, CPU, None, 0)
    (recorder,) = watched.loggers
    assert len(recorder.logged) == 2
    callback.on_train_end(watched, CPU)
    assert len(recorder.logged) == 3
    step, metrics = recorder.logged[0]
    assert step == 3 and all(name.startswith("system/") for name in metrics)
    assert (
        0 < metrics["system/system_memory_usage_percentage"] <= 100 and metrics["system/network_receive_megabytes"] >= 0
    )
    assert metrics["system/process_memory_megabytes"] > 50


def test_system_metrics_of_other_ranks_are_not_logged(tmp_path: Path) -> None:
    watched, callback = trainer(rank_zero=False), SystemMetrics(tmp_path, every_s=0.0)
    callback.on_train_start(watched, CPU)
    callback.on_train_batch_start(watched, CPU, None, 0)
    callback.on_train_end(watched, CPU)
    assert watched.loggers[0].logged == []


def test_system_metrics_a_machine_that_does_not_tell_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hidden() -> None:
        raise psutil.AccessDenied

    watched, callback = trainer(), SystemMetrics(tmp_path, every_s=0.0)
    callback.on_train_start(watched, CPU)
    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    for _ in range(2):
        callback.on_train_batch_start(watched, CPU, None, 0)
    callback.on_train_end(watched, CPU)
    assert watched.loggers[0].logged == [] and caplog.text.count("the machine does not tell") == 1


def test_gpu_figures_leave_out_what_the_driver_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def untold(number: int) -> int:
        raise RuntimeError("not supported")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (25_000_000, 100_000_000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda number: 50_000_000)
    monkeypatch.setattr(torch.cuda, "utilization", lambda number: 40)
    monkeypatch.setattr(torch.cuda, "power_draw", untold)
    monkeypatch.setattr(system_metrics, "find_spec", lambda name: object())
    assert gpu_figures(1) == {
        "gpu_1_memory_usage_megabytes": 75.0, "gpu_1_memory_usage_percentage": 75.0,
        "gpu_1_memory_allocated_megabytes": 50.0, "gpu_1_utilization_percentage": 40.0,
    }  # fmt: skip
    monkeypatch.setattr(system_metrics, "find_spec", lambda name: None)
    assert "gpu_0_utilization_percentage" not in gpu_figures(0)
