"""A real Trainer, left at every batch and taken up again: the rest must be what it would have been."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.ledger import Decision, ledger_rounds
from datamodules.preference_datamodule import DatasetSpec, PreferenceDataModule
from mrm.errors import ConfigError, LedgerError
from mrm.model.packing import RewardBatch
from tests.datamodules.making import ToyEncoder, make_dataset

EPOCHS = 3
BOUNDARY = 999  # in place of a batch number


class ToyModule(LightningModule):
    """A reward for each character, Bradley-Terry over the batch's edges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rewards = torch.nn.Embedding(256, 1)

    def training_step(self, batch: RewardBatch, batch_idx: int) -> torch.Tensor:
        scores = self.rewards(batch.input_ids)[batch.score_row, batch.score_column, 0]
        scores = scores + self.rewards.weight[self._last_digit(batch), 0]
        gap = scores[batch.edge_chosen] - scores[batch.edge_rejected]
        return (batch.edge_weight * torch.nn.functional.softplus(-gap)).sum() / batch.normalizer

    def _last_digit(self, batch: RewardBatch) -> torch.Tensor:
        number = [
            int(key[1:]) * 2 + i for key, n in zip(batch.keys, batch.response_counts, strict=True) for i in range(n)
        ]
        return torch.tensor(number, dtype=torch.int64)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


class Record(Callback):
    """What was trained on, batch by batch, and when the boundaries were."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: RewardBatch, batch_idx: int
    ) -> None:
        edges = (batch.edge_chosen.tolist(), batch.edge_rejected.tolist(), batch.edge_weight.tolist())
        strength = np.nan_to_num(batch.edge_strength.numpy(), nan=-1).tolist()
        self.seen.append(
            (trainer.current_epoch, batch_idx, tuple(batch.keys), edges, strength, float(batch.normalizer))
        )

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.seen.append((trainer.current_epoch, BOUNDARY))


class ToyCuration(Callback):
    """At each epoch's end the open pool changes: by the weights, so that only equal training gives equal rounds."""

    def on_train_epoch_end(self, trainer: Trainer, module: ToyModule) -> None:
        data = trainer.datamodule
        old, number = data.ledger(), trainer.current_epoch + 1
        noise = np.random.default_rng(number).random(len(old)) + abs(float(module.rewards.weight[0].detach())) / 10
        is_open = old.decision != Decision.TRUSTED
        decision = np.where(noise < 0.3, Decision.DROP, np.where(noise < 0.6, Decision.FLIP, Decision.KEEP)).astype(
            object
        )
        decision = np.where(is_open, decision, Decision.TRUSTED)
        flipped, active = decision == Decision.FLIP, decision != Decision.DROP
        scores = np.full(len(old), noise, np.float32)
        new = {"decision": decision, "flipped": flipped, "active": active, "chosen_score": scores}
        dataclasses.replace(old, round=number, **new).write(data.ledger_dir)


