"""What logging costs beside training: the share of the embedded run's steps that goes to its history, MLflow and the figures they are given.

A run over ShapeWorld with the packaged backbone, as `make run` logs it: metrics every ten steps into `metrics.jsonl` and a SQLite store, throughput and
the machine's figures. What is timed is all of that from within, so the share does not hang on how busy the machine is; the second epoch
counts, the first one warms up. `mrm.bench` prints the figure.
"""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from callbacks.system_metrics import SystemMetrics
from callbacks.throughput import Throughput
from mrm.cli import compose_run_config
from mrm.config import RunConfig
from mrm.datasets import prepare_datasets
from mrm.parts import (
    build_curation,
    build_datamodule,
    build_encoder,
    build_evaluation,
    build_loggers,
    build_module,
    build_trainer,
)
from mrm.pool_bench import EpochSeconds, only_pool

PAIRS = 512
HOOKS = ("on_train_batch_start", "on_train_batch_end")


class Stopwatch:
    """Seconds within some methods; of those that call each other the outer one counts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._within = False

    def time(self, owner: Any, name: str) -> None:
        """Has a method's calls timed from now on."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._within:
                return method(*arguments, **named)
            self._within, began = True, time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self._within = False
                self.seconds += time.perf_counter() - began

        setattr(owner, name, timed)


class Marks(pl.Callback):
    """The stopwatch's seconds at each epoch's end."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch, self.seconds = watch, [0.0]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds.append(self.watch.seconds)


def logging_config(folder: Path, pairs: int) -> RunConfig:
    """Two epochs over `pairs` open pairs, logged as any run is."""
    words = ["curation=none", "trainer.max_epochs=2", "logger=mlflow"]
    return compose_run_config([*only_pool(folder, pairs), *words])


def logging_figures(pairs: int = PAIRS) -> dict[str, float]:
    """Measures on this machine, in one process.

    Returns:
        `logging_overhead`: seconds of an epoch's steps that are logging, of all.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        folder.mkdir()
        config = logging_config(Path(name), pairs)
        pl.seed_everything(config.seed, workers=True, verbose=False)
        encoder = build_encoder(config)
        datamodule = build_datamodule(config, prepare_datasets(config), encoder, folder)
        loggers = build_loggers(config, folder, None)
        evaluation = build_evaluation(config, folder)
        trainer = build_trainer(config, folder, build_curation(config, folder), evaluation, loggers)
        watch, epochs = Stopwatch(), EpochSeconds()
        for logger in loggers:
            for method in ("log_metrics", "save"):
                watch.time(logger, method)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, (SystemMetrics, Throughput)):
                for hook in HOOKS:
                    watch.time(callback, hook)
        watch.time(trainer._logger_connector, "update_train_step_metrics")
        marks = Marks(watch)
        callbacks[:0] = [epochs, marks]
        trainer.fit(build_module(config, datamodule), datamodule=datamodule)
        for logger in loggers:
            logger.finalize("success")
        return {"logging_overhead": (marks.seconds[2] - marks.seconds[1]) / epochs.seconds[1]}
