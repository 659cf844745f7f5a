"""Evaluation while training: it changes nothing, counts once, survives a kill at any batch, stops, and keeps the best weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks.best_weights import BEST_FILE, BestWeights
from callbacks.checkpoints import ResumeCheckpoint, newest_checkpoint
from callbacks.periodic_evaluation import PeriodicEvaluation
from datamodules.index import Index
from mrm.errors import ConfigError, MrmError
from mrm.evaluation.course import EarlyStopping, pair_figures
from mrm.model.packing import Unreadable
from tests.callbacks.fakes import ToyBatch
from tests.datamodules.making import make_dataset

BATCHES = 5  # an epoch
SETS = {"one": 4, "two": 2}


class Line(pl.LightningModule):
    """One weight that dropout pushes about; a response's reward follows from the weight and its number."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.weight = torch.nn.Parameter(torch.zeros(8))
        self.dropout = torch.nn.Dropout(0.5)
        self.scale = scale

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.dropout(self.weight) - batch).square().mean()

    def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> None:
        torch.manual_seed(100 * self.current_epoch + batch_idx)

    def predict_step(self, batch: ToyBatch, batch_idx: int = 0) -> torch.Tensor:
        assert not self.dropout.training
        torch.rand(3)  # must not be missed by the training
        numbers = torch.tensor(
            [int(key[3:]) + i for key, n in zip(batch.keys, batch.response_counts, strict=True) for i in range(n)]
        )
        return self.scale * torch.sin(40 * self.weight.sum() + 2.0 * numbers)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3)


class HeldOut:
    def __init__(self, index: Index) -> None:
        self.index = index
        self.broken: set[str] = set()

    def score_dataloader(self, rows: np.ndarray, responses: Any = None, **_: Any) -> list[ToyBatch]:
        keys = [str(self.index.keys[row]) for row in rows]
        bad = {key: [Unreadable(key, "shard", "damaged")] for key in keys if key in self.broken}
        return [ToyBatch([], [], bad[key]) if key in bad else ToyBatch([key], [2]) for key in keys]


class Data(pl.LightningDataModule):
    def __init__(self, root: Path) -> None:
        super().__init__()
        for name, size in SETS.items():
            if not (root / name).exists():
                make_dataset(root / name, size, prefix=name)
        self.sets = {name: HeldOut(Index.load(root / name)) for name in SETS}

    def held_out(self, name: str) -> HeldOut:
        return self.sets[name]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(BATCHES), batch_size=1)


