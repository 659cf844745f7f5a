"""What `mrm.curate` tells: accounts that balance, the report, and the lines for a person.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from callbacks.curation_round import RoundOutcome
from callbacks.curation_schedule import RoundSpec
from datamodules.curated import Written
from datamodules.ledger import Decision, Ledger
from datamodules.pair_files import PairFile
from datamodules.pair_pools import PairPool
from mrm.cli import open_console
from mrm.curate_config import CurateConfig, file_names
from mrm.errors import CurationError

ACCOUNTS = {
    "kept": Decision.KEEP,
    "flipped": Decision.FLIP,
    "dropped": Decision.DROP,
    "queued": Decision.QUEUE,
    "unreadable": Decision.UNREADABLE,
}
NAMED = 20  # unreadable samples told in the report; the ledger has all


def round_settings(spec: RoundSpec) -> dict[str, Any]:
    """The settings of a round that has no epoch and no annotators."""
    return {name: value for name, value in asdict(spec).items() if name not in ("after_epoch", "missing")}


def accounts_of(ledger: Ledger) -> dict[str, int]:
    """Pairs by what became of them.

    Raises:
        CurationError: if one is not accounted for.
    """
    accounts = {"pairs": len(ledger)} | {name: int((ledger.decision == d).sum()) for name, d in ACCOUNTS.items()}
    if sum(accounts.values()) != 2 * len(ledger):
        raise CurationError(f"accounts do not balance: {accounts}.")
    return accounts


def unreadable_of(ledger: Ledger) -> dict[str, str]:
    """Key -> why, of the samples that could not be used."""
    bad = np.flatnonzero(ledger.decision == Decision.UNREADABLE)
    return dict(zip(ledger.key[bad].tolist(), ledger.reason[bad].tolist(), strict=True))


def build_report(
    config: CurateConfig, spec: RoundSpec, pool: PairPool, outcome: RoundOutcome, written: Written | None, passes: int
) -> dict[str, Any]:
    """All of `report.json`."""
    ledger = outcome.ledger
    reasons = unreadable_of(ledger)
    unread: dict[str, int] = dict(pool.unknown_columns) if isinstance(pool, PairFile) else {}
    return {
        "accounts": accounts_of(ledger),
        "queued_pairs": "left out by the filter, not dropped: named in the ledger, not in what was written",
        "rule": config.rule,
        "settings": round_settings(spec),
        "input": {
            "path": config.shards or config.input,
            "form": pool.form,
            "samples": len(pool),
            "unread_columns": unread,
        },
        "scores": {"model": config.model, "files": file_names(config.scores), "passes": passes},
        "written": None if written is None else written.to_json(),
        "unreadable": {"samples": len(reasons), "first": dict(list(reasons.items())[:NAMED])},
        "round": {name: value for name, value in outcome.record.items() if name != "epoch"},
    }


def print_outcome(path: Path, report: Mapping[str, Any], reused: bool) -> None:
    """Says what became of the pairs."""
    table = Table(title="Pairs", title_justify="left")
    for name in report["accounts"]:
        table.add_column(name, justify="right")
    table.add_row(*(f"{number:,}" for number in report["accounts"].values()))
    console = open_console()
    console.print(table)
    for line in [*_sentences(report, reused), f"Output   {path}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _sentences(report: Mapping[str, Any], reused: bool) -> list[str]:
    lines = []
    if reused:
        lines.append("The output of the same settings was there already.")
    if queued := report["accounts"]["queued"]:
        lines.append(
            f"{queued} pairs are queued, not dropped: the filter left them out; `mrm.audit export decision=queue` lists them."
        )
    if report["unreadable"]["samples"]:
        first = "; ".join(f"{key}: {why}" for key, why in list(report["unreadable"]["first"].items())[:3])
        lines.append(f"{report['unreadable']['samples']} samples could not be used, such as {first}")
    if written := report["written"]:
        lines.append(
            f"Written as {written['form']}: {written['pairs']} pairs ({written['flipped']} flipped) in {written['samples']} samples;"
            f" {written['without_pairs']} samples have no pair left."
        )
        if written["weights_lost"]:
            lines.append(
                f"{written['weights_lost']} pairs have a weight below 1, which LLaMA-Factory's form has no place for."
            )
        if written["strengths_lost"]:
            lines.append(f"{written['strengths_lost']} pairs have a strength as published and none as written.")
    return lines
