"""The scores that `mrm.evaluate` draws figures from: given in a file, or those of a saved model.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from datamodules.benchmarks import Benchmark
from datamodules.score_files import read_scores
from datamodules.sources.base import Skipped
from datamodules.texts import Texts
from mrm.errors import ConfigError, RecordError, UnreadableSamplesError
from mrm.evaluate_lines import Lines
from mrm.evaluation.figures import Judged, judge
from mrm.model.encoding import EncodedSample, Encoder
from mrm.model.packing import check_fits
from mrm.model.reward_model import RewardModel
from mrm.preference import PreferenceSample
from mrm.score import ScoreResult, score_batch, told

NOT_FINITE = "reward not finite"
GIVEN = "unreadable in scores="


@dataclass
class Scores:
    """What was found for each judgement of a benchmark's pairs.

    Attributes:
        chosen, rejected: NaN where there is none.
        pair: whose judgement it is, the pair's number in the benchmark.
        missing: pair -> why it has no score.
        tally: the same, counted and named.
        cut: samples of which text was cut to the encoder's limits.
    """

    chosen: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    pair: list[int] = field(default_factory=list)
    missing: dict[int, str] = field(default_factory=dict)
    tally: ScoreResult = field(default_factory=ScoreResult)
    cut: int = 0

    def add(self, pair: int, chosen: float, rejected: float) -> None:
        """One judgement."""
        self.chosen.append(chosen)
        self.rejected.append(rejected)
        self.pair.append(pair)

    def lose(self, pair: int, key: str, reason: str, detail: str) -> None:
        """A judgement that there is not; its pair is counted once."""
        self.add(pair, math.nan, math.nan)
        if pair not in self.missing:
            self.missing[pair] = detail
            self.tally.note(key, reason, detail)

    def judged(self, pairs: int) -> Judged:
        """What the scores say of the benchmark's pairs."""
        chosen, rejected = (np.array(side, np.float64) for side in (self.chosen, self.rejected))
        return judge(chosen, rejected, np.array(self.pair, np.int64), pairs)


def check_missing(scores: Scores, pairs: int, max_bad: float, output: str | None) -> None:
    """Stops where too many pairs have no scores.

    Raises:
        UnreadableSamplesError: for more than `max_bad` allows, and where there is none at all.
    """
    lost = len(scores.missing)
    if lost > max_bad * pairs or lost == pairs:
        kept = f" The lines until there are in {output}.partial." if output else ""
        more = "" if lost == pairs else ", or raise max_bad to go on without them"
        raise UnreadableSamplesError(
            f"{lost} of {pairs} pairs have no scores, more than max_bad={max_bad:g} allows: {told(scores.tally)}. Mend them"
            f"{more}.{kept}"
        )


def given_scores(benchmark: Benchmark, path: Path, lines: Lines) -> Scores:
    """Scores of a file: a line a pair in the benchmark's order.

    Where pairs are judged in two orders, two lines a pair, one after the other, are taken too. Lines of records that
    the benchmark leaves out (ties) may stand there or not.

    Raises:
        ConfigError: for a file that does not fit, by its name and line.
    """
    expected = _expected(benchmark, _count_lines(path))
    orders = np.array([order for _, _, order in expected], np.int64)
    chosen, rejected, reasons = read_scores(path, Texts.of([key for key, _, _ in expected]), orders)
    scores = Scores()
    for (key, pair, order), one, other, why in zip(expected, chosen.tolist(), rejected.tolist(), reasons, strict=True):
        if pair is None:
            continue
        if why:
            scores.lose(pair, key, GIVEN, why)
            lines.write_missing(pair, order, why)
        else:
            scores.add(pair, one, other)
            lines.write(pair, order, one, other)
    return scores


def _count_lines(path: Path) -> int:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"scores: {path} cannot be read: {error}.") from error
    return data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def _expected(benchmark: Benchmark, lines: int) -> list[tuple[str, int | None, int]]:
    """(key, pair or None for a record that is left out, order) of each line, by how many lines there are."""
    named = list(enumerate(benchmark.keys))
    every = [(key, pair, order) for pair, key in named for order in range(benchmark.pairs[pair].orders)]
    if lines == len(every):
        return list(every)
    if benchmark.left_out and lines == len(named) + len(benchmark.left_out):
        rows: dict[int, tuple[str, int | None, int]] = {
            **{benchmark.rows[pair]: (key, pair, 0) for pair, key in named},
            **{row: (skipped.key, None, 0) for row, skipped in benchmark.left_out.items()},
        }
        return [rows[row] for row in sorted(rows)]
    return [(key, pair, 0) for pair, key in named]


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
    for pair, item in _shown(benchmark, progress):
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


def _shown(benchmark: Benchmark, show: bool) -> Iterator[tuple[int, Sequence[PreferenceSample] | Skipped]]:
    columns = (
        TextColumn(benchmark.name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        task = progress.add_task(benchmark.name, total=len(benchmark.pairs))
        for item in benchmark.samples():
            yield item
            progress.advance(task)
