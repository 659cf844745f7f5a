"""Laying out samples in rows so that a prompt and its images are computed once.

A row holds one or more sequences; a sequence is a sample's prefix followed by its responses, or, where attention cannot
tell them apart, by one of them. A response attends to its own sequence's prefix and to itself, and its positions start
where the prefix ends, so that each response's reward equals the one that it would have alone behind the prefix. How that
is told to attention is left to `mrm.model.attention`.

Dimensions: B rows, L tokens a row, S responses of the batch, E pairs of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrm.errors import RecordError
from mrm.model.encoding import EncodedSample

PADDING = -1  # in `sequence_ids`
LAYOUTS = (
    "shared",  # all responses of a sample behind one prefix, several samples a row
    "sequences",  # each response behind a prefix of its own, all of them in one row without padding
    "rows",  # each response behind a prefix of its own in a row of its own
)


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


@dataclass(frozen=True)
class Span:
    """Where a sequence stands: its row and first column, the tokens of its prefix and of each response behind it."""

    row: int
    start: int
    prefix: int
    responses: tuple[int, ...]


@dataclass
class RewardBatch:
    """A packed batch. Tensors move with `to`; the lists stay where they are.

    Attributes:
        input_ids: [B, L].
        position_ids: [4, B, L] positions: the token's number behind its sequence's start, then temporal, height and width.
        sequence_ids: [B, L] number of the sequence, PADDING where there is none; under `shared` the sample's.
        segment_ids: [B, L] 0 in a prefix, k in the k-th response (from 1).
        pixel_values: [N, ...] patches or tiles in the order of their tokens, or None; uint8 with `normalization`.
        image_grid_thw: [I, 3].
        score_row, score_column: [S] where each response's end token stands; sample order, then response order.
        edge_chosen, edge_rejected: [E] indices into the S responses.
        edge_strength, edge_weight: [E].
        edge_sees: [E] whether the pair's sample has an image.
        normalizer: [] the pair weight that this batch's loss is divided by.
        keys: the samples' keys.
        response_counts: responses of each sample.
        cut_tokens: text tokens of each sample that the encoder's limits cut away.
        unreadable: samples left out.
        layout: one of LAYOUTS.
        spans: where the sequences stand, by row and column; filler aside.
        text_only: the same samples without their images, for a loss that asks what the text alone tells; or None.
        normalization: [3, C] of uint8 pixels: divisor, mean and deviation of each channel.
        frames: how often the backbone takes each patch of uint8 pixels.
    """

    input_ids: Tensor
    position_ids: Tensor
    sequence_ids: Tensor
    segment_ids: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    score_row: Tensor
    score_column: Tensor
    edge_chosen: Tensor
    edge_rejected: Tensor
    edge_strength: Tensor
    edge_weight: Tensor
    edge_sees: Tensor
    normalizer: Tensor
    keys: list[str]
    response_counts: list[int]
    cut_tokens: list[int]
    unreadable: list[Unreadable]
    layout: str = "shared"
    spans: tuple[Span, ...] = ()
    text_only: RewardBatch | None = None
    normalization: Tensor | None = None
    frames: int = 1

    @property
    def pixels(self) -> Tensor | None:
        """[N, ...] float32 `pixel_values` as the backbone takes them, made of bytes where they are."""
        if self.pixel_values is None or self.normalization is None:
            return self.pixel_values
        divisor, mean, deviation = self.normalization.unsqueeze(-1)
        count = len(self.pixel_values)
        seen = self.pixel_values.view(count, len(divisor), -1).float()
        seen = seen.div_(divisor).sub_(mean).div_(deviation)
        if self.frames == 1:
            return seen.view(self.pixel_values.shape)
        return seen.unsqueeze(2).expand(-1, -1, self.frames, -1).reshape(count, -1)

    @property
    def padding(self) -> float:
        """Share of the rows' places that hold no token of a sample, in [0, 1]."""
        return float((self.sequence_ids == PADDING).float().mean())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RewardBatch:
        """A copy with all tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> RewardBatch:
        """A copy with all tensors in pinned memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> RewardBatch:
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in tensors.items()}
        if self.text_only is not None:
            changed["text_only"] = self.text_only._each(change)
        return replace(self, **changed)


