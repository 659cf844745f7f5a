import numpy as np
import pytest

from callbacks.judging import ask_judges
from mrm.errors import CurationError
from mrm.preference import Pair
from tests.datamodules.making import make_dataset, make_sample


class Scripted:
    """Answers from a function of the query; remembers what it was asked."""

    def __init__(self, name, answer):
        self.name, self.answer, self.asked = name, answer, []

    def votes(self, sample, queries):
        self.asked += [(sample.key, query) for query in queries]
        return [self.answer(first, second) for first, second in queries]


@pytest.fixture
def index(tmp_path):
    pairs = [Pair(1, 0), Pair(2, 0), Pair(1, 2)]
    samples = [make_sample("a", images=(), responses=3, pairs=pairs), make_sample("b", images=())]
    return make_dataset(tmp_path / "d", samples)


def test_ask_judges_every_pair_in_both_orders_gives_shares_of_the_published_choice(index):
    lower = Scripted("lower", lambda first, second: 1.0 if first < second else 0.0)
    first = Scripted("first", lambda first, second: 1.0)
    votes, unreadable = ask_judges([lower, first], index, np.array([0, 2, 3]), progress=False)
    assert lower.asked == [("a", (1, 0)), ("a", (0, 1)), ("a", (1, 2)), ("a", (2, 1)), ("b", (0, 1)), ("b", (1, 0))]
    assert votes.tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]  # a judge of one position cancels itself
    assert unreadable == ["", "", ""]


def test_ask_judges_missing_answer_is_nan_and_a_tie_half(index):
    silent = Scripted("silent", lambda first, second: None if first == 1 else 0.5)
    votes, _ = ask_judges([silent], index, np.array([0]), progress=False)
    np.testing.assert_array_equal(votes, [[np.nan, 0.5]])


def test_ask_judges_empty_queue_asks_nothing(index):
    votes, unreadable = ask_judges([Scripted("a", None)], index, np.array([], int), progress=False)
    assert votes.shape == (0, 2) and unreadable == []


def test_ask_judges_sample_that_cannot_be_read_is_named_not_raised(index):
    index.shard_files[0].write_bytes(b"\0" * index.shard_files[0].stat().st_size)
    votes, unreadable = ask_judges([Scripted("a", lambda *_: 1.0)], index, np.array([0, 3]), progress=False)
    assert np.isnan(votes).all() and all(unreadable)


def test_ask_judges_wrong_number_of_answers_or_wrong_answer_names_judge_and_key(index):
    short = type("Short", (), {"name": "short", "votes": lambda self, sample, queries: [1.0]})()
    with pytest.raises(CurationError, match="'short': 1 answers to 2 questions about sample 'b'"):
        ask_judges([short], index, np.array([3]), progress=False)
    with pytest.raises(CurationError, match="'odd': answer 0.7 about sample 'b'"):
        ask_judges([Scripted("odd", lambda *_: 0.7)], index, np.array([3]), progress=False)
