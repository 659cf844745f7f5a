import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from callbacks.score_passes import ScorePass, nearest_to_zero, pass_problems, score_pairs, score_pass
from callbacks.training_scores import TrainingScores
from mrm.errors import ConfigError
from tests.callbacks.fakes import ToyBatch
from tests.datamodules.making import make_dataset, make_sample

NAN = np.nan


@pytest.fixture
def index(tmp_path):
    """Four samples of two responses; responses 0 to 7, pairs (0, 1), (2, 3), (4, 5), (6, 7)."""
    return make_dataset(tmp_path / "set", [make_sample(key, images=()) for key in "abcd"])


class Model(torch.nn.Module):
    """Scores every response by a table; dropout, where it is on, adds a draw."""

    def __init__(self, table):
        super().__init__()
        self.table, self.dropout = table, torch.nn.Dropout(0.5)

    def predict_step(self, batch):
        scores = torch.tensor([score for key in batch.keys for score in self.table[key]])
        return scores + (torch.rand(len(scores)) if self.dropout.training else 0)


class World:
    """Trainer, strategy and datamodule in one; keeps which rows were scored, pass by pass."""

    world_size, global_rank, is_global_zero, progress_bar_callback, row_tokens = 1, 0, True, None, None

    def __init__(self, index, table):
        self.index, self.model, self.scored = index, Model(table), []
        self.strategy = SimpleNamespace(batch_to_device=lambda b: b, predict_step=self.model.predict_step)
        self.precision_plugin = SimpleNamespace()

    def score_dataloader(self, rows, responses, *, encoder, layout):
        self.scored.append(rows.tolist())
        keys = [self.index.keys[row] for row in rows]
        return [ToyBatch(keys, [2] * len(keys))] if keys else []

    def pairs(self, *passes, needed=(True,) * 4, recorded=None):
        return score_pairs(passes, self, self.model, self, np.array(needed), recorded or TrainingScores(enabled=False))


TABLE = {"a": [1.0, 0.0], "b": [2.0, 5.0], "c": [0.5, 0.25], "d": [3.0, 1.0]}


def recorded_scores(newest, total=None, times=None):
    kept = TrainingScores()
    kept.newest = np.array(newest, np.float32)
    kept.total = np.array(total if total is not None else [0.0] * 8)
    kept.times = np.array(times if times is not None else [0] * 8, np.int32)
    return kept


def test_score_pairs_current_scores_what_is_needed_only(index):
    world = World(index, TABLE)
    scores = world.pairs(ScorePass(), needed=(True, False, True, False))
    assert world.scored == [[0, 2]]
    np.testing.assert_array_equal(scores.chosen, [[1.0, NAN, 0.5, NAN]])
    np.testing.assert_array_equal(scores.rejected, [[0.0, NAN, 0.25, NAN]])


def test_score_pairs_recorded_scores_anew_those_nearest_to_zero_and_those_never_seen(index):
    """Margins in training: 4, -0.5, unseen, 1. A half of three known pairs, rounded up, are b and d; c was not seen."""
    kept = recorded_scores([4.0, 0.0, 1.0, 1.5, NAN, NAN, 2.0, 1.0])
    world = World(index, TABLE)
    scores = world.pairs(ScorePass("recorded", fresh_share=0.5), recorded=kept)
    assert world.scored == [[1, 2, 3]]
    np.testing.assert_array_equal(scores.chosen, [[4.0, 2.0, 0.5, 3.0]])
    np.testing.assert_array_equal(scores.rejected, [[0.0, 5.0, 0.25, 1.0]])


def test_score_pairs_recorded_without_budget_scores_nothing_that_training_saw(index):
    kept = recorded_scores([4.0, 0.0, 1.0, 1.5, 0.0, 1.0, 2.0, 1.0])
    world = World(index, TABLE)
    scores = world.pairs(ScorePass("recorded", fresh_share=0.0), recorded=kept)
    assert world.scored == []
    np.testing.assert_array_equal(scores.chosen[0] - scores.rejected[0], [4.0, -0.5, -1.0, 1.0])


