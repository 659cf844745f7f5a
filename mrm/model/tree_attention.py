"""Attention over shared prefixes by SDPA that computes nothing that is masked.

A dense mask over a row of a prefix and K responses computes all L x L looks and throws most away: of a prefix of 300
tokens and four answers of 120, two thirds. Here the prefix looks at itself by SDPA's causal kernel, and each response at
the prefix and itself. For long pieces; short ones are many calls, for which a dense mask is faster (`worthwhile`).

Registered with transformers under NAME. The layout travels as an attribute of the mask, which goes wherever the mask goes,
into recomputed layers too.

Dimensions: B rows, H heads, L tokens a row, D head size, P prefix tokens, R response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mrm.model.packing import Span

NAME = "mrm_tree"
LEAST_TOKENS = 64  # a piece, on average, from which on it is faster than a dense mask


def worthwhile(spans: Sequence[Span], rows: int, length: int) -> bool:
    """Whether the pieces of a batch are long enough, and the masked part of its rows large enough."""
    calls = sum(1 + len(span.responses) for span in spans)
    tokens = sum(span.prefix + sum(span.responses) for span in spans)
    looks = sum(span.prefix**2 // 2 + sum(n * (span.prefix + n) for n in span.responses) for span in spans)
    return calls > 0 and tokens >= LEAST_TOKENS * calls and looks < rows * length**2


def tree_mask(spans: Sequence[Span], rows: int, device: torch.device) -> Tensor:
    """[B, 1, 1, 1] stand-in for a mask, with the layout as its attribute."""
    mask = torch.ones(rows, 1, 1, 1, dtype=torch.bool, device=device)
    mask.tree = tuple(spans)  # type: ignore[attr-defined]
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
    spans: Sequence[Span] | None = getattr(attention_mask, "tree", None)
    if spans is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    settings: dict[str, Any] = {"scale": scaling, "dropout_p": dropout}
    pieces: list[list[Tensor]] = [[] for _ in range(len(query))]
    ends = [0] * len(query)
    for span in spans:
        r, start, middle = span.row, span.start, span.start + span.prefix
        if start > ends[r]:
            pieces[r].append(value[r, :, ends[r] : start])
        q, k, v = (tensor[r : r + 1] for tensor in (query, key, value))
        own = slice(start, middle)
        pieces[r].append(
            scaled_dot_product_attention(q[:, :, own], k[:, :, own], v[:, :, own], is_causal=True, **settings)[0]
        )
        at = middle
        for count in span.responses:
            part = slice(at, at + count)
            seen_k, seen_v = (torch.cat([tensor[:, :, own], tensor[:, :, part]], dim=2) for tensor in (k, v))
            mask = torch.ones(count, span.prefix + count, dtype=torch.bool, device=query.device).tril(span.prefix)
            pieces[r].append(scaled_dot_product_attention(q[:, :, part], seen_k, seen_v, attn_mask=mask, **settings)[0])
            at += count
        ends[r] = at
    length = query.shape[2]
    for r, row in enumerate(pieces):  # what looks at itself alone gets its own value
        if ends[r] < length:
            row.append(value[r, :, ends[r] :])
    out = torch.stack([torch.cat(row, dim=1) for row in pieces])
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # where no mask is given, as SDPA's