class SaveEachBatch(Callback):
    """A checkpoint after every batch, with the ledger directory as it then was."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.directory / f"{trainer.current_epoch}-{trainer.fit_loop.batch_idx}.ckpt")


def make_data(root: Path, ledger_dir: Path, **options: Any) -> PreferenceDataModule:
    """7 trusted and 14 open samples; 13 ... 21 active an epoch."""
    if not (root / "trusted").exists():
        make_dataset(root / "trusted", 7, prefix="t")
        make_dataset(root / "open", 14, prefix="o")
        make_dataset(root / "test", 3, prefix="v")
    settings = {"batch_size": 4, "score_batch_size": 4, "row_tokens": None, "num_workers": 0, "seed": 5, **options}
    specs = [DatasetSpec(name, root / name, name) for name in ("trusted", "open", "test")]
    return PreferenceDataModule(specs, ToyEncoder(), ledger_dir=ledger_dir, **settings)


def run(
    data: PreferenceDataModule, *callbacks: Callback, checkpoint: Path | None = None, **options: Any
) -> tuple[list[Any], torch.Tensor]:
    module, record = ToyModule(), Record()
    data.expected_round = lambda epoch: epoch  # as the rounds at every boundary want it
    settings = {"max_epochs": EPOCHS, "reload_dataloaders_every_n_epochs": 1, **options}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record, ToyCuration(), *callbacks],
        **settings,
    )
    trainer.fit(module, data, ckpt_path=checkpoint)
    loop = trainer.fit_loop.epoch_loop
    counters = torch.tensor([trainer.global_step, loop._batches_that_stepped, trainer.current_epoch])
    return record.seen, torch.cat([module.rewards.weight.detach()[:, 0], counters])


def ledger_bytes(directory: Path) -> list[bytes]:
    return [(directory / f"round_{number:04d}.parquet").read_bytes() for number in ledger_rounds(directory)]


@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (2, 0), (1, 2)], ids=str)
def test_resume_at_every_batch_equals_uninterrupted(tmp_path: Path, accumulate: int, workers: int) -> None:
    """Every batch is a checkpoint; the resumed run finds the later ledgers of the killed run, and must redo them."""
    options = {"accumulate_grad_batches": accumulate}
    data_options = {"num_workers": workers, "batch_size": 2 if accumulate == 2 else 4}
    ledgers = tmp_path / "ledger"
    checkpoints = [
        SaveEachBatch(tmp_path),
        ModelCheckpoint(tmp_path, filename="end-{epoch}", save_top_k=-1, save_on_train_epoch_end=True),
    ]
    seen, weight = run(make_data(tmp_path, ledgers, **data_options), *checkpoints, **options)
    rounds = ledger_bytes(ledgers)
    assert len(rounds) == EPOCHS + 1 and len({event[0] for event in seen}) == EPOCHS
    found = sorted(tmp_path.glob("*.ckpt"))
    assert len(found) == len(seen)  # each batch, each boundary
    if workers:
        found = found[2::5]
    for path in found:
        copy = shutil.copytree(ledgers, tmp_path / f"ledger-{path.stem}")
        events, last = run(make_data(tmp_path, copy, **data_options), checkpoint=path, **options)
        if path.stem.startswith("end"):
            rest = seen[seen.index((int(path.stem[-1]), BOUNDARY)) + 1 :]
        else:
            epoch, batch = map(int, path.stem.split("-"))
            batch -= (batch + 1) % accumulate  # a step begun is taken up again from its first batch
            before = [event for event in seen if event < (epoch, batch + 1)]
            rest = seen[len(before) :]
        assert events == rest, path.stem
        assert torch.equal(last, weight), path.stem
        assert ledger_bytes(copy) == rounds, path.stem


@pytest.mark.parametrize(("first", "then"), [(0, 2), (2, 1), (2, 0)])
@pytest.mark.parametrize("plan", [{}, {"batch_tokens": 60, "length_window": 1}], ids=["samples", "tokens"])
def test_resume_with_other_workers_gives_the_same_following_batches(
    tmp_path: Path, first: int, then: int, plan: dict[str, Any]
) -> None:
    seen, weight = run(make_data(tmp_path, tmp_path / "ledger", num_workers=first, **plan), SaveEachBatch(tmp_path))
    checkpoint = tmp_path / "1-1.ckpt"
    events, last = run(make_data(tmp_path, tmp_path / "ledger", num_workers=then, **plan), checkpoint=checkpoint)
    assert events == [event for event in seen if event >= (1, 2)] and len(events) > 3
    assert torch.equal(last, weight)


def test_resume_after_an_exception_does_the_batch_that_was_cut_short(tmp_path: Path) -> None:
    class Crash(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: ToyModule, batch: RewardBatch, batch_idx: int) -> None:
            if trainer.current_epoch == 1 and batch_idx == 3:
                raise RuntimeError("crash")

        def on_exception(self, trainer: Trainer, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "crash.ckpt")

    options = {"accumulate_grad_batches": 2}
    seen, weight = run(make_data(tmp_path, tmp_path / "whole", batch_size=2), **options)
    with pytest.raises(RuntimeError, match="crash"):
        run(make_data(tmp_path, tmp_path / "cut", batch_size=2), Crash(), **options)
    events, last = run(
        make_data(tmp_path, tmp_path / "cut", batch_size=2), checkpoint=tmp_path / "crash.ckpt", **options
    )
    assert events == [event for event in seen if event >= (1, 2)]
    assert torch.equal(last, weight) and ledger_bytes(tmp_path / "cut") == ledger_bytes(tmp_path / "whole")


def test_accumulation_halved_batch_gives_the_same_training(tmp_path: Path) -> None:
    whole = run(make_data(tmp_path, tmp_path / "a", batch_size=8))[1]
    halves = run(make_data(tmp_path, tmp_path / "b", batch_size=4), accumulate_grad_batches=2)[1]
    torch.testing.assert_close(whole, halves, rtol=1e-4, atol=1e-5)


def test_fit_in_a_directory_of_an_earlier_run_starts_from_round_zero(tmp_path: Path) -> None:
    first = run(make_data(tmp_path, tmp_path / "ledger"))
    rounds = ledger_bytes(tmp_path / "ledger")
    again = run(make_data(tmp_path, tmp_path / "ledger"))
    assert again[0] == first[0] and torch.equal(again[1], first[1]) and ledger_bytes(tmp_path / "ledger") == rounds
    assert (tmp_path / "ledger/round_0003.parquet.superseded").exists()


def test_fit_without_reloading_every_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reload_dataloaders_every_n_epochs=1"):
        run(make_data(tmp_path, tmp_path / "ledger"), reload_dataloaders_every_n_epochs=0)


@pytest.mark.parametrize("change", ["seed", "data"])
def test_resume_with_another_plan_or_other_data_is_refused(tmp_path: Path, change: str) -> None:
    run(make_data(tmp_path, tmp_path / "ledger", admit_open=True), SaveEachBatch(tmp_path), max_epochs=1)
    other: dict[str, Any] = {"seed": 6} if change == "seed" else {}
    error: type[Exception] = ConfigError if change == "seed" else LedgerError
    root = tmp_path if change == "seed" else tmp_path / "other"
    ledger = tmp_path / ("ledger" if change == "seed" else "ledger2")
    if change == "data":
        make_dataset(root / "trusted", 8, prefix="t")
        make_dataset(root / "open", 14, prefix="o")
        make_dataset(root / "test", 3, prefix="v")
    with pytest.raises(error, match="resume with the same"):
        run(make_data(root, ledger, admit_open=True, **other), checkpoint=tmp_path / "0-2.ckpt")
