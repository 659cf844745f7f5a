"""When checkpoints to resume from are written, and which one is the newest."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks.checkpoints import ResumeCheckpoint, newest_checkpoint


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight - batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Noting(ResumeCheckpoint):
    """Notes each file saved, and which files lay there then."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.saved: list[str] = []

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self.saved.append(Path(filepath).stem)


def train(folder: Path, *, batches: int, every: int | None, epochs: int = 2, accumulate: int = 1) -> list[str]:
    checkpoint = Noting(folder, every_n_steps=every)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), DataLoader(torch.ones(batches), batch_size=1))
    return checkpoint.saved


def test_checkpoint_without_steps_is_written_at_each_epochs_end(tmp_path: Path) -> None:
    assert train(tmp_path, batches=3, every=None) == ["epoch000-step0000003", "epoch001-step0000006"]


def test_checkpoint_by_step_comes_between_and_keeps_one_file(tmp_path: Path) -> None:
    saved = train(tmp_path, batches=5, every=2)
    assert saved == [
        "epoch000-step0000002", "epoch000-step0000004", "epoch000-step0000005",
        "epoch001-step0000006", "epoch001-step0000008", "epoch001-step0000010",
    ]  # fmt: skip
    assert [path.stem for path in tmp_path.iterdir()] == ["epoch001-step0000010"]


def test_checkpoint_by_step_is_never_taken_on_an_epochs_last_batch(tmp_path: Path) -> None:
    checkpoint = Noting(tmp_path, every_n_steps=4)
    before_the_end: list[str] = []

    class AtEnd(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            before_the_end.extend(checkpoint.saved)

    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[AtEnd(), checkpoint], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Line(), DataLoader(torch.ones(4), batch_size=1))
    assert before_the_end == []  # a round of curation belongs before it
    assert checkpoint.saved == ["epoch000-step0000004"]


def test_checkpoint_with_accumulation_is_written_once_a_step(tmp_path: Path) -> None:
    saved = train(tmp_path, batches=8, every=2, epochs=1, accumulate=2)
    assert saved == ["epoch000-step0000002", "epoch000-step0000004"]


def test_newest_checkpoint_is_by_time_and_none_without_any(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") is None
    for number, name in enumerate(("b.ckpt", "a.ckpt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "a.ckpt"


def test_newest_checkpoint_passes_over_hidden_files(tmp_path: Path) -> None:
    for number, name in enumerate(("a.ckpt", ".b.ckpt", ".c.ckpt.writing")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == "a.ckpt"


def test_checkpoint_cut_short_leaves_the_one_before_and_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, batches=3, every=None, epochs=1)
    save = pl.Trainer.save_checkpoint

    def cut(trainer: pl.Trainer, filepath: Path, weights_only: bool | None = None) -> None:
        save(trainer, filepath, weights_only)
        with Path(filepath).open("r+b") as file:
            file.truncate(100)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", cut)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            train(tmp_path, batches=4, every=None, epochs=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".epoch000-step0000004.ckpt.writing", "epoch000-step0000003.ckpt"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.stem == "epoch000-step0000003"
    train(tmp_path, batches=5, every=None, epochs=1)
    assert not list(tmp_path.glob(".*"))


def test_checkpoint_resumes_with_weights_only_loading(tmp_path: Path) -> None:
    train(tmp_path, batches=3, every=2, epochs=1)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[ResumeCheckpoint(tmp_path)], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    path = newest_checkpoint(tmp_path)
    trainer.fit(Line(), DataLoader(torch.ones(3), batch_size=1), ckpt_path=path, weights_only=True)
    assert trainer.global_step == 6
