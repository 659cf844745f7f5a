"""Laying out samples in rows so that a prompt and its images are computed once.

A row holds one or more samples; a sample is its prefix followed by every response. A response attends to its own
sample's prefix and to itself, and its positions start where the prefix ends, so that each response's reward equals the
one that it would have alone behind the prefix.

Dimensions: B rows, L tokens a row, S responses of the batch, E pairs of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrm.model.encoding import EncodedSample

PADDING = -1  # in `sample_ids`


@dataclass(frozen=True)
class Unreadable:
    """A sample that could not be read or encoded: who, where, why, and of which data set."""

    key: str
    shard: str
    reason: str
    dataset: str = ""


@dataclass(frozen=True)
class Edges:
    """The pairs of one sample that count, as numbers of its responses.

    Attributes:
        strength: in [0, 1], NaN where unknown.
        weight: factor on the pair's loss; 0 marks filler.
    """

    chosen: Sequence[int]
    rejected: Sequence[int]
    strength: Sequence[float]
    weight: Sequence[float]


NO_EDGES = Edges((), (), (), ())


@dataclass
class RewardBatch:
    """A packed batch. Tensors move with `to`; the lists stay where they are.

    Attributes:
        input_ids: [B, L].
        position_ids: [3, B, L] M-RoPE positions.
        sample_ids: [B, L] number of the sample in the batch, PADDING where there is none.
        segment_ids: [B, L] 0 in a prefix, k in the k-th response (from 1).
        pixel_values: [N, D] patches in the order of their tokens, or None.
        image_grid_thw: [I, 3].
        score_row, score_column: [S] where each response's end token stands; sample order, then response order.
        edge_chosen, edge_rejected: [E] indices into the S responses.
        edge_strength, edge_weight: [E].
        normalizer: [] the pair weight that this batch's loss is divided by.
        keys: the samples' keys.
        response_counts: responses of each sample.
        cut_tokens: text tokens of each sample that the encoder's limits cut away.
        unreadable: samples left out.
    """

    input_ids: Tensor
    position_ids: Tensor
    sample_ids: Tensor
    segment_ids: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    score_row: Tensor
    score_column: Tensor
    edge_chosen: Tensor
    edge_rejected: Tensor
    edge_strength: Tensor
    edge_weight: Tensor
    normalizer: Tensor
    keys: list[str]
    response_counts: list[int]
    cut_tokens: list[int]
    unreadable: list[Unreadable]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RewardBatch:
        """A copy with all tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> RewardBatch:
        """A copy with all tensors in pinned memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> RewardBatch:
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in tensors.items()}
        return replace(self, **changed)


def assign_rows(lengths: Sequence[int], row_tokens: int | None) -> list[list[int]]:
    """Which samples share a row: first fit, longest first, in rows of `row_tokens`; None gives each its own.

    A row is as long as the longest sample where that is more than `row_tokens`.
    """
    if row_tokens is None:
        return [[i] for i in range(len(lengths))]
    capacity = max(row_tokens, *lengths) if lengths else row_tokens
    rows: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for row, left in enumerate(free):
            if lengths[i] <= left:
                rows[row].append(i)
                free[row] -= lengths[i]
                break
        else:
            rows.append([i])
            free.append(capacity - lengths[i])
    return rows


def attention_mask(sample_ids: Tensor, segment_ids: Tensor) -> Tensor:
    """Who may look at whom: [B, 1, L, L], True where the query (row) may attend to the key (column).

    Within a sample, causally, to the prefix and to the own response. Padding looks at itself alone, since a row of the
    mask without a single True would give NaN.
    """
    length = sample_ids.shape[1]
    same_sample = sample_ids[:, :, None] == sample_ids[:, None, :]
    visible = (segment_ids[:, None, :] == 0) | (segment_ids[:, :, None] == segment_ids[:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool, device=sample_ids.device).tril()
    real = sample_ids[:, None, :] != PADDING
    itself = torch.eye(length, dtype=torch.bool, device=sample_ids.device)
    return ((same_sample & visible & causal & real) | itself)[:, None]


def collate(
    items: Sequence[tuple[EncodedSample, Edges] | Unreadable],
    *,
    row_tokens: int | None,
    pad_id: int,
    normalizer: float | None = None,
) -> RewardBatch:
    """Packs encoded samples into one batch.

    Args:
        items: samples with their pairs, or what could not be read.
        row_tokens: tokens a row aims at; None gives every sample its own row.
        pad_id: token id of padding.
        normalizer: pair weight that the loss is divided by; None takes this batch's own.
    """
    samples = [item for item in items if not isinstance(item, Unreadable)]
    encoded = [sample for sample, _ in samples]
    rows = assign_rows([sample.tokens for sample in encoded], row_tokens)
    length = max((sum(encoded[i].tokens for i in row) for row in rows), default=1)
    shape = (max(1, len(rows)), length)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    positions = np.zeros((3, *shape), dtype=np.int64)
    sample_ids = np.full(shape, PADDING, dtype=np.int32)
    segment_ids = np.zeros(shape, dtype=np.int32)
    ends: list[list[tuple[int, int]]] = [[] for _ in encoded]
    order = []  # samples in the order of their tokens, which is the order that pixels must come in
    for r, row in enumerate(rows):
        at = 0
        for i in row:
            order.append(i)
            sample = encoded[i]
            for segment, ids in enumerate((sample.prefix_ids, *sample.response_ids)):
                span = slice(at, at + len(ids))
                input_ids[r, span] = ids
                sample_ids[r, span] = i
                segment_ids[r, span] = segment
                positions[:, r, span] = (
                    sample.prefix_positions if segment == 0 else sample.response_start + np.arange(len(ids))
                )
                at += len(ids)
                if segment:
                    ends[i].append((r, at - 1))
    pixels = [pixel_values for i in order if (pixel_values := encoded[i].pixel_values) is not None]
    grids = [encoded[i].image_grid_thw for i in order if len(encoded[i].image_grid_thw)]
    scores = np.asarray([place for sample_ends in ends for place in sample_ends], dtype=np.int64).reshape(-1, 2)
    first = np.cumsum([0] + [len(sample.response_ids) for sample in encoded])
    weights = [w for _, edges in samples for w in edges.weight]
    return RewardBatch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(positions),
        sample_ids=torch.from_numpy(sample_ids),
        segment_ids=torch.from_numpy(segment_ids),
        pixel_values=torch.from_numpy(np.concatenate(pixels)) if pixels else None,
        image_grid_thw=torch.from_numpy(np.concatenate(grids)) if grids else None,
        score_row=torch.from_numpy(scores[:, 0].copy()),
        score_column=torch.from_numpy(scores[:, 1].copy()),
        edge_chosen=_integers(first[i] + c for i, (_, edges) in enumerate(samples) for c in edges.chosen),
        edge_rejected=_integers(first[i] + c for i, (_, edges) in enumerate(samples) for c in edges.rejected),
        edge_strength=torch.tensor([s for _, edges in samples for s in edges.strength], dtype=torch.float32),
        edge_weight=torch.tensor(weights, dtype=torch.float32),
        normalizer=torch.tensor(float(sum(weights) if normalizer is None else normalizer)),
        keys=[sample.key for sample in encoded],
        response_counts=[len(sample.response_ids) for sample in encoded],
        cut_tokens=[sample.cut_tokens for sample in encoded],
        unreadable=[item for item in items if isinstance(item, Unreadable)],
    )


def _integers(values) -> Tensor:
    return torch.tensor([int(value) for value in values], dtype=torch.int64)
