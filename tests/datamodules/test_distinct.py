import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.distinct import DistinctBuilder, distinct_responses, prompt_digest, response_starts
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


def test_prompt_digest_differs_where_an_image_or_a_turn_does():
    turns = [("user", "a"), ("assistant", "b")]
    made = [
        prompt_digest([], turns),
        prompt_digest([b"user"], turns),
        prompt_digest([b"user", b"a"], turns[1:]),
        prompt_digest([b"a", b"user"], turns[1:]),
        prompt_digest([], [("user", "ab"), ("assistant", "")]),
    ]
    assert len(set(made)) == 5 and made[0] == prompt_digest([], iter(turns))
    assert prompt_digest([], [("user", "\ud83d")]) != prompt_digest([], [("user", "\ud83e")])  # halves of a pair


@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.lists(st.sampled_from("xyz"), min_size=1, max_size=4)), max_size=12)
)
def test_distinct_builder_scores_each_content_where_it_stands_first(samples):
    builder, flat = DistinctBuilder(), []
    for row, (prompt, texts) in enumerate(samples):
        builder.add(row, len(flat), prompt_digest([], [("user", prompt)]), texts)
        flat += [(prompt, text) for text in texts]
    plan = builder.build()
    starts = np.cumsum([0] + [len(texts) for _, texts in samples])
    scored = [starts[row] + k for row in plan.rows for k in plan.responses.get(row, range(len(samples[row][1])))]
    assert scored == [number for number, said in enumerate(flat) if flat.index(said) == number]
    assert sorted([*scored, *plan.copy_to]) == list(range(len(flat)))
    assert [flat.index(flat[number]) for number in plan.copy_to] == plan.copy_from.tolist()


def test_key_rows_finds_every_row(index):
    rows = KeyRows(index)
    assert rows(["e", "a", "f", "a"]).tolist() == [4, 0, 5, 0]
    assert rows([]).tolist() == []
