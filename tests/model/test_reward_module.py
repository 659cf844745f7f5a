import functools

import lightning.pytorch as pl
import pytest
import torch

from datamodules.preference_datamodule import DatasetSpec, PreferenceDataModule
from datamodules.prepare import prepare
from mrm.errors import MrmError
from mrm.model.losses import bradley_terry, shortcut_aware
from mrm.model.reward_module import RewardModule
from mrm.model.saving import load_reward_model, save_reward_model
from tests.model.worlds import encoder, reward_model


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    prepare("shapeworld", None, folder / "trusted", split="trusted", count=20, show_progress=False)
    prepare("shapeworld", None, folder / "test", split="test_style_matched", count=6, show_progress=False)
    return folder


def build(shards, batch_size, seed=0, workers=0, row_tokens=None, twin=False, **settings):
    datasets = [DatasetSpec("trusted", shards / "trusted", "trusted"), DatasetSpec("held_out", shards / "test", "test")]
    data = PreferenceDataModule(
        datasets,
        encoder(),
        ledger_dir=None,
        batch_size=batch_size,
        score_batch_size=4,
        row_tokens=row_tokens,
        num_workers=workers,
        seed=seed,
        text_only=twin,
    )
    torch.manual_seed(0)
    settings = {"lr": 1e-3, "head_lr": 1e-3, "schedule": "cosine", "warmup": 0.1, **settings}
    module = RewardModule(
        reward_model(head="mlp", text_twin=twin).train(),
        loss=functools.partial(shortcut_aware if twin else bradley_terry, margin="shift"),
        weight_decay=0.01,
        betas=(0.9, 0.98),
        test_names=["held_out"],
        **settings,
    )
    return module, data


def trainer(tmp_path, **settings):
    return pl.Trainer(
        **{
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "reload_dataloaders_every_n_epochs": 1,
            "use_distributed_sampler": False,
            "default_root_dir": tmp_path,
            **settings,
        }
    )


def weights(module):
    return {name: value.clone() for name, value in module.model.state_dict().items()}


def train(shards, tmp_path, batch_size, accumulate, **settings):
    """Weights after one epoch. 20 samples of one or three pairs: steps of 8, 8 and 4."""
    module, data = build(shards, batch_size, **settings)
    trainer(tmp_path, accumulate_grad_batches=accumulate).fit(module, datamodule=data)
    return weights(module)


def assert_equal(found, expected, start, most=5e-4):
    """Both trainings moved the weights alike: by length, within `most` of the way (1e-4 was seen).

    Single weights may differ by a tenth of the way: Adam divides rounding noise in a tiny gradient by itself.
    """
    way = sum((expected[name] - value).double().square().sum() for name, value in start.items()).sqrt()
    off = sum((expected[name] - value).double().square().sum() for name, value in found.items()).sqrt()
    assert way > 1e-2
    assert off < most * way


def test_training_batch_8_equals_batch_4_accumulated_twice(shards, tmp_path):
    whole = train(shards, tmp_path, 8, 1)
    halves = train(shards, tmp_path, 4, 2)
    start = weights(build(shards, 8)[0])
    assert_equal(halves, whole, start)


def test_training_packed_rows_equal_a_row_a_sample(shards, tmp_path):
    separate, packed = train(shards, tmp_path, 8, 1), train(shards, tmp_path, 8, 1, row_tokens=512)
    assert_equal(packed, separate, weights(build(shards, 8)[0]))


def test_training_with_workers_equals_without(shards, tmp_path):
    alone, helped = train(shards, tmp_path, 8, 1), train(shards, tmp_path, 8, 1, workers=1)
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_training_leaves_the_vision_tower_as_it_was(shards, tmp_path):
    before, after = weights(build(shards, 8)[0]), train(shards, tmp_path, 8, 1)
    for name, value in before.items():
        if ".visual." in name:
            assert torch.equal(after[name], value), name


def test_learning_rate_follows_progress_through_the_epochs(shards, tmp_path):
    class Rates(pl.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, *_):
            self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    module, data = build(shards, 8, lr=1.0e-4, head_lr=2.0e-4, schedule="cosine", warmup=0.5)
    rates = Rates()
    trainer(tmp_path, max_epochs=2, callbacks=[rates]).fit(module, datamodule=data)
    # three steps an epoch, each taken in its middle: 1/6, 3/6, 5/6 of the warm-up, then (1 + cos(pi x)) / 2 of the same
    factors = [1 / 6, 1 / 2, 5 / 6, 0.9330127, 0.5, 0.0669873]
    assert [max(row) for row in rates.seen] == pytest.approx([2e-4 * f for f in factors])
    assert [min(row) for row in rates.seen] == pytest.approx([1e-4 * f for f in factors])


def test_restart_brings_back_weights_and_forgets_the_optimizer(shards, tmp_path):
    class Restart(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 0:
                module.restart(self.base)
                states = trainer.optimizers[0].state.values()
                assert all(not value.any() for state in states for value in state.values())

    module, data = build(shards, 8)
    restart = Restart()
    restart.base = {name: value.clone() for name, value in module.state_dict().items()}
    trainer(tmp_path, callbacks=[restart]).fit(module, datamodule=data)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in restart.base.items())


