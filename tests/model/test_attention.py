import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from mrm.errors import ConfigError
from mrm.model import attention
from mrm.model.attention import ATTENTION, attention_inputs, attention_mask, block_mask, plan_attention
from mrm.model.families import FAMILIES
from mrm.model.packing import NO_EDGES, PADDING, collate
from tests.model.test_packing import encoded

QWEN, HYBRID = FAMILIES["qwen3_vl"], FAMILIES["qwen3_5"]


def test_attention_mask_of_one_sample_is_prefix_tree():
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=None, pad_id=0)
    mask = attention_mask(batch.sequence_ids, batch.segment_ids)[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],  # the second response does not see the first
        [1, 1, 0, 1, 1],
    ]


def test_attention_mask_separates_samples_and_padding():
    sequence_ids = torch.tensor([[0, 0, 1, PADDING]])
    segment_ids = torch.tensor([[0, 1, 0, 0]])
    mask = attention_mask(sequence_ids, segment_ids)[0, 0].int().tolist()
    assert mask == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_block_mask_is_the_dense_mask():
    items = [(encoded(str(n), 30 + n, (40, 50 + 3 * n)), NO_EDGES) for n in range(5)]
    batch = collate(items, row_tokens=300, pad_id=0)
    blocks = block_mask(batch.sequence_ids, batch.segment_ids)
    rows, length = batch.sequence_ids.shape
    found = create_mask(blocks.mask_mod, rows, 1, length, length, device="cpu")
    assert torch.equal(found, attention_mask(batch.sequence_ids, batch.segment_ids))


def test_block_mask_skips_blocks_of_other_samples():
    items = [(encoded(str(n), 100, (14, 14)), NO_EDGES) for n in range(8)]
    batch = collate(items, row_tokens=1024, pad_id=0)
    assert block_mask(batch.sequence_ids, batch.segment_ids).sparsity() > 70  # of 8 x 8 blocks the diagonal's are left


@pytest.mark.parametrize(
    ("name", "family", "device", "row_tokens", "implementation", "layout"),
    [
        ("auto", QWEN, "cpu", 4096, "mrm_tree", "shared"),
        ("auto", QWEN, "cuda", 512, "mrm_tree", "shared"),
        ("tree", QWEN, "cuda", 4096, "mrm_tree", "shared"),
        ("sdpa", QWEN, "cpu", 4096, "sdpa", "shared"),
        ("auto", QWEN, "cuda", 4096, "mrm_flex", "shared"),
        ("auto", QWEN, "cuda", None, "mrm_flex", "shared"),
        ("flex_attention", QWEN, "cuda", 64, "mrm_flex", "shared"),
        ("auto", HYBRID, "cuda", 4096, "sdpa", "rows"),
        ("eager", QWEN, "cuda", 4096, "eager", "shared"),
        ("flash_attention_2", QWEN, "cuda", 4096, "flash_attention_2", "sequences"),
        ("eager", HYBRID, "cpu", None, "eager", "rows"),
        ("flash_attention_2", HYBRID, "cuda", 4096, "flash_attention_2", "rows"),
    ],
)
def test_plan_attention(monkeypatch, name, family, device, row_tokens, implementation, layout):
    monkeypatch.setattr(attention, "_INSTALLED", dict.fromkeys(attention._INSTALLED, lambda: True))
    monkeypatch.setattr(attention, "flex_trouble", lambda: None)
    plan = plan_attention(name, family, device=device, row_tokens=row_tokens)
    assert (plan.implementation, plan.layout) == (implementation, layout)
    assert plan.why


def test_plan_attention_falls_back_where_flex_attention_does_not_compile(monkeypatch):
    monkeypatch.setattr(attention, "flex_trouble", lambda: "RuntimeError: no C compiler")
    plan = plan_attention("auto", QWEN, device="cuda", row_tokens=8192)
    assert plan.implementation == "mrm_tree"
    assert "no C compiler" in plan.why


@pytest.mark.parametrize("name", ["tree", "flex_attention"])
def test_plan_attention_for_shared_prefixes_is_refused_where_none_is_shared(name):
    with pytest.raises(ConfigError, match="choose one of auto, sdpa"):
        plan_attention(name, HYBRID, device="cuda")


def test_plan_attention_unknown_names_the_choices():
    with pytest.raises(ConfigError, match=", ".join(ATTENTION)):
        plan_attention("magic", QWEN)


def test_plan_attention_that_is_not_installed_names_what_is(monkeypatch):
    missing = {**attention._INSTALLED, "flash_attention_2": lambda: False}
    monkeypatch.setattr(attention, "_INSTALLED", missing)
    with pytest.raises(ConfigError, match=r"not installed here \(flash-attn\); choose one of auto, tree, sdpa"):
        plan_attention("flash_attention_2", QWEN, device="cuda")


@pytest.mark.parametrize("name", ["flash_attention_2", "flex_attention"])
def test_plan_attention_made_for_gpus_is_refused_without_one(monkeypatch, name):
    monkeypatch.setattr(attention, "_INSTALLED", dict.fromkeys(attention._INSTALLED, lambda: True))
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        plan_attention(name, QWEN, device="cpu")


def test_attention_inputs_flash_refuses_a_shared_prefix():
    batch = collate([(encoded("a", 2, (1, 2)), NO_EDGES)], row_tokens=None, pad_id=0)
    with pytest.raises(ValueError, match="shared prefix"):
        attention_inputs("flash_attention_2", torch.float32, batch)
