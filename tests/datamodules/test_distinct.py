import numpy as np
import pytest

from datamodules.distinct import distinct_responses, response_starts
from datamodules.key_rows import KeyRows
from mrm.errors import ShardError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import make_dataset, make_image

IMAGE, OTHER = make_image(1), make_image(2)


def sample(key, texts, *, image=IMAGE, question="What?"):
    images = () if image is None else (image,)
    prompt = (Message("user", "<image>" * len(images) + question),)
    return PreferenceSample(key, "made", prompt, images, tuple(texts), (Pair(0, 1),), {})


SAMPLES = [
    sample("a", ["x", "y"]),
    sample("b", ["y", "z"]),  # y again
    sample("c", ["x", "y"], image=OTHER),  # another image
    sample("d", ["x", "y"], question="Where?"),  # another question
    sample("e", ["z", "x"]),  # nothing new
    sample("f", ["x", "y"], image=None, question="What?"),
]


@pytest.fixture
def index(tmp_path):
    return make_dataset(tmp_path / "set", SAMPLES)


def test_distinct_responses_what_was_said_before_is_copied(index):
    plan = distinct_responses(index, np.arange(6))
    assert plan.rows.tolist() == [0, 1, 2, 3, 5]
    assert plan.responses == {1: (1,)}
    assert plan.copy_to.tolist() == [2, 8, 9] and plan.copy_from.tolist() == [1, 3, 0]
    assert response_starts(index).tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_distinct_responses_every_response_is_scored_or_copied_once(index):
    for rows in ([4, 1, 0], [3], [5, 2], [1, 4]):
        plan = distinct_responses(index, np.array(rows))
        starts = response_starts(index)
        scored = [starts[row] + k for row in plan.rows for k in plan.responses.get(row, range(2))]
        assert sorted([*scored, *plan.copy_to]) == sorted(starts[row] + k for row in rows for k in range(2))
        assert set(plan.copy_from) <= set(scored)


def test_distinct_responses_different_images_no_record_is_read(index):
    plan = distinct_responses(index, np.array([0, 2, 5]), read=lambda *_: pytest.fail("nothing to compare"))
    assert plan.rows.tolist() == [0, 2, 5] and not plan.responses and not len(plan.copy_to)


def test_distinct_responses_unreadable_record_is_scored_by_itself(index):
    def read(_, row):
        raise ShardError("gone")

    assert distinct_responses(index, np.arange(6), read).rows.tolist() == list(range(6))


def test_key_rows_finds_every_row(index):
    rows = KeyRows(index)
    assert rows(["e", "a", "f", "a"]).tolist() == [4, 0, 5, 0]
    assert rows([]).tolist() == []
