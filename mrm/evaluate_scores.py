"""The scores that `mrm.evaluate` draws figures from, and those of a file; a model's are computed by `evaluate_model.py`.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datamodules.benchmarks import Benchmark
from datamodules.score_files import read_scores
from datamodules.texts import Texts
from mrm.errors import ConfigError, UnreadableSamplesError
from mrm.evaluate_lines import Lines
from mrm.evaluation.figures import Judged, judge
from mrm.score import ScoreResult, told

GIVEN = "unreadable in scores="
Line = tuple[str, int | None, int]  # key, pair or None for a record that is left out, order


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
    layouts = _layouts(benchmark)
    by_number = {len(one): one for one in layouts.values()}
    expected = by_number.get(_count_lines(path), next(iter(layouts.values())))
    form = " or ".join(f"{len(one):,} ({name})" for name, one in layouts.items())
    orders = np.array([order for _, _, order in expected], np.int64)
    chosen, rejected, reasons = read_scores(path, Texts.of([key for key, _, _ in expected]), orders, form=form)
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


def _layouts(benchmark: Benchmark) -> dict[str, list[Line]]:
    """What the lines of a file may be, by name; how many there are tells which. The first is possible of every benchmark."""
    named = list(enumerate(benchmark.keys))
    found: dict[str, list[Line]] = {"a line a pair": [(key, pair, 0) for pair, key in named]}
    every: list[Line] = [(key, pair, order) for pair, key in named for order in range(benchmark.pairs[pair].orders)]
    if len(every) > len(named):
        once = any(pair.orders == 1 for pair in benchmark.pairs)
        found[f"two a pair, one an order{', but one of pairs without images' if once else ''}"] = every
    if benchmark.left_out:
        rows: dict[int, Line] = {
            **{benchmark.rows[pair]: (key, pair, 0) for pair, key in named},
            **{row: (skipped.key, None, 0) for row, skipped in benchmark.left_out.items()},
        }
        found["a line a record, also of those that are left out"] = [rows[row] for row in sorted(rows)]
    return found
