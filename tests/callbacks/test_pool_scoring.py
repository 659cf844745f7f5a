from types import SimpleNamespace

import numpy as np
import pytest
import torch

from callbacks.pool_scoring import PoolScores, _evaluating, pair_scores, pair_truth, score_pool, share_of_rank
from mrm.errors import CurationError, UnreadableSamplesError
from mrm.preference import Pair
from tests.callbacks.fakes import ToyBatch
from tests.datamodules.making import make_dataset, make_sample


class OneDevice:
    """What scoring uses of a trainer; the module scores a response by its place in its sample."""

    world_size, global_rank, is_global_zero, progress_bar_callback = 1, 0, True, None

    def __init__(self):
        self.strategy = self

    def batch_to_device(self, batch):
        return batch

    def predict_step(self, batch):
        return torch.cat([torch.arange(count, dtype=torch.bfloat16) for count in batch.response_counts])


def datamodule_of(batches, keys):
    return SimpleNamespace(score_dataloader=lambda rows: batches, index=SimpleNamespace(keys=np.array(keys, object)))


def test_share_of_rank_all_ranks_cover_the_rows_in_equal_numbers():
    rows = np.array([3, 5, 8, 9, 11])
    shares = [share_of_rank(rows, rank, 3).tolist() for rank in range(3)]
    assert shares == [[3, 9], [5, 11], [8, 3]]  # the first row fills up
    assert share_of_rank(rows, 0, 1).tolist() == rows.tolist()
    assert [len(share_of_rank(rows[:1], rank, 4)) for rank in range(4)] == [1, 1, 1, 1]
    assert len(share_of_rank(rows[:0], 1, 2)) == 0


def test_score_pool_splits_rewards_by_sample_as_float32():
    datamodule = datamodule_of([ToyBatch(["a", "b"], [2, 3]), ToyBatch([], []), ToyBatch(["c"], [2])], ["a", "b", "c"])
    scores = score_pool(OneDevice(), torch.nn.Linear(1, 1), datamodule, np.arange(3))
    assert {key: values.tolist() for key, values in scores.rewards.items()} == {
        "a": [0, 1],
        "b": [0, 1, 2],
        "c": [0, 1],
    }
    assert scores.rewards["a"].dtype == np.float32


def test_score_pool_sample_that_got_lost_is_an_error():
    with pytest.raises(CurationError, match="lost 1 of 2 samples, first 'b'"):
        score_pool(OneDevice(), torch.nn.Linear(1, 1), datamodule_of([ToyBatch(["a"], [2])], ["a", "b"]), np.arange(2))


def test_score_pool_too_many_unreadable_stops():
    def broken():
        raise UnreadableSamplesError("too many")
        yield

    loader = type("Loader", (), {"__len__": lambda self: 1, "__iter__": lambda self: broken()})()
    with pytest.raises(UnreadableSamplesError):
        score_pool(OneDevice(), torch.nn.Linear(1, 1), datamodule_of(loader, ["a"]), np.arange(1))


def test_evaluating_brings_every_part_back_as_it_was():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module[1].eval()  # a frozen part
    with pytest.raises(RuntimeError), _evaluating(module):
        assert not module.training and not module[0].training
        raise RuntimeError
    assert module.training and module[0].training and not module[1].training


def test_pair_scores_and_truth_of_several_pairs_a_sample_are_found_by_number(tmp_path):
    samples = [
        make_sample(
            "a", images=(), responses=3, pairs=[Pair(2, 0), Pair(0, 1)], meta={"truth": {"flipped": [True, False]}}
        ),
        make_sample("b", images=()),
        make_sample("c", images=(), meta={"truth": {"flipped": [True, True]}}),  # malformed: one pair, two truths
    ]
    index = make_dataset(tmp_path / "d", samples)
    scores = PoolScores({"a": np.array([1.0, 2.0, 3.0], np.float32)}, {"b": "no image"})
    chosen, rejected, reasons = pair_scores(scores, index, np.array([True, True, True, False]))
    np.testing.assert_array_equal(chosen, [3.0, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(rejected, [1.0, 2.0, np.nan, np.nan])
    assert reasons.tolist() == ["", "", "no image", ""]
    datamodule = SimpleNamespace(index=index, read_truth=lambda rows: [samples[row].meta.get("truth") for row in rows])
    assert pair_truth(datamodule, np.ones(4, bool)).tolist() == [1, 0, -1, -1]
