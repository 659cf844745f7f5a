"""What a person sees of an evaluation, and what a program reads: a table with notes, and JSON.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datamodules.benchmarks import Benchmark
from mrm.evaluate_scores import Scores
from mrm.evaluation.bootstrap import SEED
from mrm.evaluation.figures import Figure, Figures
from mrm.evaluation.intervals import DRAWS
from mrm.evaluation.published import PUBLISHED
from mrm.score import NAMED, told

TITLES = {
    "overall_without_safety": "without safety",
    "math_and_coding": "math and coding",
    "consistent": "both orders",
}


@dataclass(frozen=True)
class Evaluation:
    """A benchmark, the scores of its pairs and the figures drawn from them.

    Args:
        benchmark, scores, figures: as they are called.
        max_pixels: at most so many pixels of an image were seen; None where nobody said.
        draws, seed: of the bootstrap.
    """

    benchmark: Benchmark
    scores: Scores
    figures: Figures
    max_pixels: int | None
    draws: int = DRAWS
    seed: int = SEED

    def to_json(self) -> dict[str, Any]:
        """All figures; accuracies are in [0, 1]. `overall`, `macro`, `categories`, `acc_plus`, `n` and `ties` come first."""
        figures = self.figures
        told: dict[str, Any] = {
            "overall": figures.overall.value,
            "macro": figures.macro.value,
            "categories": {name: figure.value for name, figure in figures.categories.items()},
        }
        if self.benchmark.definition.acc_plus:  # null where every group lacks a score
            told["acc_plus"] = None if figures.acc_plus is None else figures.acc_plus.value
        told |= {"n": figures.overall.n, "ties": figures.overall.ties, "tie_rate": figures.overall.tie_rate}
        told |= {name: figure.value for name, figure in figures.subsets.items()}
        if figures.consistent is not None:
            told["consistent"] = figures.consistent.value
        return told | {
            "benchmark": self.benchmark.name,
            "data": self.benchmark.data,
            "max_pixels": self.max_pixels,
            "figures": {name: _figure_json(figure) for name, figure in self.rows().items()},
            "bootstrap": {"draws": self.draws, "seed": self.seed},
            "sources": dict(Counter(pair.source for pair in self.benchmark.pairs if pair.source)),
            "without_scores": [
                {"row": self.benchmark.rows[pair], "id": self.benchmark.pairs[pair].id, "reason": why}
                for pair, why in sorted(self.scores.missing.items())
            ],
            "groups_without_scores": list(figures.incomplete_groups),
            "left_out": dict(Counter(skipped.reason for skipped in self.benchmark.left_out.values())),
            "cut": self.scores.cut,
            "notes": self.notes(),
            "published": [
                {
                    "model": one.model,
                    "overall": one.overall,
                    "acc_plus": one.acc_plus,
                    "categories": dict(one.categories),
                    "source": one.source,
                }
                for one in PUBLISHED[self.benchmark.name]
            ],
        }

    def rows(self) -> dict[str, Figure]:
        """The figures by the names of the table's rows, in its order."""
        figures = self.figures
        rows = {**figures.categories, "overall": figures.overall, **figures.subsets, "macro": figures.macro}
        if figures.consistent is not None:
            rows["consistent"] = figures.consistent
        if figures.acc_plus is not None:
            rows |= {f"acc_plus {name}": figure for name, figure in figures.acc_plus_categories.items()}
            rows["acc_plus"] = figures.acc_plus
        return rows

    def notes(self) -> list[str]:
        """What a person must know to read the figures."""
        benchmark, scores, figures = self.benchmark, self.scores, self.figures
        notes = [_size_note(benchmark)]
        if benchmark.left_out:
            reasons = Counter(skipped.reason for skipped in benchmark.left_out.values())
            shown = ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common())
            notes.append(f"Left out, as in the benchmark's figures: {shown}.")
        if scores.missing:
            notes.append(f"Pairs without scores, which are in no figure: {len(scores.missing)}; {told(scores.tally)}.")
        if figures.acc_plus is not None:
            notes.append(
                "Acc+: groups of pairs that are right in every pair; N counts groups, and ties those that hold a tie."
            )
        if figures.consistent is not None:
            once = any(pair.orders == 1 for pair in benchmark.pairs)
            notes.append(
                "Both orders: pairs that are right whichever response is shown first, ties being pairs with a tie in"
                " either; elsewhere each order counts half, and is a tie for itself."
                + (
                    " Pairs without images are scored as they are, in no order, and count once everywhere."
                    if once
                    else ""
                )
            )
        if figures.incomplete_groups:
            number, more = len(figures.incomplete_groups), ", ..." if len(figures.incomplete_groups) > NAMED else ""
            some = ", ".join(figures.incomplete_groups[:NAMED])
            notes.append(f"Groups that lack a score, and are not in Acc+: {number} ({some}{more}).")
        if empty := [name for name in benchmark.definition.categories if name not in figures.categories]:
            notes.append(f"No pairs of {', '.join(empty)}: the macro accuracy is the mean of the others.")
        if any(pair.orders > 1 for pair in benchmark.pairs) and figures.consistent is None:
            notes.append(
                "The scores are of one order of the two responses; what the benchmark reports is the mean of both."
            )
        if figures.overall.ties and _rounded(scores):
            notes.append(
                f"All scores have two decimals at most, as LLaMA-Factory writes them: the {figures.overall.ties} ties, which count "
                "as wrong, may be pairs that the model does tell apart."
            )
        if scores.cut:
            notes.append(f"The text of {scores.cut} samples was cut to the encoder's limits.")
        return notes


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": figure.n,
        "ties": figure.ties,
        "tie_rate": figure.tie_rate,
        "length_only": figure.length_only,
    }


