"""Attention over shared prefixes by SDPA that computes nothing that is masked.

A dense mask over a row of a prefix and K responses computes all L x L looks and throws most away: of a prefix of 300
tokens and four answers of 120, two thirds. Here the prefix looks at itself by SDPA's causal kernel, and each response at
the prefix and itself; a short sequence is computed by one call of its own; and where calls would cost more than they
spare, a dense mask it is (`plan_tree`).

Registered with transformers under TREE. The layout travels as an attribute of the mask, which goes wherever the mask goes,
into recomputed layers too.

Dimensions: B rows, H heads, L tokens a row, D head size, P prefix tokens, R response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mrm.model.packing import Span

TREE = "mrm_tree"
CALL = {"cpu": 20_000, "cuda": 500_000}  # looks that take as long as one more call, forward and backward


@dataclass(frozen=True)
class Branch:
    """How one sequence is computed.

    Attributes:
        span: where it stands.
        whole: [n, n] mask of all its n tokens at once, or None for a response at a time.
        parts: [R, P + R] mask of each response otherwise.
    """

    span: Span
    whole: Tensor | None
    parts: tuple[Tensor, ...] = ()


def plan_tree(spans: Sequence[Span], shape: tuple[int, ...], device: torch.device) -> tuple[Branch, ...] | None:
    """How to compute the sequences of a batch of shape [B, L], or None where a dense mask over its rows is faster."""
    rows, length = shape
    call = CALL.get(device.type, CALL["cuda"])
    planned = [(span, *_cheaper(span, call)) for span in spans]
    if not spans or sum(cost for _, _, cost in planned) >= rows * length**2 + call:
        return None
    made: dict[tuple[int, int], Tensor] = {}

    def part(prefix: int, count: int) -> Tensor:
        if (prefix, count) not in made:
            made[prefix, count] = torch.ones(count, prefix + count, dtype=torch.bool, device=device).tril(prefix)
        return made[prefix, count]

    return tuple(
        Branch(span, _whole(span, device))
        if whole
        else Branch(span, None, tuple(part(span.prefix, n) for n in span.responses))
        for span, whole, _ in planned
    )


def _cheaper(span: Span, call: int) -> tuple[bool, int]:
    """Whether one call for all of a sequence is cheaper than one for the prefix and each response, and what it costs."""
    whole = (span.prefix + sum(span.responses)) ** 2 + call
    parts = span.prefix**2 // 2 + sum(n * (span.prefix + n) for n in span.responses) + (1 + len(span.responses)) * call
    return whole <= parts, min(whole, parts)


def _whole(span: Span, device: torch.device) -> Tensor:
    segment = torch.tensor([0, *range(1, len(span.responses) + 1)], device=device)
    segment = segment.repeat_interleave(torch.tensor([span.prefix, *span.responses], device=device))
    seen = (segment[None] == 0) | (segment[None] == segment[:, None])
    return seen.tril()


def tree_mask(branches: Sequence[Branch], rows: int, device: torch.device) -> Tensor:
    """[B, 1, 1, 1] stand-in for a mask, with the plan as its attribute."""
    mask = torch.ones(rows, 1, 1, 1, dtype=torch.bool, device=device)
    mask.tree = tuple(branches)  # type: ignore[attr-defined]
    return mask


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers calls; without a tree in the mask it is SDPA.

    Args:
        query: [B, H, L, D].
        key, value: [B, H / groups, L, D].
        attention_mask: of `tree_mask`, or any that SDPA takes.

    Returns:
        [B, L, H, D] and no weights.
    """
    branches: Sequence[Branch] | None = getattr(attention_mask, "tree", None)
    if branches is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    settings: dict[str, Any] = {"scale": scaling, "dropout_p": dropout}
    by_row: list[list[Branch]] = [[] for _ in range(len(query))]
    for branch in branches:
        by_row[branch.span.row].append(branch)
    rows = zip(query.unbind(), key.unbind(), value.unbind(), by_row, strict=True)
    out = torch.stack([_row(q, k, v, row, settings) for q, k, v, row in rows])
    return out.transpose(1, 2).contiguous(), None


def _row(query: Tensor, key: Tensor, value: Tensor, branches: Sequence[Branch], settings: dict[str, Any]) -> Tensor:
    """[H, L, D] of one row. All pieces are split off at once: a slice's gradient would be as long as the row, each."""
    lengths: list[int] = []
    at = 0
    for branch in branches:
        span = branch.span
        own = [len(branch.whole)] if branch.whole is not None else [span.prefix, *span.responses]
        lengths += [span.start - at, *own]  # what stands between sequences, maybe nothing, comes before each
        at = span.start + sum(own)
    lengths.append(query.shape[1] - at)
    pieces = [[piece[None] for piece in tensor.split(lengths, dim=1)] for tensor in (query, key, value)]
    parts = zip(*pieces, strict=True)
    out = []
    for branch in branches:
        out.append(next(parts)[2])  # padding and filler look at themselves alone
        q, k, v = next(parts)
        causal = branch.whole is None
        out.append(scaled_dot_product_attention(q, k, v, attn_mask=branch.whole, is_causal=causal, **settings))
        for mask in branch.parts:
            q, own_k, own_v = next(parts)
            seen = torch.cat([k, own_k], dim=2), torch.cat([v, own_v], dim=2)
            out.append(scaled_dot_product_attention(q, *seen, attn_mask=mask, **settings))
    out.append(next(parts)[2])
    return torch.cat(out, dim=2)[0]


AttentionInterface.register(TREE, tree_attention)
AttentionMaskInterface.register(TREE, sdpa_mask)  # where no mask is given, as SDPA's
