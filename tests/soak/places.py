"""The places where `held_run.py` can hold a run, by phase, and the files that tell of it; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

BEFORE_LEDGER, WITHIN_LEDGER = "before the ledger is written", "in the middle of the ledger"
AFTER_LEDGER = "after the ledger was renamed"
PHASES = {
    "scoring": ("a batch of the pool is scored",),
    "deciding": ("a step of the decision",),
    "writing the ledger": (
        BEFORE_LEDGER, WITHIN_LEDGER, "before the ledger is renamed", AFTER_LEDGER,
    ),
    "annotating": ("before an answer is kept", "in the middle of an answer"),
    "checkpointing": (
        "before a checkpoint is written", "in the middle of a checkpoint", "before a checkpoint is renamed",
        "before an older checkpoint is removed",
    ),
    "first batches": ("one of the first batches after a round",),
    "saving": ("before the model is saved", "before the results are written", "after the results were written"),
}  # fmt: skip
FIRST_BATCHES = 3
HELD, GO, PASSED, PRINTED = "held", "go", "passed.json", "printed.txt"

FULL_DISK = "full"  # in GO: the held write fails as on a full disk


@dataclass(frozen=True)
class Place:
    """Where a run is held: the `number`-th time, from 1, that it passes `name`."""

    name: str
    number: int = 1


def of_round(name: str, number: int) -> str:
    """The place of one round's ledger."""
    return f"{name}, round {number}"