def _size_note(benchmark: Benchmark) -> str:
    """How the number of pairs compares to what was published."""
    definition, n = benchmark.definition, len(benchmark.pairs)
    known = " or ".join(f"{size:,} ({what})" for size, what in sorted(definition.releases.items()))
    if n in definition.releases:
        note = f"{n:,} pairs: {definition.releases[n]}."
    else:
        note = (
            f"{n:,} pairs."
            if not known
            else f"{n:,} pairs, but published were {known}: another file, or a part of one."
        )
    if definition.withheld and (missing := max(definition.releases) - n) > 0:
        withheld = ", ".join(f"{number} ({what})" for what, number in definition.withheld.items())
        rest = missing - sum(definition.withheld.values())
        note += f" Of the paper's {max(definition.releases):,} pairs {missing:,} are missing: {withheld} are withheld for a licence"
        note += f", and {rest:,} that can be had are not in this file." if rest > 0 else "."
        sources = Counter(pair.source for pair in benchmark.pairs)
        note += f" By source there are {', '.join(f'{number} {name}' for name, number in sources.most_common())}."
    return note


def _rounded(scores: Scores) -> bool:
    """Whether all scores look rounded to two decimals; whole numbers may be anything."""
    known = [score for score in (*scores.chosen, *scores.rejected) if score == score]
    return all(round(score, 2) == score for score in known) and any(score != int(score) for score in known)


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints the table, the notes and what others published."""
    console.print(_figures_table(evaluation))
    for note in evaluation.notes():
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if PUBLISHED[evaluation.benchmark.name]:
        console.print(_published_table(evaluation.benchmark))


def _figures_table(evaluation: Evaluation) -> Table:
    definition, pixels = evaluation.benchmark.definition, evaluation.max_pixels
    seen = "resolution not told" if pixels is None else f"images of at most {pixels:,} pixels"
    table = Table(title=f"{definition.title}, in %; {seen}", title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("accuracy", "95 %", "N", "ties", "length only"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = evaluation.rows()
    if not definition.macro:
        del rows["macro"]
    last = list(evaluation.figures.categories)[-1]
    for name, figure in rows.items():
        table.add_row(
            escape(TITLES.get(name, name.replace("acc_plus", "Acc+"))),
            _percent(figure.value),
            f"{_percent(figure.low)} - {_percent(figure.high)}",
            f"{figure.n:,}",
            f"{figure.ties} ({_percent(figure.tie_rate)})",
            "-" if figure.length_only is None else _percent(figure.length_only),
            end_section=name == last,
        )
    return table


def _published_table(benchmark: Benchmark) -> Table:
    results = PUBLISHED[benchmark.name]
    table = Table(title="By others, in %; not measured here", title_justify="left")
    table.add_column("model")
    categories = [name for name in benchmark.definition.categories if any(name in one.categories for one in results)]
    plus = ["Acc+"] if benchmark.definition.acc_plus else []
    for column in ("overall", *plus, *categories):
        table.add_column(column, justify="right")
    table.add_column("source", overflow="fold")
    for one in results:
        values = [one.overall, *([one.acc_plus] if plus else []), *(one.categories.get(name) for name in categories)]
        table.add_row(one.model, *("-" if value is None else f"{value:.1f}" for value in values), one.source)
    return table


def _percent(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f}"