def test_score_pairs_recorded_all_fresh_equals_current(index):
    kept = recorded_scores(np.random.default_rng(0).normal(size=8))
    fresh = World(index, TABLE).pairs(ScorePass("recorded", fresh_share=1.0), recorded=kept)
    current = World(index, TABLE).pairs(ScorePass())
    np.testing.assert_array_equal(fresh.chosen, current.chosen)
    np.testing.assert_array_equal(fresh.rejected, current.rejected)


def test_score_pairs_trajectory_is_the_mean_and_the_model_where_nothing_was_seen(index):
    kept = recorded_scores([NAN] * 8, [6.0, 3.0, 0, 0, 0, 0, 1.0, 2.0], [3, 3, 0, 0, 0, 0, 1, 2])
    world = World(index, TABLE)
    scores = world.pairs(ScorePass("trajectory"), recorded=kept)
    assert world.scored == [[1, 2]]
    np.testing.assert_array_equal(scores.chosen, [[2.0, 2.0, 0.5, 1.0]])
    np.testing.assert_array_equal(scores.rejected, [[1.0, 5.0, 0.25, 1.0]])


def test_score_pairs_trajectory_takes_the_model_where_its_sum_is_no_number(index):
    kept = recorded_scores([NAN] * 8, [6.0, 3.0, np.inf, 0, 0, 0, 1.0, 2.0], [3, 3, 1, 1, 0, 0, 1, 2])
    scores = World(index, TABLE).pairs(ScorePass("trajectory"), recorded=kept)
    assert np.isfinite(scores.chosen).all() and (scores.reasons == "").all()


def test_score_pairs_several_passes_share_the_models_own_scoring(index):
    kept = recorded_scores([4.0, 0.0, 1.0, 1.5, NAN, NAN, 2.0, 1.0])
    world = World(index, TABLE)
    scores = world.pairs(ScorePass(), ScorePass("recorded", fresh_share=0.0), recorded=kept)
    assert world.scored == [[0, 1, 2, 3]]
    np.testing.assert_array_equal(scores.chosen, [[1.0, 2.0, 0.5, 3.0], [4.0, 1.0, 0.5, 2.0]])


def test_score_pairs_dropout_draws_each_pass_anew_and_the_same_again(index):
    first = World(index, TABLE).pairs(ScorePass("dropout", count=3))
    again = World(index, TABLE).pairs(ScorePass("dropout", count=3))
    assert first.chosen.shape == (3, 4) and len(np.unique(first.chosen[:, 0])) == 3
    np.testing.assert_array_equal(first.chosen, again.chosen)


def test_score_pairs_dropout_of_a_model_without_is_refused(index):
    world = World(index, TABLE)
    world.model.dropout.p = 0.0
    with pytest.raises(ConfigError, match="needs a model with dropout"):
        world.pairs(ScorePass("dropout"))


def test_nearest_to_zero_takes_the_share_rounded_up_of_the_known():
    margin = np.array([3.0, -0.1, NAN, 0.5, -2.0])
    assert np.flatnonzero(nearest_to_zero(margin, 0.5)).tolist() == [1, 3]
    assert np.flatnonzero(nearest_to_zero(margin, 0.51)).tolist() == [1, 3, 4]
    assert not nearest_to_zero(margin, 0.0).any()
    assert np.flatnonzero(nearest_to_zero(margin, 1.0)).tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("passes", "problem"),
    [
        ([], "there is no score pass"),
        ([{"kind": "old"}], "'old' is none of current, recorded"),
        ([{"kind": "current", "count": 2}], "count has an effect with kind dropout only"),
        ([{"kind": "dropout", "count": 0}], "must be at least 1"),
        ([{"kind": "model"}], "path must name"),
        ([{"kind": "recorded", "fresh_share": 1.5}], r"must be in \[0, 1\]"),
        ([{}, {}], "two score passes are the same"),
    ],
)
def test_pass_problems_are_told(passes, problem):
    (told,) = pass_problems([score_pass(spec) for spec in passes])
    assert re.search(problem, told)


def test_score_pass_unknown_field_is_an_error():
    with pytest.raises(ConfigError, match="kind, count, path, fresh_share; unknown: times"):
        score_pass({"times": 3})
