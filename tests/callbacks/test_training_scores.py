from types import SimpleNamespace

import numpy as np
import pytest
import torch

from callbacks.training_scores import STATE, TrainingScores
from mrm.errors import LedgerError
from tests.callbacks.fakes import ToyBatch
from tests.datamodules.making import make_dataset, make_sample


@pytest.fixture
def trainer(tmp_path):
    """Samples a, b, c of 2, 3 and 2 responses."""
    samples = [make_sample(key, images=(), responses=count) for key, count in (("a", 2), ("b", 3), ("c", 2))]
    index = make_dataset(tmp_path / "set", samples)
    return SimpleNamespace(datamodule=SimpleNamespace(index=index), world_size=1, current_epoch=0)


def train(kept, trainer, *batches):
    for keys, rewards in batches:
        batch = ToyBatch(list(keys), [])
        kept.on_train_batch_end(trainer, SimpleNamespace(last_rewards=torch.tensor(rewards)), None, batch, 0)


def test_training_scores_are_kept_by_response_and_summed_over_epochs(trainer):
    kept = TrainingScores()
    kept.on_fit_start(trainer, None)
    train(kept, trainer, ("ca", [1.0, 2.0, 3.0, 4.0]))
    kept.settle(trainer)
    np.testing.assert_array_equal(kept.newest, np.array([3, 4, np.nan, np.nan, np.nan, 1, 2], np.float32))
    trainer.current_epoch = 1
    train(kept, trainer, ("b", [5.0, 6.0, 7.0]), ("a", [1.0, 0.0]))
    kept.settle(trainer)
    np.testing.assert_array_equal(kept.newest, np.array([1, 0, 5, 6, 7, np.nan, np.nan], np.float32))
    assert kept.total.tolist() == [4, 4, 5, 6, 7, 1, 2] and kept.times.tolist() == [2, 2, 1, 1, 1, 1, 1]


def test_training_scores_sample_seen_twice_in_an_epoch_keeps_the_first(trainer):
    kept = TrainingScores()
    kept.on_fit_start(trainer, None)
    train(kept, trainer, ("a", [1.0, 2.0]), ("a", [8.0, 9.0]))
    kept.settle(trainer)
    train(kept, trainer, ("a", [8.0, 9.0]))
    kept.settle(trainer)
    assert kept.newest[:2].tolist() == [1, 2] and kept.times[:2].tolist() == [1, 1]


def test_training_scores_checkpoint_in_the_middle_goes_on_as_if_never_left(trainer):
    whole, killed, resumed = TrainingScores(), TrainingScores(), TrainingScores()
    for kept in (whole, killed):
        kept.on_fit_start(trainer, None)
        train(kept, trainer, ("ab", [1.0, 2.0, 3.0, 4.0, 5.0]))
    checkpoint = {}
    killed.on_save_checkpoint(trainer, None, checkpoint)
    resumed.on_load_checkpoint(trainer, None, checkpoint)
    resumed.on_fit_start(trainer, None)
    for kept in (whole, resumed):
        train(kept, trainer, ("c", [6.0, 7.0]), ("a", [0.0, 0.0]))
        kept.settle(trainer)
    for name in ("newest", "total", "times"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(resumed, name))


def test_training_scores_checkpoint_of_other_data_is_refused(trainer):
    kept = TrainingScores()
    kept.on_load_checkpoint(trainer, None, {STATE: {"newest": torch.zeros(3), "total": 0, "times": 0, "epoch": 0}})
    with pytest.raises(LedgerError, match="scores of 3 responses, the data has 7"):
        kept.on_fit_start(trainer, None)


def test_training_scores_forget_clears_the_trajectory_only(trainer):
    kept = TrainingScores()
    kept.on_fit_start(trainer, None)
    train(kept, trainer, ("a", [1.0, 2.0]))
    kept.settle(trainer)
    kept.forget()
    assert kept.newest[0] == 1 and not kept.total.any() and not kept.times.any()


def test_training_scores_disabled_keeps_nothing(trainer):
    kept, checkpoint = TrainingScores(enabled=False), {}
    kept.on_fit_start(trainer, None)
    train(kept, trainer, ("a", [1.0, 2.0]))
    kept.settle(trainer)
    kept.on_save_checkpoint(trainer, None, checkpoint)
    assert not len(kept.newest) and not checkpoint
