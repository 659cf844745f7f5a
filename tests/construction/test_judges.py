import itertools

import pytest

from mrm.construction.judges import Annotator, ShapeWorldJudge
from mrm.errors import ConfigError, CurationError
from mrm.preference import Message, Pair, PreferenceSample

BOTH_ORDERS = [(0, 1), (1, 0)]


def sample(number: int, errors=(0, 2), responses=("two circles", "five circles"), meta=None) -> PreferenceSample:
    truth = {"truth": {"errors": list(errors)}} if meta is None else meta
    return PreferenceSample(
        f"k{number}", "shapeworld", (Message("user", "How many?"),), (), responses, (Pair(0, 1),), truth
    )


def test_shape_world_judge_is_an_annotator():
    assert isinstance(ShapeWorldJudge("a"), Annotator)


def test_votes_perfect_judge_names_the_response_with_fewer_errors_in_both_orders():
    judge = ShapeWorldJudge("a", accuracy=1.0)
    assert judge.votes(sample(0), BOTH_ORDERS) == [1.0, 0.0]
    assert judge.votes(sample(0, errors=(3, 1)), BOTH_ORDERS) == [0.0, 1.0]


def test_votes_accuracy_zero_is_always_wrong():
    assert ShapeWorldJudge("a", accuracy=0.0).votes(sample(0), BOTH_ORDERS) == [0.0, 1.0]


def test_votes_equal_errors_is_half_a_vote_each():
    assert ShapeWorldJudge("a", accuracy=1.0).votes(sample(0, errors=(1, 1)), BOTH_ORDERS) == [0.5, 0.5]


def test_votes_full_position_bias_cancels_over_both_orders():
    assert ShapeWorldJudge("a", accuracy=1.0, position_bias=1.0).votes(sample(0), BOTH_ORDERS) == [1.0, 1.0]


def test_votes_opinion_is_one_draw_for_both_orders():
    judge = ShapeWorldJudge("a", accuracy=0.6)
    assert all(sum(judge.votes(sample(i), BOTH_ORDERS)) == 1.0 for i in range(200))


@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_votes_many_samples_hit_the_set_accuracy(accuracy):
    judge = ShapeWorldJudge("a", accuracy=accuracy)
    hits = sum(judge.votes(sample(i), [(0, 1)])[0] for i in range(3000))
    assert abs(hits / 3000 - accuracy) < 0.03  # more than three standard errors


def test_votes_renumbered_responses_give_the_same_opinion():
    judge = ShapeWorldJudge("a", accuracy=0.5)
    for i in range(100):
        mirrored = sample(i, errors=(2, 0), responses=("five circles", "two circles"))
        assert judge.votes(sample(i), [(0, 1)]) == judge.votes(mirrored, [(1, 0)])


def test_votes_asked_again_in_another_order_are_the_same():
    judge = ShapeWorldJudge("a", accuracy=0.5, position_bias=0.3)
    three = sample(0, errors=(0, 1, 2), responses=("a", "b", "c"))
    queries = list(itertools.permutations(range(3), 2))
    forward = dict(zip(queries, judge.votes(three, queries), strict=True))
    backward = dict(zip(queries[::-1], ShapeWorldJudge("a", 0.5, 0, 0.3).votes(three, queries[::-1]), strict=True))
    assert forward == backward


@pytest.mark.parametrize("other", [ShapeWorldJudge("b", 0.5), ShapeWorldJudge("a", 0.5, seed=1)])
def test_votes_other_name_or_seed_errs_independently(other):
    one = ShapeWorldJudge("a", 0.5)
    agree = sum(one.votes(sample(i), [(0, 1)]) == other.votes(sample(i), [(0, 1)]) for i in range(1000))
    assert 430 < agree < 570  # 500 expected, standard deviation 16


@pytest.mark.parametrize("meta", [{}, {"truth": None}, {"truth": {"errors": [0]}}])
def test_votes_no_truth_raises_naming_judge_and_key(meta):
    with pytest.raises(CurationError, match="'a'.*'k7'"):
        ShapeWorldJudge("a").votes(sample(7, meta=meta), BOTH_ORDERS)


def test_judge_accuracy_out_of_range_raises():
    with pytest.raises(ConfigError, match="accuracy=1.5"):
        ShapeWorldJudge("a", accuracy=1.5)
