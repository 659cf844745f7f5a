import numpy as np
import pytest
import torch

from callbacks.pool_scoring import PoolScores, Scorer, _evaluating, pair_scores, pair_truth, score_pool, share_of_rank
from mrm.errors import CurationError, UnreadableSamplesError
from mrm.model.packing import Unreadable
from mrm.preference import Message, Pair, PreferenceSample
from tests.callbacks.fakes import ToyBatch
from tests.datamodules.making import make_dataset, make_sample


class OneDevice:
    """What scoring uses of a trainer."""

    world_size, global_rank, is_global_zero, progress_bar_callback = 1, 0, True, None

    def __init__(self):
        self.strategy = self

    def batch_to_device(self, batch):
        return batch


def predict(batch):
    """A response scores its place among those asked for."""
    return torch.cat([torch.arange(count, dtype=torch.bfloat16) for count in batch.response_counts])


SCORER = Scorer((torch.nn.Linear(1, 1),), predict)


class Loading:
    """A datamodule that gives these batches, pass by pass, and keeps what it was asked for."""

    def __init__(self, index, *passes):
        self.index, self.passes, self.asked = index, list(passes), []

    def score_dataloader(self, rows, responses, *, encoder, layout):
        self.asked.append(([self.index.keys[row] for row in rows], dict(responses)))
        return self.passes.pop(0)


def test_share_of_rank_all_ranks_cover_the_rows_in_equal_numbers():
    rows = np.array([3, 5, 8, 9, 11])
    shares = [share_of_rank(rows, rank, 3).tolist() for rank in range(3)]
    assert shares == [[3, 9], [5, 11], [8, 3]]  # the first row fills up
    assert share_of_rank(rows, 0, 1).tolist() == rows.tolist()
    assert [len(share_of_rank(rows[:1], rank, 4)) for rank in range(4)] == [1, 1, 1, 1]
    assert len(share_of_rank(rows[:0], 1, 2)) == 0


@pytest.fixture
def index(tmp_path):
    samples = [make_sample("a", images=()), make_sample("b", images=(), responses=3), make_sample("c", images=())]
    return make_dataset(tmp_path / "abc", samples)


def test_score_pool_splits_rewards_by_sample_as_float32(index):
    datamodule = Loading(index, [ToyBatch(["a", "b"], [2, 3]), ToyBatch([], []), ToyBatch(["c"], [2])])
    scores = score_pool(OneDevice(), SCORER, datamodule, np.arange(3))
    assert scores.rewards.tolist() == [0, 1, 0, 1, 2, 0, 1] and scores.scored.all()
    assert scores.rewards.dtype == np.float32


def test_score_pool_rows_not_asked_for_have_no_score(index):
    scores = score_pool(OneDevice(), SCORER, Loading(index, [ToyBatch(["c"], [2])]), np.array([2]))
    assert scores.scored.tolist() == [False] * 5 + [True] * 2 and np.isnan(scores.rewards[:5]).all()


def test_score_pool_no_rows_asks_nothing(index):
    assert not score_pool(OneDevice(), SCORER, Loading(index), np.zeros(0, np.int64)).scored.any()


def same_prompt(key, *texts):
    return PreferenceSample(key, "made", (Message("user", "What?"),), (), texts, (Pair(0, 1),), {})


def test_score_pool_response_that_two_samples_share_is_scored_once(tmp_path):
    index = make_dataset(tmp_path / "d", [same_prompt("a", "x", "y"), same_prompt("b", "z", "y")])
    datamodule = Loading(index, [ToyBatch(["a", "b"], [2, 1])])
    scores = score_pool(OneDevice(), SCORER, datamodule, np.arange(2))
    assert datamodule.asked == [(["a", "b"], {1: (0,)})]
    assert scores.rewards.tolist() == [0, 1, 0, 1]  # y of b has the score of y of a


def test_score_pool_shared_response_of_an_unreadable_sample_is_scored_where_else_it_stands(tmp_path):
    index = make_dataset(tmp_path / "d", [same_prompt("a", "x", "y"), same_prompt("b", "z", "y")])
    first = [ToyBatch(["b"], [1], [Unreadable("a", "shard", "cut off")])]
    datamodule = Loading(index, first, [ToyBatch(["b"], [2])])
    scores = score_pool(OneDevice(), SCORER, datamodule, np.arange(2))
    assert datamodule.asked[1] == (["b"], {})
    assert scores.unreadable == {0: "cut off"} and scores.scored.tolist() == [False, False, True, True]


def test_score_pool_sample_that_got_lost_is_an_error(index):
    with pytest.raises(CurationError, match="lost 1 of 2 samples, first 'b'"):
        score_pool(OneDevice(), SCORER, Loading(index, [ToyBatch(["a"], [2])]), np.arange(2))


def test_score_pool_too_many_unreadable_stops(index):
    def broken():
        raise UnreadableSamplesError("too many")
        yield

    loader = type("Loader", (), {"__len__": lambda self: 1, "__iter__": lambda self: broken()})()
    with pytest.raises(UnreadableSamplesError):
        score_pool(OneDevice(), SCORER, Loading(index, loader), np.arange(1))


def test_evaluating_keeps_dropout_on_where_asked_and_brings_it_back():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module.eval()
    with _evaluating(Scorer((module,), predict, training=(module[1],))):
        assert not module[0].training and module[1].training
    assert not module[1].training


def test_evaluating_brings_every_part_back_as_it_was():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module[1].eval()  # a frozen part
    with pytest.raises(RuntimeError), _evaluating(Scorer((module,), predict)):
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
    rewards = np.array([1, 2, 3, np.nan, np.nan, 7, 8], np.float32)
    scores = PoolScores(rewards, np.isfinite(rewards), {1: "no image"})
    chosen, rejected, reasons = pair_scores(scores, index, np.array([True, True, True, False]))
    np.testing.assert_array_equal(chosen, [3.0, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(rejected, [1.0, 2.0, np.nan, np.nan])
    assert reasons.tolist() == ["", "", "no image", ""]
    truths = [sample.meta.get("truth") for sample in samples]
    assert pair_truth(index, np.ones(4, bool), lambda rows: [truths[row] for row in rows]).tolist() == [1, 0, -1, -1]
