"""Logs what the machine does, under the names by which MLflow shows it: processor, memory, disk, network, GPU.

By the run's own loggers, not by MLflow's thread beside them: so figures are kept while the server is away, and none is written twice.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
import torch

PREFIX = "system/"
MB = 1e6

log = logging.getLogger(__name__)


class SystemMetrics(pl.Callback):
    """Logs at most every few seconds, between two batches; of rank 0's machine and its own GPU.

    Usages of processor and GPU are means since the figure before, or of its last moment as the driver tells it; a round of curation or an evaluation
    that takes longer has one figure.

    Args:
        folder: of the run; its disk is looked at.
        every_s: seconds between two figures at least.
    """

    def __init__(self, folder: Path, *, every_s: float = 10.0) -> None:
        self.folder, self.every_s = folder, every_s
        self._process = psutil.Process(os.getpid())
        self._next, self._silent = 0.0, False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            psutil.cpu_percent()  # the next call tells of the time since this one
            self._network = _network()
            self._next = time.monotonic() + self.every_s

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._look(trainer, pl_module.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._next = min(self._next, time.monotonic())  # also of a training that took less
        self._look(trainer, pl_module.device)

    def _look(self, trainer: pl.Trainer, device: torch.device) -> None:
        if not trainer.is_global_zero or self._silent or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every_s
        try:
            figures = self.figures() | (gpu_figures(device.index or 0) if device.type == "cuda" else {})
        except (psutil.Error, OSError) as error:  # where a container hides the machine; no reason to end a training
            log.warning("the machine does not tell what it does, so it is not logged: %s", error)
            self._silent = True
            return
        for logger in trainer.loggers:
            logger.log_metrics({PREFIX + name: value for name, value in figures.items()}, trainer.global_step)

    def figures(self) -> dict[str, float]:
        """Of the machine, and `process_memory_megabytes` of this process with its workers."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self.folder))
        received, sent = (now - then for now, then in zip(_network(), self._network, strict=True))
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MB,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "process_memory_megabytes": self._resident() / MB,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / MB,
            "disk_available_megabytes": disk.free / MB,
            "network_receive_megabytes": received / MB,
            "network_transmit_megabytes": sent / MB,
        }

    def _resident(self) -> int:
        """Bytes."""
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
        return total


def gpu_figures(number: int) -> dict[str, float]:
    """Of one GPU; usage and power only where nvidia-ml-py is installed."""
    free, total = torch.cuda.mem_get_info(number)
    figures: dict[str, Callable[[], float]] = {
        "memory_usage_megabytes": lambda: (total - free) / MB,
        "memory_usage_percentage": lambda: 100 * (total - free) / total,
        "memory_allocated_megabytes": lambda: torch.cuda.memory_allocated(number) / MB,
    }
    if find_spec("pynvml") is not None:
        figures["utilization_percentage"] = lambda: float(torch.cuda.utilization(number))
        figures["power_usage_watts"] = lambda: torch.cuda.power_draw(number) / 1000
    told = {}
    for name, figure in figures.items():
        try:
            told[f"gpu_{number}_{name}"] = figure()
        except (RuntimeError, OSError, ImportError):  # a driver that does not tell
            continue
    return told


def _network() -> tuple[int, int]:
    """Bytes received and sent since the machine's start; none are told in some containers."""
    counters = psutil.net_io_counters()
    return (0, 0) if counters is None else (counters.bytes_recv, counters.bytes_sent)
