"""`python -m mrm.audit ACTION run=DIR [key=value ...]`: looks into ledgers of curation, compares, undoes and exports them.

`run` is a run's folder, its ledger folder, or an output of mrm.curate. Nothing in it is ever changed.

show    run=DIR: pairs by source and decision, a table row a round and source (source= and round= pick some).
        run=DIR key=KEY [pair=N]: what happened to the pairs of a sample in every round, and why; with their texts, where the
        data are reachable. decision=flip [round=N]: the pairs that (round N) decided so about.
diff    run=A other=B [round=N]: pairs by decision in A and decision in B, pairs that only one has, and the first by name.
undo    run=DIR round=N output=FILE.parquet: the newest ledger with what round N decided taken back, and with it what later rounds
        only confirmed. Pairs that a later round took out or brought back keep that; a label that round N turned is turned back
        unless judges or another round have decided on it since. All are counted and named. Pairs that are held then are not in use;
        admit=true takes them in as published. `export ledger=FILE.parquet` makes data of it.
export  run=DIR output=FILE [form=jsonl|csv|parquet|llama_factory|shards]: the newest ledger (or round=N, or ledger=FILE) as a
        table, or the pool as it says: pairs in use, flipped ones turned. decision= and source= pick some of the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from datamodules.ledger import Decision, Ledger, ledger_rounds, round_path
from datamodules.ledger_audit import LedgerDiff, Undone, compare, find_ledgers, names, read_round, take_back
from mrm.audit_config import DiffConfig, ExportConfig, ShowConfig, UndoConfig
from mrm.audit_export import ExportResult, export, print_export
from mrm.audit_lines import check_output, counted_line, print_lines
from mrm.audit_show import PairStory, Shown, print_show, show
from mrm.cli import open_console, parse_settings, words_command
from mrm.errors import ConfigError, LedgerError, suggest
from mrm.keys_help import keys_help

__all__ = ["ExportResult", "PairStory", "Shown", "diff", "export", "main", "show", "undo"]


@dataclass(frozen=True)
class DiffResult:
    """Both ledgers, and how B differs from A."""

    a: Ledger
    b: Ledger
    diff: LedgerDiff


@dataclass(frozen=True)
class UndoResult:
    """The file written, and what was taken back."""

    path: Path
    undone: Undone


def diff(config: DiffConfig) -> DiffResult:
    """How the ledgers of two runs differ.

    Raises:
        ConfigError: for folders without ledgers or without that round.
    """
    a, b = (read_round(find_ledgers(place), config.round) for place in (config.run, config.other))
    return DiffResult(a, b, compare(a, b))


def undo(config: UndoConfig) -> UndoResult:
    """Writes the newest ledger with a round taken back.

    Raises:
        ConfigError: for a round that is not there or decided nothing, or an output that exists or lies in the run.
        LedgerError: where the round before it has no ledger.
    """
    folder = find_ledgers(config.run)
    if config.round < 1:
        raise ConfigError(
            f"round={config.round}: rounds of curation begin with 1; round 0 is the pool as it was published."
        )
    of_round, rounds = read_round(folder, config.round), ledger_rounds(folder)
    if config.round - 1 not in rounds:
        raise LedgerError(
            f"{folder}: no ledger of round {config.round - 1}, to which round {config.round} would be taken back."
        )
    later = (read_round(folder, number) for number in rounds if number > config.round)
    undone = take_back(read_round(folder, config.round - 1), of_round, later, admit=config.admit)
    output = Path(config.output)
    path = output if output.suffix == ".parquet" else round_path(output, undone.ledger.round)
    check_output(path, folder)
    try:
        undone.ledger.write_file(path)
    except OSError as error:
        raise ConfigError(f"output={config.output!r}: cannot be written: {error}.") from error
    return UndoResult(path, undone)


def print_diff(config: DiffConfig) -> None:
    """Prints how two ledgers differ."""
    result = diff(config)
    a, b, found = result.a, result.b, result.diff
    console = open_console()
    table = Table(title=f"A {config.run}, round {a.round}; B {config.other}, round {b.round}", title_justify="left")
    for name in ("decision in A", "decision in B", "pairs"):
        table.add_column(name, justify="right" if name == "pairs" else "left")
    for (one, other), number in found.decisions.items():
        table.add_row(one, other, f"{number:,}")
    console.print(table)
    lines = [
        f"{len(found.changed)} pairs differ; {found.labels} have another label in use, {found.weights} another weight."
    ]
    lines += [
        f"  {name}: {a.decision[i]} -> {b.decision[j]}"
        + ("" if a.flipped[i] == b.flipped[j] else ", the other label")
        + (f", weight {a.weight[i]:g} -> {b.weight[j]:g}" if a.weight[i] != b.weight[j] else "")
        for name, (i, j) in zip(names(a, found.changed[:, 0], config.limit), found.changed.tolist(), strict=False)
    ]
    for side, ledger, rows in (("A", a, found.only_a), ("B", b, found.only_b)):
        lines.append(counted_line(f"{len(rows)} pairs are only in {side}", ledger, rows, config.limit))
    print_lines(console, lines)


def print_undo(config: UndoConfig) -> None:
    """Undoes a round and prints what became of its pairs."""
    result = undo(config)
    undone = result.undone
    told = {
        f"pairs are as round {config.round} found them": undone.taken_back,
        "of them had been confirmed by a later round": undone.confirmed,
        "keep what a later round decided, under the label that they had before": undone.relabelled,
        "keep all of what a later round decided": undone.decided_again,
        "could not be read, and stay left out": undone.unreadable,
    }
    held = undone.taken_back & (undone.ledger.decision == Decision.HELD)
    if held.any():
        told["are held again, so not in use; admit=true takes them in as published"] = held
    rows = {text: np.flatnonzero(mask) for text, mask in told.items()}
    lines = [
        *(counted_line(f"{len(found)} {text}", undone.ledger, found, config.limit) for text, found in rows.items()),
        f"Accounts {undone.ledger.accounts()}",
        f"Ledger   {result.path}",
    ]
    print_lines(open_console(), lines)


ACTIONS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "show": (ShowConfig, print_show),
    "diff": (DiffConfig, print_diff),
    "undo": (UndoConfig, print_undo),
    "export": (ExportConfig, print_export),
}


def parse(words: Sequence[str]) -> tuple[str, Any]:
    """The action and its settings.

    Raises:
        ConfigError: for an unknown action, and settings that cannot be.
    """
    known = ", ".join(ACTIONS)
    if not words or "=" in words[0]:
        raise ConfigError(f"the first word must be an action: {known}.")
    if words[0] not in ACTIONS:
        raise ConfigError(f"{words[0]!r}: there is no such action; there are {known}.{suggest(words[0], ACTIONS)}")
    return words[0], parse_settings(ACTIONS[words[0]][0], words[1:])


def usage() -> str:
    """The text of `--help`."""
    parts = [(__doc__ or "").strip()]
    for action, (schema, _) in ACTIONS.items():
        parts.append(keys_help(schema, f"Keys of {action}"))
    return "\n\n".join(parts)


def run(given: tuple[str, Any]) -> None:
    """Does what the words say."""
    action, settings = given
    ACTIONS[action][1](settings)


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    words_command(parse, run, usage, words)


if __name__ == "__main__":
    main()
