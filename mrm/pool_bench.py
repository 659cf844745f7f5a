"""What curation costs beside training: scoring a pool against a training epoch over the same pairs, and a boundary's fixed cost.

A whole curated run over ShapeWorld with the packaged backbone: epochs that train on the open pool as published, a round behind
each, timed from within. `mrm.bench` prints the figures: medians over all epochs and rounds but the first, which warm up.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from datamodules.dataset_spec import TRAINED
from mrm.cli import compose_run_config
from mrm.config import RunConfig
from mrm.datasets import prepare_datasets
from mrm.parts import build_curation, build_datamodule, build_encoder, build_evaluation, build_module, build_trainer

POOL_PAIRS = 1024
ROUNDS = 4  # the first warms up
TRUSTED = 16  # samples: there must be some, and they are to weigh nothing


class EpochSeconds(pl.Callback):
    """Times each epoch's batches; the rounds that follow them are not among them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def pool_config(folder: Path, pairs: int) -> RunConfig:
    """A run that trains on `pairs` open pairs `ROUNDS` times, scores them behind each epoch, and filters them in the end."""
    rounds = [f"{{after_epoch: {epoch}, steps: [score]}}" for epoch in range(ROUNDS - 1)]
    rounds.append(f"{{after_epoch: {ROUNDS - 1}, steps: [score, filter]}}")
    return compose_run_config(
        [
            *only_pool(folder, pairs),
            "curation=no_judges",
            "curation.open_pool=raw",
            f"curation.schedule=[{', '.join(rounds)}]",
            "curation.min_active_share=0",
            f"trainer.max_epochs={ROUNDS + 1}",
            "logger=none",
        ]
    )


def only_pool(folder: Path, pairs: int) -> list[str]:
    """Words of a command line for a run of `pairs` open pairs, few trusted ones, and nothing that is evaluated."""
    return [
        "trainer.progress=false",
        "trainer.checkpoint_every_n_steps=null",
        "data.datasets.trusted.use=false",
        f"data.datasets.t2i.options.count={TRUSTED}",
        f"data.datasets.open.options.count={pairs}",
        *(f"data.datasets.{name}.use=false" for name in _held_out_sets()),
        f"output_root={folder / 'runs'}",
        f"prepared_root={folder / 'prepared'}",
    ]


def pool_figures(pairs: int = POOL_PAIRS) -> dict[str, float]:
    """Measures on this machine, in one process.

    Returns:
        `score_pool_vs_epoch`: seconds to score the pool, of the seconds of a training epoch over the same pairs. `boundary_fixed_s`:
        seconds of a round that are neither scoring nor asking.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = pool_config(folder, pairs)
        pl.seed_everything(config.seed, workers=True, verbose=False)
        curation = build_curation(config, folder)
        encoder = build_encoder(config)
        datamodule = build_datamodule(config, prepare_datasets(config), encoder, folder)
        trainer = build_trainer(config, folder, curation, build_evaluation(config, folder), [])
        epochs = EpochSeconds()
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.insert(0, epochs)  # before curation, whose round is not part of the epoch
        trainer.fit(build_module(config, datamodule), datamodule=datamodule)
        pairs_of = list(zip(epochs.seconds, curation.seconds, strict=False))[1:]
        shares = [boundary["scoring"] / epoch for epoch, boundary in pairs_of]
        fixed = [boundary["round"] - boundary["scoring"] - boundary["asking"] for _, boundary in pairs_of]
        return {"score_pool_vs_epoch": statistics.median(shares), "boundary_fixed_s": statistics.median(fixed)}


def _held_out_sets() -> list[str]:
    config = compose_run_config([])
    return [name for name, dataset in config.data.datasets.items() if dataset.role not in TRAINED]
