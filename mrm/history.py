"""A run's metrics by step as its folder keeps them: a line a figure, appended while it trains, read without MLflow."""

from __future__ import annotations

import json
import logging
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mrm.errors import ResumableError

HISTORY_FILE = "metrics.jsonl"

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

    Steps done again after a kill count once, with their last value. Lines that a kill has cut are passed over; others that are no metric
    are counted and told.
    """
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    path, damaged = folder / HISTORY_FILE, []
    if not path.exists():
        return []
    for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:  # empty, or cut short by a kill
            continue
        if not _is_metric(entry):
            damaged.append(number)
            continue
        newest[entry["name"], entry["step"]] = entry
    if damaged:
        log.warning("%s: %d lines are no metrics and are left out, first line %d", path, len(damaged), damaged[0])
    return sorted(newest.values(), key=lambda entry: entry["step"])


def _is_metric(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    number, time_ms = entry.get("value"), entry.get("time", 0)
    of_types = isinstance(entry.get("name"), str) and isinstance(number, (int, float)) and isinstance(time_ms, int)
    return of_types and isinstance(entry.get("step"), int)