def test_learning_rate_begins_again_after_a_cold_start_whatever_is_accumulated(shards, tmp_path):
    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    for batch_size, accumulate in ((8, 1), (4, 2)):
        module, data = build(shards, batch_size, lr=1e-3, head_lr=1e-3, warmup=0.0, cycle_starts=(1,))
        rates = Rates()
        rates.seen = []
        runner = trainer(tmp_path, max_epochs=2, callbacks=[rates], accumulate_grad_batches=accumulate)
        runner.fit(module, datamodule=data)
        assert rates.seen[::accumulate] == pytest.approx([0.9330127e-3, 0.5e-3, 0.0669873e-3] * 2)  # two whole cycles


class Spoil(pl.Callback):
    """Makes a weight of the head NaN before a batch, or after one."""

    def __init__(self, before=None, after=None):
        self.before, self.after = before, after
        self.steps = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == self.before:
            module.model.head.layers[-1].weight.data[0, 0] = float("nan")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps += 1
        if batch_idx == self.after:
            module.model.head.layers[-1].weight.data[0, 0] = float("nan")

    def on_train_epoch_end(self, trainer, module):
        raise AssertionError("curation would judge with these weights")


@pytest.mark.parametrize(("every", "steps"), [(1, 2), (50, 3)])  # three steps an epoch
def test_training_that_diverges_stops_where_figures_are_logged_or_at_the_epochs_end(shards, tmp_path, every, steps):
    module, data = build(shards, 8, lr=2e-3, head_lr=3e-3)
    spoil = Spoil(before=1)
    with pytest.raises(MrmError, match=r"diverged: at step 1 .*optim.lr=0.002 and optim.head_lr=0.003. Lower them"):
        trainer(tmp_path, callbacks=[spoil], log_every_n_steps=every).fit(module, datamodule=data)
    assert spoil.steps == steps


def test_training_whose_last_step_spoils_the_weights_stops_before_curation(shards, tmp_path):
    module, data = build(shards, 8)
    with pytest.raises(MrmError, match="weight tensors are not finite"):
        trainer(tmp_path, callbacks=[Spoil(after=2)]).fit(module, datamodule=data)


def test_checkpoint_of_weights_that_are_not_finite_is_not_saved(shards, tmp_path):
    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            module.model.head.layers[-1].weight.data[0, 0] = float("nan")
            trainer.save_checkpoint(tmp_path / "a.ckpt")

    module, data = build(shards, 8)
    with pytest.raises(MrmError, match="weight tensors are not finite"):
        trainer(tmp_path, callbacks=[Save()]).fit(module, datamodule=data)
    assert not (tmp_path / "a.ckpt").exists()


def test_test_of_rewards_that_are_not_finite_is_an_error(shards, tmp_path):
    module, data = build(shards, 8)
    module.model.head.layers[-1].weight.data[:] = float("nan")
    with pytest.raises(MrmError, match="a loss or reward is not a finite number"):
        trainer(tmp_path).test(module, datamodule=data, verbose=False)


def test_test_reports_the_share_of_pairs_won(shards, tmp_path):
    module, data = build(shards, 8)
    runner = trainer(tmp_path)
    (found,) = runner.test(module, datamodule=data, verbose=False)
    assert found.keys() == {"test/held_out/accuracy"}
    assert found["test/held_out/accuracy"] * 6 == pytest.approx(round(found["test/held_out/accuracy"] * 6), abs=1e-5)


def test_text_only_twin_teaches_its_own_head_and_nothing_else(shards):
    module, data = build(shards, 4, twin=True)
    data.setup("fit")
    batch = next(iter(data.epoch_loader(0)))
    assert batch.pixel_values is not None and batch.text_only.pixel_values is None
    assert batch.text_only.keys == batch.keys
    module.model.forward_text(batch.text_only).sum().backward()
    taught = {name for name, weight in module.model.named_parameters() if weight.grad is not None}
    assert taught and all(name.startswith("text_head.") for name in taught)


def test_text_only_twin_is_trained_beside_the_model_and_is_not_saved(shards, tmp_path):
    module, data = build(shards, 8, twin=True)
    start = weights(module)
    trainer(tmp_path).fit(module, datamodule=data)
    moved = {name for name, value in weights(module).items() if not torch.equal(value, start[name])}
    assert any(name.startswith("text_head.") for name in moved) and any(name.startswith("head.") for name in moved)
    save_reward_model(module.model, tmp_path / "model", encoder())
    loaded, _ = load_reward_model(tmp_path / "model")
    assert loaded.text_head is None


def test_text_only_twin_changes_no_step_of_the_model_but_by_its_weights(shards, tmp_path):
    module, data = build(shards, 8, twin=True)
    module.loss = lambda *pairs, text_delta, sees: (
        bradley_terry(*pairs, margin="shift"),
        100 * (1 - text_delta).square(),
    )
    trainer(tmp_path, gradient_clip_val=0.01).fit(module, datamodule=data)  # every step is clipped
    plain, data = build(shards, 8)
    trainer(tmp_path, gradient_clip_val=0.01).fit(plain, datamodule=data)
    found = weights(module)
    assert all(torch.equal(found[name], value) for name, value in weights(plain).items())


def test_text_only_twin_logs_how_often_the_text_tells_the_winner(shards, tmp_path):
    module, data = build(shards, 8, twin=True)
    run = trainer(tmp_path)
    run.fit(module, datamodule=data)
    assert 0 <= run.callback_metrics["train/text_only_accuracy"] <= 1
