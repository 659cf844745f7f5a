"""The summary that a person sees."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from mrm.summary import RunResult, print_summary


def shown(result: RunResult) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_summary(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_print_summary_counts_unreadable_samples_and_names_the_first() -> None:
    result = RunResult(Path("run"), unreadable=[f"k{number}: image does not decode" for number in range(5)])
    text = shown(result)
    assert "5 sample(s) could not be read: k0: image does not decode; k1: " in text
    assert "k2" in text and "k3" not in text
    assert "could not be read" not in shown(RunResult(Path("run")))