def assign_rows(lengths: Sequence[int], row_tokens: int | None) -> list[list[int]]:
    """Which sequences share a row: as few rows as first fit, longest first, needs, and these as short as it can make them.

    Args:
        lengths: tokens of each sequence.
        row_tokens: tokens that a row holds at most; None gives each sequence a row of its own.

    Raises:
        ValueError: for a sequence longer than a row.
    """
    if row_tokens is None or not lengths:
        return [[i] for i in range(len(lengths))]
    if max(lengths) > row_tokens:
        raise ValueError(f"a sequence of {max(lengths)} tokens does not fit a row of {row_tokens}")
    rows = _first_fit(lengths, row_tokens)
    # All rows are padded to the longest: the last one's free places are shared out by lowering the limit.
    low, high = max(max(lengths), -(-sum(lengths) // len(rows))), row_tokens
    while low < high:
        middle = (low + high) // 2
        shorter = _first_fit(lengths, middle)
        if len(shorter) <= len(rows):
            rows, high = shorter, middle
        else:
            low = middle + 1
    return rows


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
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


@dataclass(frozen=True)
class _Sequence:
    """A sample's prefix and those of its responses that follow it in one row."""

    sample: EncodedSample
    number: int  # of the sample, PADDING for filler
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.sample.prefix_ids) + sum(len(self.sample.response_ids[k]) for k in self.responses)


def check_fits(sample: EncodedSample, row_tokens: int | None, layout: str = "shared") -> None:
    """Refuses a sample that no row can hold.

    Raises:
        RecordError: naming the sample and what can be changed.
    """
    if layout == "shared" and row_tokens is not None and sample.tokens > row_tokens:
        answers = ", ".join(str(len(ids)) for ids in sample.response_ids)
        raise RecordError(
            "longer than a row",
            f"sample {sample.key!r}: {len(sample.prefix_ids)} tokens of prompt and images and responses of {answers} do not "
            f"fit row_tokens={row_tokens}; raise row_tokens, lower max_pixels, max_prompt_tokens or max_response_tokens, or "
            "set row_tokens=null for a row a sample.",
        )


def collate(
    items: Sequence[tuple[EncodedSample, Edges] | Unreadable],
    *,
    row_tokens: int | None,
    pad_id: int,
    normalizer: float | None = None,
    layout: str = "shared",
    filler: EncodedSample | None = None,
) -> RewardBatch:
    """Packs encoded samples into one batch.

    Args:
        items: samples with their pairs, or what could not be read.
        row_tokens: tokens that a row holds at most, under `shared`; None gives every sample its own row.
        pad_id: token id of padding.
        normalizer: pair weight that the loss is divided by; None takes this batch's own.
        layout: one of LAYOUTS.
        filler: an image that a batch without any carries as padding. Every rank then runs its vision tower in every
            step: where one did not, sharded weights would be gathered by the others alone, which never ends.

    Raises:
        RecordError: for a sample longer than a row.
    """
    samples = [item for item in items if not isinstance(item, Unreadable)]
    encoded = [sample for sample, _ in samples]
    sequences = _sequences(encoded, layout)
    if filler is not None and not any(len(sequence.sample.image_grid_thw) for sequence in sequences):
        sequences.append(_Sequence(filler, PADDING, ()))
    for sample in encoded:
        check_fits(sample, row_tokens, layout)
    if layout == "sequences":
        rows = [list(range(len(sequences)))]
    else:
        rows = assign_rows([sequence.tokens for sequence in sequences], row_tokens if layout == "shared" else None)
    length = max((sum(sequences[i].tokens for i in row) for row in rows), default=1)
    shape = (max(1, len(rows)), max(1, length))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    positions = np.zeros((4, *shape), dtype=np.int64)
    sequence_ids = np.full(shape, PADDING, dtype=np.int32)
    segment_ids = np.zeros(shape, dtype=np.int32)
    ends: list[dict[int, tuple[int, int]]] = [{} for _ in encoded]
    spans: list[Span] = []
    order = []  # sequences in the order of their tokens, which is the order that pixels must come in
    for r, row in enumerate(rows):
        at = 0
        for i in row:
            sequence = sequences[i]
            sample = sequence.sample
            order.append(sample)
            prefix = len(sample.prefix_ids)
            if sequence.number != PADDING:
                lengths = tuple(len(sample.response_ids[k]) for k in sequence.responses)
                spans.append(Span(r, at, prefix, lengths))
            span = slice(at, at + prefix)
            input_ids[r, span] = sample.prefix_ids
            sequence_ids[r, span] = PADDING if sequence.number == PADDING else i
            positions[0, r, span] = np.arange(prefix)
            positions[1:, r, span] = sample.prefix_positions
            at += prefix
            for segment, k in enumerate(sequence.responses, start=1):
                ids = sample.response_ids[k]
                span = slice(at, at + len(ids))
                input_ids[r, span] = ids
                sequence_ids[r, span] = i
                segment_ids[r, span] = segment
                positions[0, r, span] = prefix + np.arange(len(ids))
                positions[1:, r, span] = sample.response_start + np.arange(len(ids))
                at += len(ids)
                ends[sequence.number][k] = (r, at - 1)
    pixels = [sample.pixel_values for sample in order if sample.pixel_values is not None]
    told = next((sample for sample in order if sample.normalization is not None), None)
    grids = [sample.image_grid_thw for sample in order if len(sample.image_grid_thw)]
    places = [own[k] for own in ends for k in range(len(own))]
    scores = np.asarray(places, dtype=np.int64).reshape(-1, 2)
    first = np.cumsum([0] + [len(sample.response_ids) for sample in encoded])
    weights = [w for _, edges in samples for w in edges.weight]
    return RewardBatch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(positions),
        sequence_ids=torch.from_numpy(sequence_ids),
        segment_ids=torch.from_numpy(segment_ids),
        pixel_values=torch.from_numpy(np.concatenate(pixels)) if pixels else None,
        image_grid_thw=torch.from_numpy(np.concatenate(grids)) if grids else None,
        score_row=torch.from_numpy(scores[:, 0].copy()),
        score_column=torch.from_numpy(scores[:, 1].copy()),
        edge_chosen=_integers(first[i] + c for i, (_, edges) in enumerate(samples) for c in edges.chosen),
        edge_rejected=_integers(first[i] + c for i, (_, edges) in enumerate(samples) for c in edges.rejected),
        edge_strength=torch.tensor([s for _, edges in samples for s in edges.strength], dtype=torch.float32),
        edge_weight=torch.tensor(weights, dtype=torch.float32),
        edge_sees=torch.tensor(
            [len(s.image_grid_thw) > 0 for s, edges in samples for _ in edges.weight], dtype=torch.bool
        ),
        normalizer=torch.tensor(float(sum(weights) if normalizer is None else normalizer)),
        keys=[sample.key for sample in encoded],
        response_counts=[len(sample.response_ids) for sample in encoded],
        cut_tokens=[sample.cut_tokens for sample in encoded],
        unreadable=[item for item in items if isinstance(item, Unreadable)],
        layout=layout,
        spans=tuple(spans),
        normalization=None if told is None else torch.from_numpy(told.normalization),
        frames=1 if told is None else told.frames,
    )


def _sequences(encoded: Sequence[EncodedSample], layout: str) -> list[_Sequence]:
    assert layout in LAYOUTS, f"unknown layout {layout!r}"
    if layout == "shared":
        return [_Sequence(sample, n, tuple(range(len(sample.response_ids)))) for n, sample in enumerate(encoded)]
    return [_Sequence(sample, n, (k,)) for n, sample in enumerate(encoded) for k in range(len(sample.response_ids))]


def _integers(values) -> Tensor:
    return torch.tensor([int(value) for value in values], dtype=torch.int64)
