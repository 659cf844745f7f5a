"""Counts by round and source, from the ledgers alone, and the means to check them: file, digest and a program of a few lines.

Trusted pairs are in no count; one that turned out to be unreadable is no longer trusted and counts as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from callbacks.report_view import DROPPED, FLIPPED, KEPT, QUEUED, RESTORED, UNREADABLE, UNSEEN, LedgerView, RoundView
from datamodules.ledger import round_path
from datamodules.tarscan import file_digest

ALL = "all sources"
BY_THE_ROUND = ("kept", "flipped", "restored", "queued", "dropped", "unreadable")
AFTER_IT = ("in use", "in queue", "out", "unread", "held", "down-weighted")  # the first five add up to all pairs
COLUMNS = ("pairs", "scored", *BY_THE_ROUND, *AFTER_IT)

# Recomputes a round's table from its file with nothing of this package. Its columns are `COLUMNS`, in their order.
CHECK_PROGRAM = """\
import hashlib, sys
import pyarrow.compute as pc, pyarrow.parquet as pq

print("sha256", hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())
t = pq.read_table(sys.argv[1])
now = int(t.schema.metadata[b"ledger_round"])
t = t.filter(pc.not_equal(t["decision"], "trusted"))
new = pc.equal(t["round"], now)
is_ = {name: pc.equal(t["decision"], name) for name in
       ("keep", "flip", "restore", "queue", "drop", "unreadable", "held")}
columns = {
    "pairs": pc.is_valid(t["decision"]),
    "scored": pc.and_(pc.is_finite(t["chosen_score"]), pc.is_finite(t["rejected_score"])),
    "kept": pc.and_(new, is_["keep"]),
    "flipped": pc.and_(new, is_["flip"]),
    "restored": pc.and_(new, is_["restore"]),
    "queued": pc.and_(new, is_["queue"]),
    "dropped": pc.and_(new, is_["drop"]),
    "unreadable": pc.and_(new, is_["unreadable"]),
    "in use": t["active"],
    "in queue": is_["queue"],
    "out": is_["drop"],
    "unread": is_["unreadable"],
    "held": is_["held"],
    "down-weighted": pc.and_(t["active"], pc.less(t["weight"], 1)),
}
print("source", *columns, sep="\\t")
for source in [None, *pc.unique(t["source"]).to_pylist()]:
    rows = pc.is_valid(t["source"]) if source is None else pc.equal(t["source"], source)
    counts = [pc.sum(pc.and_(column, rows)).as_py() or 0 for column in columns.values()]
    print("all sources" if source is None else source, *counts, sep="\\t")
"""


@dataclass(frozen=True)
class RoundTable:
    """The counts of one round.

    Args:
        round: its number.
        rows: (source, counts in the order of `COLUMNS`), all sources together first.
        file: the ledger's file, as seen from the run's folder; "" where none is known.
        sha256: its digest, hexadecimal.
    """

    round: int
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    file: str = ""
    sha256: str = ""


def source_counts(view: RoundView, source: np.ndarray, number_of_sources: int) -> dict[str, np.ndarray]:
    """Counts of a round, `COLUMNS` -> int64 [S].

    `scored` has a score, of this round or an earlier one; `kept` to `unreadable` were decided by this round; `in use` to `held`
    is where all pairs are after it, and adds up to `pairs`; `down-weighted` is in use with a weight below 1.

    Args:
        view: the round.
        source: int [P], numbers of the sources.
        number_of_sources: S.
    """
    ledger, state = view.ledger, view.state
    by_the_round = dict(zip(BY_THE_ROUND, (KEPT, FLIPPED, RESTORED, QUEUED, DROPPED, UNREADABLE), strict=True))
    masks: Mapping[str, np.ndarray] = {
        "pairs": view.open,
        "scored": view.open & np.isfinite(view.chosen_score) & np.isfinite(view.rejected_score),
        **{name: view.fresh & (state == code) for name, code in by_the_round.items()},
        "in use": view.open & ledger.active,
        "in queue": state == QUEUED,
        "out": state == DROPPED,
        "unread": state == UNREADABLE,
        "held": (state == UNSEEN) & ~ledger.active,
        "down-weighted": view.open & ledger.active & (ledger.weight < 1),
    }
    return {name: np.bincount(source[masks[name]], minlength=number_of_sources) for name in COLUMNS}


def round_tables(view: LedgerView, ledger_dir: Path | None = None) -> list[RoundTable]:
    """One table a snapshot.

    Args:
        view: the ledgers.
        ledger_dir: where their files lie, in the run's folder; None: not told.
    """
    tables = []
    for seen in view.rounds:
        counts = source_counts(seen, view.source, len(view.sources))
        table = np.stack([counts[name] for name in COLUMNS], axis=1)  # [S, columns]
        rows = [(ALL, table.sum(axis=0)), *zip(view.sources, table, strict=True)]
        kept = tuple((name, tuple(row.tolist())) for name, row in rows if name is ALL or row[0])
        file, sha256 = "", ""
        if ledger_dir is not None:
            path = round_path(ledger_dir, seen.number)
            file, sha256 = f"{ledger_dir.name}/{path.name}", file_digest(path)
        tables.append(RoundTable(seen.number, kept, file, sha256))
    return tables
