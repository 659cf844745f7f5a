"""A saved model run over a benchmark: every pair in each of its orders, in packed rows.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from datamodules.benchmarks import Benchmark
from datamodules.sources.base import Skipped
from mrm.errors import RecordError
from mrm.evaluate_lines import Lines
from mrm.evaluate_scores import Scores, check_missing
from mrm.model.encoding import EncodedSample, Encoder
from mrm.model.packing import check_fits
from mrm.model.reward_model import RewardModel
from mrm.preference import PreferenceSample
from mrm.progress import shown
from mrm.score import score_batch

NOT_FINITE = "reward not finite"


@dataclass
class _Judgement:
    """One sample on its way to the model, or why it does not get there."""

    pair: int
    order: int
    readable: tuple[PreferenceSample, EncodedSample] | None
    reason: str = ""
    detail: str = ""


def model_scores(
    benchmark: Benchmark,
    model: RewardModel,
    encoder: Encoder,
    lines: Lines,
    *,
    device: torch.device,
    batch_size: int,
    row_tokens: int | None,
    max_bad: float,
    output: str | None,
    progress: bool,
) -> Scores:
    """Scores of a model: every pair, in each of its orders, in packed rows.

    Args:
        benchmark: what to score.
        model, encoder: in evaluation mode, on the device.
        lines: gets each judgement as soon as it is there.
        device, batch_size, row_tokens: see `mrm.score`.
        max_bad: share of the pairs that may have no scores.
        output: of the lines, for messages.
        progress: whether a bar shows how far it is.

    Raises:
        UnreadableSamplesError: as soon as more pairs have none.
    """
    scores = Scores()
    for batch in _batches(benchmark, encoder, batch_size, row_tokens, model.layout, progress):
        readable = [one.readable for one in batch if one.readable]
        found = score_batch(model, encoder, readable, row_tokens=row_tokens, device=device) if readable else []
        rewards = iter([(line["chosen"], line["rejected"]) for line in found])
        for one in batch:
            key = benchmark.keys[one.pair]
            chosen, rejected = next(rewards) if one.readable else (math.nan, math.nan)
            if one.readable and math.isfinite(chosen) and math.isfinite(rejected):
                scores.cut += one.readable[1].cut_tokens > 0
                scores.add(one.pair, chosen, rejected)
                lines.write(one.pair, one.order, chosen, rejected)
                continue
            if one.readable:
                one.reason = NOT_FINITE
                one.detail = f"the rewards are {chosen} and {rejected}: the model has diverged, or dtype is too narrow."
            scores.lose(one.pair, key, one.reason, one.detail)
            lines.write_missing(one.pair, one.order, one.detail)
        if len(scores.missing) < len(benchmark.pairs):  # else the last message, with all of them, is better
            check_missing(scores, len(benchmark.pairs), max_bad, output)
    return scores


def _batches(
    benchmark: Benchmark, encoder: Encoder, size: int, row_tokens: int | None, layout: str, progress: bool
) -> Iterator[list[_Judgement]]:
    """About `size` judgements at a time, all those of a pair together, in the benchmark's order."""
    batch: list[_Judgement] = []
    for pair, item in shown(benchmark.samples(), benchmark.name, total=len(benchmark.pairs), show=progress):
        batch += _encoded(pair, benchmark.pairs[pair].orders, item, encoder, row_tokens, layout)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(
    pair: int,
    orders: int,
    item: Sequence[PreferenceSample] | Skipped,
    encoder: Encoder,
    row_tokens: int | None,
    layout: str,
) -> Iterator[_Judgement]:
    """A pair's judgements, as the model takes them or with the reason why it cannot."""
    if isinstance(item, Skipped):
        for order in range(orders):
            yield _Judgement(pair, order, None, item.reason, item.detail)
        return
    for order, sample in enumerate(item):
        try:
            encoded = encoder.encode(sample)
            check_fits(encoded, row_tokens, layout)
            yield _Judgement(pair, order, (sample, encoded))
        except RecordError as error:
            yield _Judgement(pair, order, None, error.reason, str(error))
