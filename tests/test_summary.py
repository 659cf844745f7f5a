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


ROUND = {"scored": 48, "flipped": 0, "dropped": 0, "reannotated": 0, "restored": 0, "queued": 29, "kept": 19}


def test_to_json_rounds_say_how_many_pairs_are_queued() -> None:
    (record,) = RunResult(Path("run"), rounds=[ROUND]).to_json()["rounds"]
    assert record == {
        "scored": 48, "flipped": 0, "dropped": 0, "reannotated": 0, "restored": 0, "queued": 29,
        "noise_before": None, "noise_after": None,
    }  # fmt: skip


def test_print_summary_rounds_say_how_many_pairs_are_left_out() -> None:
    (line,) = (line for line in shown(RunResult(Path("run"), rounds=[ROUND])).splitlines() if "left out" in line)
    assert "29" in line


def test_print_summary_counts_unreadable_samples_and_names_the_first() -> None:
    result = RunResult(Path("run"), unreadable=[f"k{number}: image does not decode" for number in range(5)])
    text = shown(result)
    assert "5 sample(s) could not be read: k0: image does not decode; k1: " in text
    assert "k2" in text and "k3" not in text
    assert "could not be read" not in shown(RunResult(Path("run")))
