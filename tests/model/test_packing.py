import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrm.model.encoding import EncodedSample
from mrm.model.packing import NO_EDGES, PADDING, Edges, Unreadable, assign_rows, attention_mask, collate


def encoded(key, prefix, responses):
    """A sample of numbered tokens: prefix 10, 11, ..., response k 100k, 100k + 1, ..."""
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


def test_assign_rows_first_fit_longest_first():
    # capacity 10: 7 opens a row, 6 another, 4 goes to 6, 3 to 7, 2 opens a third
    assert assign_rows([3, 7, 4, 6, 2], 10) == [[1, 0], [3, 2], [4]]


def test_assign_rows_without_budget_gives_each_its_own():
    assert assign_rows([3, 7], None) == [[0], [1]]


def test_assign_rows_of_an_overlong_sample_grows_the_rows():
    assert assign_rows([12, 3], 10) == [[0], [1]]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(10, 80))
def test_assign_rows_places_every_sample_once_within_capacity(lengths, row_tokens):
    rows = assign_rows(lengths, row_tokens)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= max(row_tokens, *lengths) for row in rows)


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
    assert batch.sample_ids.tolist() == [[PADDING]]
    assert batch.unreadable == [lost]
    assert batch.score_row.numel() == batch.edge_chosen.numel() == 0
    assert batch.normalizer.item() == 4.0


def test_attention_mask_of_one_sample_is_prefix_tree():
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=None, pad_id=0)
    mask = attention_mask(batch.sample_ids, batch.segment_ids)[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],  # the second response does not see the first
        [1, 1, 0, 1, 1],
    ]


def test_attention_mask_separates_samples_and_padding():
    sample_ids = torch.tensor([[0, 0, 1, PADDING]])
    segment_ids = torch.tensor([[0, 1, 0, 0]])
    mask = attention_mask(sample_ids, segment_ids)[0, 0].int().tolist()
    assert mask == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("row_tokens", [None, 40])
def test_batch_to_moves_tensors_and_keeps_names(row_tokens):
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=row_tokens, pad_id=0).to("meta")
    assert batch.input_ids.device.type == "meta"
    assert batch.pixel_values is None
    assert batch.keys == ["a"]
