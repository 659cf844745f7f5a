"""Which attention a backbone runs with, how samples are laid out for it, and how it is told who may look at whom.

Five ways: a dense mask (SDPA, eager), a response at a time (see `mrm.model.tree_attention`), a block mask (flex attention), text positions that begin again (flash attention, and
anything else that detects packed sequences by them), and plain causality with a row a response.

Dimensions: B rows, L tokens a row.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available, is_torch_flex_attn_available

from mrm.errors import ConfigError
from mrm.model.families import Family
from mrm.model.packing import PADDING, RewardBatch
from mrm.model.tree_attention import TREE, plan_tree, tree_mask

ATTENTION = ("auto", "tree", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "eager")
FLEX = "mrm_flex"  # flex attention under a name of our own: transformers refuses its own name to most of these families
SHORT_ROW = 1024  # tokens up to which SDPA is preferred on a GPU: a block mask skips blocks of 128 x 128
FLEX_BLOCK = 128
_INSTALLED = {
    "flex_attention": is_torch_flex_attn_available,
    "flash_attention_2": is_flash_attn_2_available,
    "flash_attention_3": is_flash_attn_3_available,
}


@dataclass(frozen=True)
class AttentionPlan:
    """How attention is computed.

    Attributes:
        implementation: its name in transformers.
        layout: of the batches, see `mrm.model.packing.LAYOUTS`.
        why: for the log.
    """

    implementation: str
    layout: str
    why: str


def plan_attention(name: str, family: Family, *, device: str = "cpu", row_tokens: int | None = None) -> AttentionPlan:
    """The plan that a setting comes to for a family on a device.

    Args:
        name: one of ATTENTION.
        device: `cuda` or another type of torch device.
        row_tokens: tokens of a row at most, where rows are packed.

    Raises:
        ConfigError: for an unknown implementation, or one that is not installed or not for this device.
    """
    if name not in ATTENTION:
        raise ConfigError(f"model.attention={name!r} is unknown; known: {', '.join(ATTENTION)}.")
    if name in _INSTALLED and not _INSTALLED[name]():
        package = {"flash_attention_2": "flash-attn", "flash_attention_3": "flash-attn-3"}.get(name, "a newer torch")
        there = ", ".join(other for other in ATTENTION if other not in _INSTALLED or _INSTALLED[other]())
        raise ConfigError(f"model.attention={name!r} is not installed here ({package}); choose one of {there}.")
    if name.startswith("fl") and device != "cuda":  # flex attention has no gradients elsewhere
        raise ConfigError(f"model.attention={name!r} needs a CUDA device; choose auto or sdpa.")
    if not family.shares_prefix:
        if name in ("tree", "flex_attention"):
            raise ConfigError(
                f"model.attention={name!r} is for shared prefixes, which this family's layers cannot branch from; choose one of "
                "auto, sdpa, eager, flash_attention_2, flash_attention_3."
            )
        return AttentionPlan(
            "sdpa" if name == "auto" else name,
            "rows",
            "a layer that carries a state from token to token cannot branch: a row a response",
        )
    if name.startswith("flash"):
        return AttentionPlan(
            name, "sequences", "flash attention takes no tree of responses: each behind a prefix of its own"
        )
    if name == "auto":
        long = row_tokens is None or row_tokens > SHORT_ROW
        if device == "cuda" and long:
            trouble = flex_trouble()
            if trouble is None:
                return AttentionPlan(FLEX, "shared", "rows may be long, and a block mask skips what is masked")
            return AttentionPlan(TREE, "shared", f"flex attention does not work here ({trouble})")
        return AttentionPlan(TREE, "shared", "SDPA a response at a time, where that computes less than a dense mask")
    if name == "tree":
        return AttentionPlan(TREE, "shared", "as configured")
    return AttentionPlan(FLEX if name == "flex_attention" else name, "shared", "as configured")


@functools.cache
def flex_trouble() -> str | None:
    """What keeps flex attention from working on the GPU, found by a trial (it is compiled: by Triton, with a C compiler)."""
    if not is_torch_flex_attn_available():
        return "torch is too old"
    try:
        ids = torch.zeros(1, 2 * FLEX_BLOCK, dtype=torch.int32, device="cuda")
        q, k, v = (torch.randn(1, 2, ids.shape[1], 64, device="cuda", requires_grad=True) for _ in range(3))
        out, _ = flex_attention_forward(torch.nn.Module(), q, k, v, block_mask(ids, ids))
        out.sum().backward()
        torch.cuda.synchronize()
    except Exception as error:  # whatever a compiler may raise
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def by_part_of(implementation: str) -> Any:
    """The `attn_implementation` for a whole backbone: what is made for masked rows is for the language model alone."""
    if implementation not in (FLEX, TREE):
        return implementation
    return {"": implementation, "text_config": implementation, "vision_config": "sdpa"}


def attention_inputs(implementation: str, dtype: torch.dtype, batch: RewardBatch) -> dict[str, Any]:
    """The mask and positions that make every response see its own prefix and itself alone.

    Returns:
        `attention_mask`, and `position_ids` [4, B, L] where attention tells sequences by text positions, else [3, B, L].
    """
    if implementation == FLEX:
        mask: Any = block_mask(batch.sequence_ids, batch.segment_ids)
        return {"attention_mask": mask, "position_ids": batch.position_ids[1:]}
    if batch.layout == "rows":  # one sequence from each row's start: padding comes behind and nobody looks ahead
        return {"attention_mask": None, "position_ids": batch.position_ids[1:]}
    if batch.layout == "sequences":
        return {"attention_mask": None, "position_ids": batch.position_ids}
    if implementation.startswith("flash"):
        raise ValueError(f"{implementation} cannot tell the responses of a shared prefix apart")
    if implementation == TREE and (branches := plan_tree(batch.spans, batch.input_ids.shape, batch.input_ids.device)):
        mask = tree_mask(branches, len(batch.input_ids), batch.input_ids.device)
    else:
        mask = attention_mask(batch.sequence_ids, batch.segment_ids)
        if implementation == "eager":  # adds its mask to the scores
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))
    return {"attention_mask": mask, "position_ids": batch.position_ids[1:]}


def attention_mask(sequence_ids: Tensor, segment_ids: Tensor) -> Tensor:
    """Who may look at whom: [B, 1, L, L], True where the query (row) may attend to the key (column).

    Within a sequence, causally, to the prefix and to the own response. Padding looks at itself alone, since a row of the
    mask without a single True would give NaN.
    """
    length = sequence_ids.shape[1]
    same_sequence = sequence_ids[:, :, None] == sequence_ids[:, None, :]
    visible = (segment_ids[:, None, :] == 0) | (segment_ids[:, :, None] == segment_ids[:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool, device=sequence_ids.device).tril()
    real = sequence_ids[:, None, :] != PADDING
    itself = torch.eye(length, dtype=torch.bool, device=sequence_ids.device)
    return ((same_sequence & visible & causal & real) | itself)[:, None]


def block_mask(sequence_ids: Tensor, segment_ids: Tensor) -> Any:
    """`attention_mask` as a BlockMask of flex attention, which skips blocks without a True; of size L² only while it is made."""
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same_sequence = (sequence_ids[b, q] == sequence_ids[b, k]) & (sequence_ids[b, k] != PADDING)
        same_segment = (segment_ids[b, k] == 0) | (segment_ids[b, k] == segment_ids[b, q])
        return (same_sequence & same_segment & (q >= k)) | (q == k)

    rows, length = sequence_ids.shape
    return create_block_mask(visible, rows, None, length, length, device=sequence_ids.device, BLOCK_SIZE=FLEX_BLOCK)


AttentionInterface.register(FLEX, flex_attention_forward)
AttentionMaskInterface.register(FLEX, sdpa_mask)  # never asked: a block mask is always given
