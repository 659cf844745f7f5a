"""What the actions of `mrm.audit` share: lines for a person to read, and refusing outputs that are in the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datamodules.ledger import Array, Ledger
from datamodules.ledger_audit import names
from mrm.errors import ConfigError


def check_output(path: Path, folder: Path) -> None:
    """Outputs are new, and never among the ledgers, where a run would take them for its own.

    Raises:
        ConfigError: otherwise.
    """
    if folder.resolve() in (path.resolve(), *path.resolve().parents):
        raise ConfigError(f"output={str(path)!r}: lies in {folder}, which stays as it is; choose another place.")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"output={str(path)!r}: exists; choose another name.")


def counted_line(what: str, ledger: Ledger, rows: Array, limit: int) -> str:
    """How many pairs, and the first of the rows int [n] by name."""
    if not len(rows) or not limit:
        return f"{what}."
    return f"{what}: {', '.join(names(ledger, rows, limit))}{', ...' if len(rows) > limit else '.'}"


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Prints lines as they are."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
