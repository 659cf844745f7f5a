"""The callbacks with the real datamodule: a run killed in the middle and resumed ends where one left alone ends."""

from __future__ import annotations

import shutil

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from callbacks.curation_schedule import RoundSpec
from callbacks.iterative_curation import IterativeCuration
from callbacks.throughput import Throughput
from datamodules.ledger import ledger_rounds
from datamodules.preference_datamodule import DatasetSpec, PreferenceDataModule
from mrm.construction.embedded import ShapeWorldScorer
from mrm.errors import LedgerError
from mrm.model.packing import RewardBatch
from tests.callbacks.fakes import make_annotators
from tests.datamodules.making import ToyEncoder, make_dataset, make_image, make_sample

SCHEDULE = (RoundSpec(0, ("score", "correct")), RoundSpec(1, ("score", "filter", "annotate")))


class CharacterRewards(pl.LightningModule):
    """A response's reward is the sum over its characters; Bradley-Terry."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards = torch.nn.Embedding(256, 1)
        torch.nn.init.normal_(self.rewards.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, batch: RewardBatch) -> torch.Tensor:
        values = self.rewards(batch.input_ids)[..., 0].cumsum(-1)
        return values[batch.score_row, batch.score_column]

    def training_step(self, batch: RewardBatch, batch_idx: int) -> torch.Tensor:
        scores = self(batch)
        gap = scores[batch.edge_chosen] - scores[batch.edge_rejected]
        return (batch.edge_weight * torch.nn.functional.softplus(-gap)).sum() / batch.normalizer

    def predict_step(self, batch: RewardBatch, batch_idx: int = 0) -> torch.Tensor:
        return self(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


class SaveEachBatch(pl.Callback):
    def __init__(self, directory):
        self.directory = directory

    def on_train_batch_end(self, trainer, *_):
        trainer.save_checkpoint(self.directory / f"{trainer.current_epoch}-{trainer.fit_loop.batch_idx}.ckpt")


class Recorder(pl.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics, step=None):
        self.names |= metrics.keys()


def make_data(root, ledger_dir):
    if not (root / "open").exists():
        make_dataset(root / "trusted", 6, prefix="t")
        wrong = np.random.default_rng(0).random(14) < 0.4
        truths = [{"errors": [1, 0] if w else [0, 1], "flipped": [bool(w)]} for w in wrong]
        samples = [make_sample(f"o{i}", images=(), meta={"truth": truth}) for i, truth in enumerate(truths)]
        make_dataset(root / "open", [*samples, make_sample("broken", images=[make_image()[:60]])])
    specs = [DatasetSpec(name, root / name, name) for name in ("trusted", "open")]
    settings = {"batch_size": 4, "score_batch_size": 3, "row_tokens": None, "num_workers": 0, "seed": 5}
    return PreferenceDataModule(specs, ToyEncoder(), ledger_dir=ledger_dir, max_unreadable=0.2, **settings)


def fit(root, ledger_dir, *callbacks, checkpoint=None, logger=False):
    annotators = make_annotators(ledger_dir.parent / "answers", ShapeWorldScorer("a"), ShapeWorldScorer("b"))
    curation = IterativeCuration(SCHEDULE, annotators=annotators)
    module = CharacterRewards()
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        reload_dataloaders_every_n_epochs=1,
        callbacks=[curation, *callbacks],
        logger=logger,
        **quiet,
    )
    trainer.fit(module, datamodule=make_data(root, ledger_dir), ckpt_path=checkpoint, weights_only=False)
    return curation, module


def ledger_bytes(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    (root / "saved").mkdir()
    recorder = Recorder()
    curation, module = fit(root, root / "ledgers", SaveEachBatch(root / "saved"), Throughput(1), logger=recorder)
    return root, curation, module, recorder


def test_curated_training_accounts_for_every_pair_and_logs(whole):
    root, curation, _, recorder = whole
    assert ledger_rounds(root / "ledgers") == [0, 1, 2]
    first, second = curation.rounds
    assert (first["open_pairs"], first["scored"], first["unreadable"], first["active_pairs"]) == (15, 15, 1, 14)
    assert second["restored"] + second["dropped"] == second["reannotated"]
    assert second["kept"] + second["reannotated"] == 14
    assert second["noise_before"] == first["noise_after"]
    assert {"curation/flipped", "curation/noise_after", "curation/seconds"} <= recorder.names
    assert {"throughput/pairs_per_second", "throughput/tokens_per_second"} <= recorder.names


@pytest.mark.parametrize("batch", ["0-0", "1-1", "2-0"])
def test_curated_training_killed_and_resumed_ends_as_if_left_alone(whole, tmp_path, batch):
    root, curation, module, _ = whole
    ledgers = shutil.copytree(root / "ledgers", tmp_path / "ledgers")  # those of later rounds are there as well
    resumed, resumed_module = fit(root, ledgers, checkpoint=root / "saved" / f"{batch}.ckpt")
    assert resumed.rounds == curation.rounds
    assert ledger_bytes(ledgers) == ledger_bytes(root / "ledgers")
    torch.testing.assert_close(resumed_module.rewards.weight, module.rewards.weight, rtol=0, atol=0)


def test_curated_training_resumed_from_an_epochs_last_batch_makes_up_for_the_boundary(whole, tmp_path):
    root, curation, *_ = whole
    last = max((root / "saved").glob("0-*.ckpt"))  # its round had not run
    ledgers = shutil.copytree(root / "ledgers", tmp_path / "ledgers")
    resumed, _ = fit(root, ledgers, checkpoint=last)
    assert resumed.rounds == curation.rounds


def test_curated_training_epoch_whose_round_was_skipped_is_refused(whole, tmp_path):
    root, curation, *_ = whole
    (tmp_path / "ledgers").mkdir()
    shutil.copy(root / "ledgers" / "round_0000.parquet", tmp_path / "ledgers")
    data = make_data(root, tmp_path / "ledgers")
    data.expected_round = curation.expected_round
    data.epoch_loader(0)
    with pytest.raises(LedgerError, match="epoch 1 must be planned with the ledger of round 1"):
        data.epoch_loader(1)
