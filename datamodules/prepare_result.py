"""What became of the records: counts and names, the table at the end, and when too few could be used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from datamodules.recipe import MARKER
from datamodules.sources.base import DAMAGED, IMAGE_MISSING
from datamodules.sources.images import UNSAFE
from mrm.errors import ConfigError, RecordError, UnreadableSamplesError
from mrm.images import UNDECODABLE

SKIPPED = "skipped.jsonl"
DUPLICATE = "duplicate"
LOST = (IMAGE_MISSING, UNDECODABLE)  # images that may be there the next time
# What a broken file or a wrong setting looks like: counted towards max_unreadable. All other reasons are left to the data:
# published sets have ties, empty answers, questions that nobody got wrong and images that some copies lack.
UNREADABLE = (
    *LOST,
    "remote image",
    "unknown image format",
    "image too large",
    "image too narrow",
    "image range unknown",
    "not JSON",
    "not a record",
    "unknown field",
    "missing field",
    "malformed field",
    DAMAGED,
    UNSAFE,
)
NAMED = 5  # skipped keys kept by name for each reason; skipped.jsonl has them all


@dataclass
class PrepareResult:
    """What became of the records: read = written + all skipped.

    Args:
        path: the directory of shards.
        read: records that the source offered (to this part).
        written: samples in the shards.
        pairs: preference pairs among them.
        skipped: number of records by reason.
        named: the first few skipped keys of each reason.
        duplicate_pairs: pairs left out of written samples that had others; `skipped.jsonl` names them, too.
        resized: images written at the model's resolution instead of their own.
        reused: whether an earlier output was used as it stood.
    """

    path: Path
    read: int = 0
    written: int = 0
    pairs: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    duplicate_pairs: int = 0
    resized: int = 0
    reused: bool = False

    def to_json(self) -> dict[str, Any]:
        """The counts, without path and `reused`."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("path", "reused")}
        return {
            **counts,
            "skipped": dict(self.skipped),
            "named": {name: list(keys) for name, keys in self.named.items()},
        }

    @classmethod
    def from_json(cls, path: Path, counts: dict[str, Any], *, reused: bool = False) -> PrepareResult:
        """The result of counts that `to_json` gave."""
        return cls(path, **{**counts, "skipped": Counter(counts["skipped"])}, reused=reused)

    @classmethod
    def total(cls, path: Path, parts: Iterable[PrepareResult]) -> PrepareResult:
        """The sum of several results."""
        total = cls(path)
        for part in parts:
            for name in ("read", "written", "pairs", "duplicate_pairs", "resized"):
                setattr(total, name, getattr(total, name) + getattr(part, name))
            for reason, number in part.skipped.items():
                total.skip(reason, part.named.get(reason, []), number)
        return total

    def skip(self, reason: str, keys: Iterable[str], number: int = 1) -> None:
        """Counts skipped records, and names as many as there is room for."""
        self.skipped[reason] += number
        named = self.named.setdefault(reason, [])
        named.extend(list(keys)[: max(0, NAMED - len(named))])


def read_result(path: Path) -> PrepareResult:
    """What was told when the folder was prepared.

    Raises:
        OSError, ValueError, KeyError, TypeError: where it holds no sound account.
    """
    return PrepareResult.from_json(path, json.loads((path / MARKER).read_text())["result"], reused=True)


@dataclass
class UnreadableRecords:
    """Records that cannot be read: how many, the first ten keys, and what was wrong with the first."""

    number: int = 0
    keys: list[str] = field(default_factory=list)
    first: str = ""

    def note(self, key: str, error: RecordError) -> None:
        """Counts the error where its reason is among `UNREADABLE`."""
        if error.reason not in UNREADABLE:
            return
        self.number += 1
        if len(self.keys) < 10:
            self.keys.append(key)
        self.first = self.first or str(error)


def check_usable(result: PrepareResult, unreadable: UnreadableRecords, max_unreadable: float, *, is_part: bool) -> None:
    """Looks whether enough records could be used; of a part, it may be that none came to it.

    Raises:
        UnreadableSamplesError: when more than `max_unreadable` of the records cannot be read.
        ConfigError: when no record could be used.
    """
    if unreadable.number > max_unreadable * result.read:
        more = f" and {unreadable.number - 10} more" if unreadable.number > 10 else ""
        reasons = ", ".join(f"{n} x {reason}" for reason, n in result.skipped.most_common() if reason in UNREADABLE)
        raise UnreadableSamplesError(
            f"{unreadable.number} of {result.read} records cannot be read ({reasons}), more than max_unreadable={max_unreadable:g}: "
            f"{', '.join(unreadable.keys)}{more}; the first: {unreadable.first} "
            "Mend these records or fetch their files again, or raise max_unreadable to go on without them."
        )
    if not result.written and not is_part:
        reasons = "; ".join(
            f"{n} x {reason} ({', '.join(result.named[reason])})" for reason, n in result.skipped.most_common()
        )
        raise ConfigError(f"input: none of the {result.read} records could be used: {reasons or 'the input is empty'}.")


def result_table(result: PrepareResult) -> Table:
    """The table shown at the end: read, written, skipped by reason with the first few keys."""
    table = Table(
        title=escape(f"{result.path}{' (complete, used again)' if result.reused else ''}"), title_justify="left"
    )
    table.add_column("records")
    table.add_column("number", justify="right")
    table.add_column("which", overflow="fold")
    table.add_row("read", str(result.read), "")
    table.add_row("written", str(result.written), f"{result.pairs} preference pairs")
    for reason, number in result.skipped.most_common():
        keys = ", ".join(result.named[reason])
        more = f", ... (all in {SKIPPED})" if number > len(result.named[reason]) else ""
        table.add_row(escape(f"skipped: {reason}"), str(number), escape(keys + more))
    if result.duplicate_pairs:
        table.add_row("duplicate pairs", str(result.duplicate_pairs), f"left out of written samples (in {SKIPPED})")
    if result.resized:
        table.add_row("images resized", str(result.resized), "written at the model's resolution")
    return table