class Kill(pl.Callback):
    """Fails before a batch is trained on; callbacks before it have seen all earlier ones."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_train_batch_start(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")


class Log(pl.loggers.Logger):
    name, version = "log", ""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged.append((step or 0, dict(metrics)))

    def log_hyperparams(self, *_: Any) -> None: ...


def watch(folder: Path, **settings: Any) -> PeriodicEvaluation:
    best = BestWeights(folder / "best", metric="val/accuracy", keep=settings.pop("keep", 1))
    return PeriodicEvaluation(**{"sets": list(SETS), "every_n_steps": 2, "every_n_epochs": 1, "best": best, **settings})


def train(
    folder: Path,
    evaluation: PeriodicEvaluation | None,
    *others: pl.Callback,
    module: Line | None = None,
    log: Log | None = None,
    accumulate: int = 1,
    every: int | None = 3,
    epochs: int = 3,
    reload: int = 1,
    most: int = -1,
) -> tuple[Line, pl.Trainer]:
    module = module or Line()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", accumulate_grad_batches=accumulate, logger=log or False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=reload, max_steps=most,
        callbacks=[*([evaluation] if evaluation else []), ResumeCheckpoint(folder / "checkpoints", every_n_steps=every), *others],
    )  # fmt: skip
    trainer.fit(module, Data(folder.parent), ckpt_path=newest_checkpoint(folder / "checkpoints"), weights_only=True)
    return module, trainer


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "best" / BEST_FILE).read_text())


def test_evaluation_comes_every_few_steps_and_at_each_epochs_end_once(tmp_path: Path) -> None:
    evaluation, log = watch(tmp_path / "run"), Log()
    train(tmp_path / "run", evaluation, log=log)
    steps = [2, 4, 5, 6, 8, 10, 12, 14, 15]  # the last batch of the second epoch is both
    assert [one.step for one in evaluation.evaluations] == steps
    assert [one.epoch for one in evaluation.evaluations] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    logged = [(step, metrics) for step, metrics in log.logged if "val/accuracy" in metrics]
    assert [step for step, _ in logged] == steps
    assert [metrics for _, metrics in logged] == [one.figures for one in evaluation.evaluations]
    assert evaluation.seconds > 0


def test_evaluation_with_accumulation_comes_once_a_step(tmp_path: Path) -> None:
    evaluation = watch(tmp_path / "run", every_n_epochs=None)
    train(tmp_path / "run", evaluation, accumulate=2)  # 3 steps an epoch, the last of one micro-batch
    assert [one.step for one in evaluation.evaluations] == [2, 4, 6, 8]


def test_evaluation_changes_no_bit_of_the_training(tmp_path: Path) -> None:
    class Draw(pl.Callback):
        def __init__(self) -> None:
            self.drawn: list[float] = []

        def on_train_batch_end(self, *_: Any) -> None:
            self.drawn.append(float(torch.rand(1)) + float(np.random.rand()))

    draws = Draw(), Draw()
    np.random.seed(1)
    with_it, _ = train(tmp_path / "a", watch(tmp_path / "a"), draws[0])
    np.random.seed(1)
    without, _ = train(tmp_path / "b", None, draws[1])
    assert torch.equal(with_it.weight, without.weight) and with_it.dropout.training
    assert draws[0].drawn == draws[1].drawn


@pytest.mark.parametrize("stopping", [None, EarlyStopping("val/one/accuracy", 3, first_epoch=1)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_run_killed_at_any_batch_and_resumed_evaluates_stops_and_keeps_as_one_left_alone(
    tmp_path: Path, stopping: EarlyStopping | None, accumulate: int
) -> None:
    def settings() -> dict[str, Any]:
        return {"stopping": stopping, "keep": 2, "every_n_steps": 2 if accumulate == 1 else 1}

    alone = watch(tmp_path / "alone", **settings())
    expected, trainer = train(tmp_path / "alone", alone, accumulate=accumulate)
    total = 3 * BATCHES
    if stopping is not None:
        assert alone.stopped and trainer.global_step < 3 * -(-BATCHES // accumulate)
    for batch in range(1, total):
        folder = tmp_path / f"killed{batch}"
        try:
            train(folder, watch(folder, **settings()), Kill(batch), accumulate=accumulate)
        except RuntimeError as error:
            assert "killed" in str(error)
        resumed = watch(folder, **settings())
        found, again = train(folder, resumed, accumulate=accumulate)
        assert resumed.evaluations == alone.evaluations, batch
        assert torch.equal(found.weight, expected.weight) and again.global_step == trainer.global_step, batch
        assert told(folder) == told(tmp_path / "alone") and resumed.summary() == alone.summary(), batch
        for one in told(folder)["kept"]:
            states = (
                torch.load(root / "best" / one["file"], weights_only=True)["state_dict"]
                for root in (folder, tmp_path / "alone")
            )
            assert torch.equal(*(state["weight"] for state in states)), batch
        assert len(list((folder / "best").iterdir())) == len(told(folder)["kept"]) + 1


def test_run_killed_behind_its_early_stop_goes_no_further(tmp_path: Path) -> None:
    stopping = EarlyStopping("val/one/accuracy", 3)
    folder = tmp_path / "run"
    _, trainer = train(folder, watch(folder, stopping=stopping))
    again = watch(folder, stopping=stopping)
    _, resumed = train(folder, again)
    assert again.stopped and resumed.global_step == trainer.global_step < 15


@pytest.mark.parametrize(("patience", "step", "early"), [(5, 10, True), (7, 14, True), (8, 15, False)])
def test_patience_that_ends_with_the_last_step_has_stopped_nothing(
    tmp_path: Path, patience: int, step: int, early: bool
) -> None:
    """Nine evaluations, at 2, 4, 5, 6, 8, 10, 12, 14 and 15, none of which is an improvement on the first by 1."""
    stopping = EarlyStopping("val/one/accuracy", patience, min_delta=1)
    for _ in range(2):  # the second time behind its end
        evaluation = watch(tmp_path / "run", stopping=stopping)
        _, trainer = train(tmp_path / "run", evaluation)
        assert trainer.global_step == step
        assert evaluation.stopped and evaluation.summary()["stopped_early"] is early


def test_best_of_the_checkpoint_stays_until_the_next_one(tmp_path: Path) -> None:
    """A better evaluation behind a checkpoint must not cost the weights that a run resumed from it counts as the best."""
    folder = tmp_path / "run"
    evaluation = watch(folder, every_n_steps=1)
    seen: list[tuple[set[str], set[str]]] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            path = newest_checkpoint(folder / "checkpoints")
            if path is None:
                return
            state = torch.load(path, weights_only=True)["callbacks"]["PeriodicEvaluation"]
            resumed = watch(folder)
            resumed.load_state_dict(state)
            needed = {f"step{resumed.summary()['best']['step']:07d}.ckpt"}
            seen.append((needed, {path.name for path in (folder / "best").glob("*.ckpt")}))

    train(folder, evaluation, Look(), every=4)
    assert any(len(there) == 2 for _, there in seen) and all(needed <= there for needed, there in seen)
    assert len(list((folder / "best").glob("*.ckpt"))) == 1


def test_best_load_puts_the_weights_back_and_tells_a_missing_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    weights: dict[int, torch.Tensor] = {}

    class Note(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Line, *_: Any) -> None:
            weights[trainer.global_step] = module.weight.detach().clone()

    evaluation = watch(folder)
    module, _ = train(folder, evaluation, Note())
    assert evaluation.best is not None
    chosen = evaluation.best.load(module, evaluation.evaluations)
    assert torch.equal(module.weight, weights[chosen.step])
    evaluation.best.path(chosen).unlink()
    with pytest.raises(MrmError, match="the best weights cannot be read"):
        evaluation.best.load(module, evaluation.evaluations)


def test_evaluation_of_rewards_that_are_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(MrmError, match="has diverged: at step 2 rewards of data set 'one'"):
        train(tmp_path / "run", watch(tmp_path / "run"), module=Line(scale=float("nan")))
    assert not (tmp_path / "run" / "best").exists()


def test_evaluation_is_over_the_pairs_that_can_be_read(tmp_path: Path) -> None:
    data, module, evaluation = Data(tmp_path), Line(), watch(tmp_path / "run", best=None)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[evaluation], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    data.sets["one"].broken = {"one1", "one3"}
    rewards: list[np.ndarray] = []
    predict = module.predict_step
    module.predict_step = lambda batch, *rest: rewards.append(predict(batch).detach().numpy()) or predict(batch)  # type: ignore[method-assign]
    trainer.fit(module, data)
    first = np.stack(rewards[:2])  # of one0 and one2, at the first evaluation
    expected = pair_figures(first[:, 0], first[:, 1])
    told = {kind: evaluation.evaluations[0].figures[f"val/one/{kind}"] for kind in expected}
    assert told == pytest.approx(expected)
    data.sets["one"].broken = {f"one{number}" for number in range(4)}
    with pytest.raises(MrmError, match="data set 'one': none of its pairs can be read"):
        trainer.fit_loop.max_epochs = 2
        trainer.fit(module, data)


def test_evaluation_without_sets_or_intervals_does_nothing(tmp_path: Path) -> None:
    evaluation = PeriodicEvaluation([], every_n_steps=None, every_n_epochs=None)
    train(tmp_path / "run", evaluation, epochs=1)
    assert evaluation.evaluations == [] and evaluation.summary() == {} and not evaluation.stopped


@pytest.mark.parametrize(
    ("settings", "training", "expected"),
    [  # 3 epochs of 5 steps
        ({"every_n_steps": 16}, {}, "evaluation.every_n_steps=16: nothing is ever evaluated in a training of at most 15 steps"),
        ({"every_n_steps": 10}, {"accumulate": 2}, "every_n_steps=10: .* of at most 9 steps"),
        ({"every_n_steps": 5}, {"most": 4, "reload": 1}, "every_n_steps=5: .* of at most 4 steps"),
        ({"every_n_steps": 16, "every_n_epochs": 4}, {}, "every_n_steps=16: .*every_n_epochs of at most 3"),
        (
            {"every_n_steps": 4, "stopping": EarlyStopping("val/accuracy", 3)},  # at 4, 8 and 12
            {}, "evaluation.early_stopping.patience=3: can never stop this training of at most 15 steps.*at most 3 evaluations count",
        ),
        (
            {"every_n_steps": 4, "stopping": EarlyStopping("val/accuracy", 2, first_epoch=2)},  # 5 steps hold two at most
            {}, "patience=2: can never.*behind the last round of curation, after epoch 1, at most 2 evaluations count",
        ),
    ],
)  # fmt: skip
def test_evaluations_that_never_come_are_refused_before_the_first_step(
    tmp_path: Path, settings: dict[str, Any], training: dict[str, Any], expected: str
) -> None:
    module, before = Line(), Line().weight.detach().clone()
    evaluation = watch(tmp_path / "run", **{"every_n_epochs": None, **settings})
    with pytest.raises(ConfigError, match=expected):
        train(tmp_path / "run", evaluation, module=module, **{"reload": 0, **training})
    assert torch.equal(module.weight, before) and not evaluation.evaluations


@pytest.mark.parametrize(
    ("settings", "training", "steps"),
    [
        ({"every_n_steps": 15}, {"reload": 0}, [15]),
        ({"every_n_steps": 100, "every_n_epochs": 3}, {"reload": 0}, [15]),
        ({"every_n_steps": 4, "stopping": EarlyStopping("val/accuracy", 2, min_delta=9)}, {"reload": 0}, [4, 8, 12]),
        ({"every_n_steps": 16}, {}, []),  # each epoch is loaded anew, and might be longer
    ],
)
def test_evaluations_that_may_come_are_let_be(
    tmp_path: Path, settings: dict[str, Any], training: dict[str, Any], steps: list[int]
) -> None:
    evaluation = watch(tmp_path / "run", **{"every_n_epochs": None, **settings})
    train(tmp_path / "run", evaluation, **training)
    assert [one.step for one in evaluation.evaluations] == steps


def test_run_that_goes_on_is_not_refused_for_evaluations_that_never_come(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "run", None, Kill(7))
    evaluation = watch(tmp_path / "run", every_n_steps=16, every_n_epochs=None)
    _, trainer = train(tmp_path / "run", evaluation, reload=0)
    assert trainer.global_step == 15 and evaluation.summary() == {}
