"""What a person sees at the end of a run, and what a program reads: tables, and results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datamodules.prepare import PrepareResult

ROUND_KEYS = ("scored", "flipped", "dropped", "reannotated", "restored", "queued", "noise_before", "noise_after")

UNREADABLE_NAMED = 3

ROUND_COUNTS = {
    "scored": "scored",
    "flipped": "flipped",
    "dropped": "dropped",
    "re-annotated": "reannotated",
    "judges' votes missing": "annotation_failed",
    "brought back by judges": "restored",
    "left out, queued": "queued",
    "unreadable": "unreadable",
    "in use after it": "active_pairs",
}
ROUND_SHARES = {
    "noise before": "noise_before",
    "noise after": "noise_after",
    "wrong labels mended or gone": "wrong_mended",
    "right labels lost": "right_lost",
    "flips: precision": "flip_precision",
    "flips: recall": "flip_recall",
}


@dataclass
class RunResult:
    """The outcome of a run.

    Args:
        run_dir: its folder.
        tests: test set -> accuracy in [0, 1], ties wrong.
        rounds: one record a round of curation, see `callbacks.curation_record.round_record`.
        open_pairs: pairs of the open pool.
        active_pairs: those of them that the last epoch was trained on.
        unreadable: samples that could not be read, "KEY: why" each; empty where all could.
        starts: of the run, this one included.
        seconds: from start to end, preparation and tests included; of this process where the run was resumed.
        memory: MiB at the peak, `peak_memory_mib` of a process without its workers, and `peak_gpu_memory_mib` of a GPU where
            there is one; of the rank that took most.
        evaluation: what the evaluations while training came to, as in results.json; empty where there were none.
        evaluations: each of them, as in evaluations.json.
        report: the HTML report, None where it was switched off.
    """

    run_dir: Path
    tests: dict[str, float] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    open_pairs: int = 0
    active_pairs: int = 0
    unreadable: list[str] = field(default_factory=list)
    starts: int = 1
    seconds: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    report: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of results.json; a noise is null where the truth isn't known."""
        return {
            "tests": self.tests,
            "rounds": [{key: record.get(key) for key in ROUND_KEYS} for record in self.rounds],
            "open_pairs": self.open_pairs,
            "active_pairs": self.active_pairs,
            **({"evaluation": self.evaluation} if self.evaluation else {}),
            "starts": self.starts,
            "seconds": round(self.seconds, 1),
            **{name: round(value, 1) for name, value in self.memory.items()},
        }


def print_data(results: Mapping[str, PrepareResult | None]) -> None:
    """Prints what became of each dataset's records; None for shards that nothing is known of."""
    table = Table(title="Data (records)", title_justify="left")
    table.add_column("dataset")
    for column in ("read", "written", "pairs"):
        table.add_column(column, justify="right")
    table.add_column("skipped", overflow="fold")
    for name, result in results.items():
        if result is None:
            table.add_row(name, "-", "-", "-", "not known: a folder of shards without prepared.json")
            continue
        skipped = ", ".join(f"{number} {reason}" for reason, number in result.skipped.most_common())
        table.add_row(name, str(result.read), str(result.written), str(result.pairs), escape(skipped or "none"))
    Console().print(table)


def print_summary(result: RunResult, console: Console) -> None:
    """Prints accuracies, the rounds of curation and what is left of the pool."""
    if result.tests:
        table = Table(title="Accuracy", title_justify="left")
        table.add_column("test set")
        table.add_column("accuracy", justify="right")
        for name, accuracy in result.tests.items():
            table.add_row(name, f"{accuracy:.3f}")
        console.print(table)
    if result.evaluation:
        console.print("\n".join(_evaluation_lines(result.evaluation)), markup=False, highlight=False, soft_wrap=True)
    if result.rounds:
        console.print(_rounds_table(result.rounds))
    if result.open_pairs:
        share = result.active_pairs / result.open_pairs
        console.print(f"Open pool: {result.active_pairs} of {result.open_pairs} pairs in use ({share:.1%}).")
    if result.unreadable:
        named = "; ".join(result.unreadable[:UNREADABLE_NAMED])
        more = "; ..." if len(result.unreadable) > UNREADABLE_NAMED else "."
        line = f"{len(result.unreadable)} sample(s) could not be read: {named}{more}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Done in {result.seconds:.0f} s.")


def _evaluation_lines(told: Mapping[str, Any]) -> list[str]:
    """The evaluations while training, in a sentence or two."""
    last, chosen = told["last"], told["best"]
    lines = [f"Evaluated while training: {told['evaluations']} times, last {_figures(last)}."]
    if told["stopped_early"]:
        lines.append(f"The training stopped early, at step {last['step']}.")
    if chosen is not None:
        used = "this is the model" if told["model"] == "best" else "the model is the last one"
        lines.append(f"Best by {chosen['metric']}: {_figures(chosen)}; {used}.")
    return lines


def _figures(one: Mapping[str, Any]) -> str:
    accuracies = {name: value for name, value in one["figures"].items() if name.endswith("accuracy")}
    return f"at step {one['step']} " + ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())


def _rounds_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Curation (pairs of the open pool)", title_justify="left")
    table.add_column("")
    for number, record in enumerate(rounds, start=1):
        table.add_column(f"round {record.get('round', number)}", justify="right")
    for name, key in ROUND_COUNTS.items():
        table.add_row(name, *(str(record.get(key, 0)) for record in rounds))
    for name, key in ROUND_SHARES.items():
        table.add_row(name, *(_share(record.get(key)) for record in rounds))
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
