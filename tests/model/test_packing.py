from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.errors import RecordError
from mrm.model.encoding import EncodedSample
from mrm.model.packing import NO_EDGES, PADDING, Edges, Unreadable, assign_rows, check_fits, collate


def encoded(key, prefix, responses):
    """A sample of numbered tokens: prefix 10, 11, ..., response k 100k, 100k + 1, ... (from 1)"""
    return EncodedSample(
        key=key,
        prefix_ids=np.arange(prefix) + 10,
        prefix_positions=np.tile(np.arange(prefix), (3, 1)),
        response_ids=tuple(np.arange(n) + 100 * (k + 1) for k, n in enumerate(responses)),
        response_start=prefix,
        pixel_values=None,
        image_grid_thw=np.zeros((0, 3), dtype=np.int64),
        cut_tokens=0,
    )


def test_assign_rows_makes_few_rows_of_even_length():
    # Of 22 tokens, first fit in rows of 10 makes [7, 3], [6, 4], [2]; three rows of 8 hold them too.
    assert assign_rows([3, 7, 4, 6, 2], 10) == [[1], [3, 4], [2, 0]]


def test_assign_rows_without_budget_gives_each_its_own():
    assert assign_rows([3, 7], None) == [[0], [1]]


def test_assign_rows_of_an_overlong_sequence_is_refused():
    with pytest.raises(ValueError, match="12 tokens does not fit a row of 10"):
        assign_rows([12, 3], 10)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(50, 80))
def test_assign_rows_places_every_sample_once_within_capacity(lengths, row_tokens):
    rows = assign_rows(lengths, row_tokens)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= row_tokens for row in rows)


@given(st.lists(st.integers(20, 60), min_size=100, max_size=200), st.sampled_from([512, 1024, 2048]))
def test_assign_rows_of_many_short_samples_wastes_at_most_five_percent(lengths, row_tokens):
    rows = assign_rows(lengths, row_tokens)
    longest = max(sum(lengths[i] for i in row) for row in rows)
    assert sum(lengths) >= 0.95 * longest * len(rows)


def test_check_fits_of_an_overlong_sample_names_what_can_be_changed():
    sample = encoded("a", 30, (5, 6))
    check_fits(sample, 41)
    check_fits(sample, None)
    with pytest.raises(
        RecordError, match=r"'a': 30 tokens .* responses of 5, 6 .*row_tokens=40; raise row_tokens, lower max_"
    ):
        check_fits(sample, 40)


def test_collate_lays_out_prefix_responses_and_scores():
    batch = collate([(encoded("a", 3, (2, 1)), Edges((1,), (0,), (0.5,), (1.0,)))], row_tokens=None, pad_id=0)
    assert batch.input_ids.tolist() == [[10, 11, 12, 100, 101, 200]]
    assert batch.segment_ids.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch.position_ids[0].tolist() == [[0, 1, 2, 3, 4, 3]]  # both responses start where the prefix ends
    assert batch.score_row.tolist() == [0, 0]
    assert batch.score_column.tolist() == [4, 5]
    assert (batch.edge_chosen.tolist(), batch.edge_rejected.tolist()) == ([1], [0])


def test_collate_numbers_responses_in_sample_order_whatever_the_rows():
    items = [
        (encoded("short", 1, (1, 1)), Edges((0,), (1,), (0.1,), (1.0,))),
        (encoded("long", 4, (3, 2)), Edges((1,), (0,), (0.2,), (2.0,))),
    ]
    batch = collate(items, row_tokens=12, pad_id=0)  # the long one is placed first in their common row
    assert batch.input_ids.shape == (1, 12)
    assert batch.score_column.tolist() == [10, 11, 6, 8]
    assert (batch.edge_chosen.tolist(), batch.edge_rejected.tolist()) == ([0, 3], [1, 2])
    assert batch.normalizer.item() == 3.0
    assert batch.keys == ["short", "long"]


def test_collate_without_readable_samples_is_one_token_of_padding():
    lost = Unreadable("x", "shard-000000.tar", "image does not decode")
    batch = collate([lost], row_tokens=64, pad_id=7, normalizer=4.0)
    assert batch.input_ids.tolist() == [[7]]
    assert batch.sequence_ids.tolist() == [[PADDING]]
    assert batch.unreadable == [lost]
    assert batch.score_row.numel() == batch.edge_chosen.numel() == 0
    assert batch.normalizer.item() == 4.0


def test_check_fits_counts_a_row_only_where_rows_are_shared():
    check_fits(encoded("a", 30, (5, 6)), 40, "rows")


def with_image(key, prefix, responses):
    return replace(encoded(key, prefix, responses), pixel_values=np.ones((4, 2)), image_grid_thw=np.array([[1, 2, 2]]))


def test_collate_of_sequences_repeats_the_prefix_in_one_row_without_padding():
    items = [(with_image("a", 2, (1, 2)), Edges((1,), (0,), (0.5,), (1.0,))), (encoded("b", 1, (1,)), NO_EDGES)]
    batch = collate(items, row_tokens=4, pad_id=0, layout="sequences")
    assert batch.input_ids.tolist() == [[10, 11, 100, 10, 11, 200, 201, 10, 100]]
    assert batch.sequence_ids.tolist() == [[0, 0, 0, 1, 1, 1, 1, 2, 2]]
    assert batch.position_ids[0].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0, 1]]
    assert batch.score_column.tolist() == [2, 6, 8]
    assert len(batch.pixel_values) == 8  # the picture of `a`, twice
    assert (batch.edge_chosen.tolist(), batch.edge_rejected.tolist()) == ([1], [0])


def test_collate_of_rows_gives_each_response_a_row():
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=99, pad_id=7, layout="rows")
    assert batch.input_ids.tolist() == [[10, 11, 100, 7], [10, 11, 200, 201]]
    assert (batch.score_row.tolist(), batch.score_column.tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize("layout", ["shared", "sequences", "rows"])
def test_collate_without_images_carries_the_filler_as_padding(layout):
    filler = with_image("", 3, ())
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=None, pad_id=0, layout=layout, filler=filler)
    assert len(batch.pixel_values) == 4
    places = (batch.input_ids == 12) & (batch.sequence_ids == PADDING)  # 12: the third token of the filler alone
    assert places.sum() == 1
    assert batch.keys == ["a"]
    with_own = collate(
        [(with_image("b", 2, (1, 2)), NO_EDGES)], row_tokens=None, pad_id=0, layout=layout, filler=filler
    )
    assert not (with_own.input_ids == 12).any()


@pytest.mark.parametrize("row_tokens", [None, 40])
def test_batch_to_moves_tensors_and_keeps_names(row_tokens):
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=row_tokens, pad_id=0).to("meta")
    assert batch.input_ids.device.type == "meta"
    assert batch.pixel_values is None
    assert batch.keys == ["a"]
