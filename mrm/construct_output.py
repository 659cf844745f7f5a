"""What `mrm.construct` prints: what became of records and pairs, what came out, and what a run would take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrm.construction.calling.budget import Estimate
from mrm.construction.construction_report import PAGE_NAME, ConstructionSummary
from mrm.construction.stage_files import StageAccount


def print_accounts(accounts: Mapping[str, StageAccount]) -> None:
    """A row a stage: what went in, what came out, why the rest did not, and which calls got no answer."""
    table = Table(title="Construction", title_justify="left")
    table.add_column("stage")
    for column in ("in", "out"):
        table.add_column(column, justify="right")
    table.add_column("of")
    table.add_column("left out", overflow="fold")
    for name, account in accounts.items():
        told = [f"{number:,} {reason}" for reason, number in account.left.items()]
        told += [
            f"calls failed: {number:,} {reason}"
            for calls in account.extra.get("calls", ())
            for reason, number in calls["failed"].items()
        ]
        left = ", ".join(told)
        row = (name, f"{account.read:,}", f"{account.written:,}", account.unit, escape(left or "none"))
        table.add_row(*row)
    console = Console()
    console.print(table)
    for name, account in accounts.items():
        for reason, number, first in _failed(account):
            console.print(f"{name}: {number:,} failed ({reason}), such as {first}", markup=False, soft_wrap=True)
    if any(True for account in accounts.values() for _ in _failed(account)):
        console.print(
            "Calls that failed: answers/failures.jsonl says why; the same command asks them again.", soft_wrap=True
        )


def _failed(account: StageAccount) -> Iterator[tuple[str, int, str]]:
    """(reason, number, the first one) of a stage's calls that were given up."""
    for calls in account.extra.get("calls", ()):
        for reason, number in calls["failed"].items():
            yield reason, number, calls["named"][reason][0]


def print_outcome(summary: ConstructionSummary, work: Path) -> None:
    """Style and, where it is known, truth of the pairs by way of choosing them; and where all is told."""
    table = Table(title="Pairs", title_justify="left")
    table.add_column("chosen by")
    for column in ("pairs", "style probe", "95 %", "wrong winners", "strength vs truth"):
        table.add_column(column, justify="right")
    for name, figures in summary.style.items():
        probe, truth = figures.probe, summary.truth.get(name)
        told = ("-", "-") if truth is None else (f"{truth.wrong_share:.2%}", f"{truth.spearman:.2f}")
        table.add_row(name, f"{probe.pairs:,}", f"{probe.accuracy:.3f}", f"{probe.low:.3f}-{probe.high:.3f}", *told)
    console = Console()
    if summary.style:
        console.print(table)
    shards = work / "shards"
    written = f"Shards: {shards}. " if shards.is_dir() else ""
    console.print(f"{written}Report: {work / PAGE_NAME}", markup=False, soft_wrap=True)


def print_estimate(estimate: Estimate) -> None:
    """What a run would take, by model and kind of call."""
    table = Table(title="Dry run: nobody was asked", title_justify="left")
    for column in ("model", "kind"):
        table.add_column(column)
    for column in ("calls", "known already", "input tokens", "output tokens", "cost"):
        table.add_column(column, justify="right")
    for place in sorted({*estimate.asked, *estimate.reused}):
        spent, known = estimate.asked.get(place), estimate.reused.get(place, 0)
        cost = "no price" if place[0] in estimate.unpriced else f"{spent.cost if spent else 0:,.2f}"
        counts = (spent.calls, known, spent.input_tokens, spent.output_tokens) if spent else (0, known, 0, 0)
        table.add_row(*place, *(f"{count:,}" for count in counts), cost)
    total = estimate.total
    table.add_row(
        "all",
        "",
        f"{total.calls:,}",
        "",
        f"{total.input_tokens:,}",
        f"{total.output_tokens:,}",
        ("at least " if estimate.unpriced else "") + f"{total.cost:,.2f}",
    )
    Console().print(table)
