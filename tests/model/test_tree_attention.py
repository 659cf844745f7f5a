"""SDPA a response at a time against a dense mask: equal in value and gradient, over random layouts and families."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mrm.model import tree_attention as module
from mrm.model.attention import attention_mask
from mrm.model.backbones import load_backbone
from mrm.model.packing import NO_EDGES, Span, collate
from mrm.model.reward_model import RewardHead, RewardModel
from mrm.model.tree_attention import plan_tree, tree_attention, tree_mask
from tests.model.checkpoints import SHARING, make_checkpoint, make_encoder
from tests.model.test_packing import encoded, with_image
from tests.model.worlds import sample

CPU = torch.device("cpu")


@settings(max_examples=20, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(1, 6), min_size=1, max_size=4)), min_size=1, max_size=4
    ),
    row_tokens=st.sampled_from([None, 40, 80]),
    filled=st.booleans(),
    call=st.sampled_from([0, 10]),  # each response by itself, or some sequences whole
)
def test_tree_attention_equals_a_dense_mask_in_value_and_gradient(shapes, row_tokens, filled, call):
    items = [(encoded(str(n), prefix, answers), NO_EDGES) for n, (prefix, answers) in enumerate(shapes)]
    batch = collate(items, row_tokens=row_tokens, pad_id=0, filler=with_image("", 3, ()) if filled else None)
    rows, length = batch.input_ids.shape
    with patch.dict(module.CALL, cpu=call):
        planned = plan_tree(batch.spans, (10, 10**4), CPU)  # so long a row that a dense mask is not chosen
    layer = nn.Module()
    layer.num_key_value_groups, layer.is_causal = 2, True
    found = []
    for mask in (
        tree_mask(planned, rows, CPU),
        attention_mask(batch.sequence_ids, batch.segment_ids),
    ):
        torch.manual_seed(1)
        query = torch.randn(rows, 4, length, 8, requires_grad=True)
        key, value = (torch.randn(rows, 2, length, 8, requires_grad=True) for _ in range(2))
        out, _ = tree_attention(layer, query, key, value, mask, scaling=0.3)
        (out * torch.arange(8.0)).sum().backward()
        found.append((out.detach(), query.grad, key.grad, value.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("whole", [False, True])  # a response at a time, and each sequence at once
@pytest.mark.parametrize("kind", SHARING)
def test_rewards_and_gradients_of_each_family_equal_those_by_a_dense_mask(tmp_path, monkeypatch, kind, whole):
    monkeypatch.setattr(module, "_cheaper", lambda span, call: (whole, 0))
    folder = make_checkpoint(kind, tmp_path)
    encoder = make_encoder(folder)
    items = [(encoder.encode(sample(f"s{n}", images=n % 3, responses=2 + n)), NO_EDGES) for n in range(3)]
    batch = collate(items, row_tokens=600, pad_id=0, filler=encoder.filler)
    planned = plan_tree(batch.spans, batch.input_ids.shape, CPU)
    assert planned and all((branch.whole is not None) == whole for branch in planned)
    found = []
    for attention in (module.TREE, "sdpa"):
        torch.manual_seed(0)
        model = RewardModel(load_backbone(folder, attention=attention, gradient_checkpointing=True), RewardHead(64))
        model.train()
        rewards = model(batch)
        (rewards * torch.arange(1.0, len(rewards) + 1)).sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((rewards.detach(), gradients))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=0)
    assert (found[0][1] - found[1][1]).norm() < 1e-4 * found[1][1].norm()


def test_plan_tree_takes_a_response_at_a_time_where_pieces_are_long():
    (branch,) = plan_tree([Span(0, 0, 300, (120, 120))], (1, 540), CPU)
    assert branch.whole is None
    assert [part.shape for part in branch.parts] == [(120, 420)] * 2


def test_plan_tree_takes_short_sequences_whole():
    branches = plan_tree([Span(0, 88 * n, 60, (14, 14)) for n in range(8)], (1, 704), CPU)
    assert [branch.whole.shape for branch in branches] == [(88, 88)] * 8


def test_plan_tree_leaves_many_very_short_sequences_to_a_dense_mask():
    assert plan_tree([Span(0, 4 * n, 2, (1, 1)) for n in range(40)], (1, 160), CPU) is None
    assert plan_tree([], (1, 1), CPU) is None


def test_whole_mask_is_the_tree():
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=None, pad_id=0)
    expected = attention_mask(batch.sequence_ids, batch.segment_ids)[0, 0]
    assert torch.equal(module._whole(batch.spans[0], CPU), expected)
