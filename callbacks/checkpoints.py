"""Checkpoints to resume from: at the end of every epoch, after its round of curation, and every few steps between."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from mrm.errors import ResumableError
from mrm.model.sharded_checkpoints import REST_FILE

_UNFINISHED = ".writing"


class ResumeCheckpoint(ModelCheckpoint):
    """Keeps the newest checkpoint of a run, written whole or not at all.

    Lightning writes elsewhere and moves the file, which is a copy where that is another file system. Here it is written
    under a hidden name beside its place, brought to disk, and renamed; only then those before it are removed, each renamed to a
    hidden name first, so that none is ever half there under its own. A strategy that shards weights writes a folder.

    Lightning calls checkpoint callbacks last, so the one at an epoch's end holds what curation decided. None is written by
    step on an epoch's last batch: resuming from it would skip that epoch's end, and with it the round of curation.

    Args:
        dirpath: folder of the checkpoints.
        every_n_steps: optimiser steps between two checkpoints within an epoch; None for none.
    """

    def __init__(self, dirpath: str | Path, *, every_n_steps: int | None = None) -> None:
        super().__init__(
            dirpath=str(dirpath),
            filename="epoch{epoch:03d}-step{step:07d}",
            auto_insert_metric_name=False,
            save_top_k=1,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_global_step_saved = trainer.global_step  # a resumed run has this step's already: it came from it

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_steps is None or trainer.global_step % self.every_n_steps != 0:
            return
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or self._should_skip_saving_checkpoint(trainer):
            return
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        target = Path(filepath)
        write_checkpoint(trainer, target)
        if trainer.is_global_zero:
            for other in whole_checkpoints(target.parent):  # among them the one that a resumed run came from
                if other != target:
                    remove(other)
        trainer.strategy.barrier("checkpoint")
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath

    def _remove_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        """Nothing: saving has removed it."""


def write_checkpoint(trainer: pl.Trainer, target: Path, *, weights_only: bool = False) -> None:
    """Writes a checkpoint whole or not at all; all ranks must call.

    Args:
        trainer: whose state is saved.
        target: a file, or a folder where the strategy shards weights; one that is there is replaced.
        weights_only: whether to leave out what only a training that goes on needs.

    Raises:
        ResumableError: where it cannot be written.
    """
    hidden = target.with_name(f".{target.name}{_UNFINISHED}")
    if trainer.is_global_zero and target.parent.is_dir():
        for left in target.parent.glob(f".*{_UNFINISHED}"):  # by a run that was killed while writing or removing
            _delete(left)
    trainer.strategy.barrier("left-over checkpoints removed")
    try:
        trainer.save_checkpoint(hidden, weights_only)
        if trainer.is_global_zero:
            for path in (*hidden.glob("*"), hidden):  # a folder where weights are sharded
                _sync(path)
            if target.is_dir():  # which, other than a file, is not replaced
                remove(target)
            os.replace(hidden, target)
            _sync(target.parent)  # the new name itself
    except OSError as error:  # other ranks that wait at a barrier end with this one's connections
        if trainer.is_global_zero and hidden.exists():
            _delete(hidden)  # its room is needed
        raise ResumableError(
            f"{target}: the checkpoint cannot be written: {error}. The one before it is untouched: make room, or mend what is"
            " wrong with the disk, and go on with resume=auto."
        ) from error


def newest_checkpoint(dirpath: str | Path) -> Path | None:
    """The checkpoint that a run goes on from, or None where it has none yet; hidden ones were never finished."""
    return max(whole_checkpoints(Path(dirpath)), key=lambda path: (_time(path), path.name), default=None)


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder under their own names; of those in slices the ones with their last file."""
    found = (path for path in folder.glob("*.ckpt") if not path.name.startswith("."))
    return [path for path in found if path.is_file() or (path / REST_FILE).is_file()]


def _time(path: Path) -> int:
    """When it was written; a folder's own time is that of its last change, which may be the removal of a file."""
    return (path / REST_FILE if path.is_dir() else path).stat().st_mtime_ns


def remove(path: Path) -> None:
    """Removes a checkpoint: at once for all who look for whole ones, whatever happens to this process."""
    hidden = path.with_name(f".{path.name}.old{_UNFINISHED}")
    os.replace(path, hidden)
    _delete(hidden)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
