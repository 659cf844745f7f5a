"""The ledger: what was decided about every pair, one Parquet snapshot a round.

A snapshot has one row a pair, in the index's order. Strength and scores stay in the published orientation whatever is
decided, so that every flip can be undone and audited. Deciding is left to `mrm.curation`, planning to `plan.py`.

Dimension letters: N samples, P pairs.
"""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.index import Index
from datamodules.memory import system_memory
from datamodules.texts import Texts, object_column
from mrm.errors import CurationError, LedgerError, ResumableError

Array = npt.NDArray[Any]
FORMAT = "2"
_NAME = re.compile(r"round_(\d{4,})\.parquet")
_ANY_ROUND = "round_*.parquet"


class Decision:
    """What became of a pair."""

    TRUSTED: Final = "trusted"  # of a trusted data set: trained on, never curated
    HELD: Final = "held"  # open, not yet admitted
    RAW: Final = "raw"  # open, admitted unseen
    KEEP: Final = "keep"
    FLIP: Final = "flip"
    DROP: Final = "drop"
    QUEUE: Final = "queue"  # waits for annotators
    RESTORE: Final = "restore"  # brought back by annotators
    UNREADABLE: Final = "unreadable"


TRAINED: Final = frozenset({Decision.TRUSTED, Decision.RAW, Decision.KEEP, Decision.FLIP, Decision.RESTORE})
_ACCOUNTS: Final = {
    "dropped": Decision.DROP,
    "queued": Decision.QUEUE,
    "held": Decision.HELD,
    "unreadable": Decision.UNREADABLE,
}
_TYPES: Final = {
    "key": pa.string(),
    "pair": pa.int16(),
    "source": pa.string(),
    "strength": pa.float32(),
    "chosen_score": pa.float64(),  # means of several passes: in 32 bits a small margin of large scores would be a tie
    "rejected_score": pa.float64(),
    "spread": pa.float32(),
    "vote_share": pa.float32(),
    "decision": pa.string(),
    "flipped": pa.bool_(),
    "active": pa.bool_(),
    "weight": pa.float32(),
    "round": pa.int32(),
    "reason": pa.string(),
}
_FEW: Final = ["source", "decision", "reason"]  # columns of few distinct strings


@dataclass(frozen=True, eq=False)
class Ledger:
    """A snapshot; change it with `dataclasses.replace`.

    Args:
        key: Texts or object [P]. source, decision, reason: object [P], strings.
        pair: int16 [P], number within the sample.
        strength: float32 [P], as published; NaN where unknown.
        chosen_score, rejected_score: float64 [P], of those published as chosen and rejected, means over the score passes; NaN where
            unscored.
        spread: float32 [P], standard deviation of their difference over the passes, 0 of one pass; NaN where unscored.
        vote_share: float32 [P], the share of the annotators' votes for the published choice; NaN where none was asked for or not
            all arrived.
        flipped: bool [P], chosen and rejected change places in training.
        active: bool [P], trained on. weight: float32 [P], factor on the pair's loss.
        decided: int32 [P], the round of the row's newest decision (column `round` in the file).
        round: the snapshot's round.
        index_fingerprint, policy_fingerprint: what it was made from.
    """

    key: Texts | Array
    pair: Array
    source: Array
    strength: Array
    chosen_score: Array
    rejected_score: Array
    spread: Array
    vote_share: Array
    decision: Array
    flipped: Array
    active: Array
    weight: Array
    decided: Array
    reason: Array
    round: int
    index_fingerprint: str
    policy_fingerprint: str = ""

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)[:14]}
        assert len(set(lengths.values())) == 1, f"columns of unequal length: {lengths}"

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    @system_memory()
    def initial(cls, index: Index, trusted: Array, admit_open: bool) -> Ledger:
        """Round 0: trusted pairs are trained on, open ones wait, or are admitted unseen.

        Args:
            index: the training samples.
            trusted: bool [N], of a trusted data set.
            admit_open: whether open pairs take part before any curation.
        """
        row = index.pair_sample
        return cls.opening(
            index.keys[row],
            index.pair_number,
            index.sources[row],
            index.pair_strength,
            trusted=np.asarray(trusted, bool)[row],
            admit_open=admit_open,
            index_fingerprint=index.fingerprint,
        )

    @classmethod
    def opening(
        cls,
        key: Texts | Array,
        pair: Array,
        source: Array,
        strength: Array,
        *,
        trusted: Array,
        admit_open: bool,
        index_fingerprint: str,
    ) -> Ledger:
        """Round 0 of pairs that may lie anywhere.

        Args:
            key, pair, source, strength, index_fingerprint: see the class.
            trusted: bool [P], of a trusted data set.
            admit_open: as of `initial`.
        """
        pairs = len(key)
        names = np.array([Decision.RAW if admit_open else Decision.HELD, Decision.TRUSTED], dtype=object)
        return cls(
            key=key,
            pair=pair,
            source=source,
            strength=strength,
            chosen_score=np.full(pairs, np.nan),
            rejected_score=np.full(pairs, np.nan),
            spread=np.full(pairs, np.nan, np.float32),
            vote_share=np.full(pairs, np.nan, np.float32),
            decision=names[trusted.astype(np.int64)],
            flipped=np.zeros(pairs, bool),
            active=trusted | admit_open,
            weight=np.ones(pairs, np.float32),
            decided=np.zeros(pairs, np.int32),
            reason=np.full(pairs, "", dtype=object),
            round=0,
            index_fingerprint=index_fingerprint,
        )

    def edges(self, index: Index) -> tuple[Array, Array, Array]:
        """(chosen int16 [P], rejected int16 [P], strength float32 [P]) as trained on.

        A flipped pair's strength is unknown: the published gap says nothing once its direction is distrusted.
        """
        chosen = np.where(self.flipped, index.pair_rejected, index.pair_chosen)
        rejected = np.where(self.flipped, index.pair_chosen, index.pair_rejected)
        return chosen, rejected, np.where(self.flipped, np.float32(np.nan), self.strength)

    def accounts(self) -> dict[str, int]:
        """Pairs by what became of them: `pairs`, `trained`, `dropped`, `queued`, `held`, `unreadable`."""
        counts = _counts(self.decision)
        accounts = {name: counts.get(decision, 0) for name, decision in _ACCOUNTS.items()}
        return {"pairs": len(self), "trained": sum(counts.get(name, 0) for name in TRAINED), **accounts}

    def check_balanced(self) -> None:
        """Every pair must be accounted for, once.

        Raises:
            CurationError: if an unknown decision was written, or `active` contradicts the decisions.
        """
        accounts = self.accounts()
        total = sum(accounts.values()) - accounts["pairs"]
        if total != accounts["pairs"]:
            unknown = sorted(_counts(self.decision).keys() - TRAINED - set(_ACCOUNTS.values()))
            raise CurationError(
                f"round {self.round}: accounts do not balance: {accounts['pairs']} pairs, {total} accounted for;"
                f" unknown decision(s) {unknown}."
            )
        active = _counts(self.decision[self.active])
        if sum(active.values()) != accounts["trained"] or not active.keys() <= TRAINED:
            raise CurationError(
                f"round {self.round}: accounts do not balance: {accounts['trained']} pairs are to be trained on"
                f" by their decision, but the active ones are {active}."
            )

    def check_fits(self, index: Index) -> None:
        """The ledger must have been made for this index.

        Raises:
            LedgerError: otherwise.
        """
        if self.index_fingerprint != index.fingerprint or len(self) != index.n_pairs:
            raise LedgerError(
                f"the ledger of round {self.round} ({len(self)} pairs, index {self.index_fingerprint[:12]}) is of"
                f" another index than the data ({index.n_pairs} pairs, index {index.fingerprint[:12]}); the data sets,"
                " their order or contents changed: start in a new run directory."
            )

    def write(self, directory: str | os.PathLike[str]) -> Path:
        """Writes `round_NNNN.parquet` whole or not at all, replacing a snapshot of the same round.

        Rounds behind 0 are written by one process at a time; it removes what a process that was killed while writing left.

        Raises:
            CurationError: if the accounts do not balance.
            ResumableError: if the file cannot be written.
        """
        path = round_path(Path(directory), self.round)
        if self.round:  # every rank writes round 0
            for left in path.parent.glob(f".{_ANY_ROUND}.*"):
                left.unlink(missing_ok=True)
        self.write_file(path)
        return path

    @system_memory()
    def write_file(self, path: Path) -> None:
        """Writes a snapshot under any name, whole or not at all, in place of an earlier file.

        Raises:
            CurationError: if the accounts do not balance.
            ResumableError: if the file cannot be written.
        """
        self.check_balanced()
        try:
            _write_whole(self.table(), path)
        except OSError as error:
            raise ResumableError(
                f"{path}: the ledger of round {self.round} cannot be written: {error}. What was there before is untouched: make"
                " room, or mend what is wrong with the disk, and start again (a run: with resume=auto)."
            ) from error

    def table(self) -> pa.Table:
        """The snapshot as it stands in its file."""
        columns = [self._column(name, type_) for name, type_ in _TYPES.items()]
        metadata = {
            "format": FORMAT,
            "ledger_round": str(self.round),
            "index_fingerprint": self.index_fingerprint,
            "policy_fingerprint": self.policy_fingerprint,
        }
        return pa.Table.from_arrays(columns, names=list(_TYPES)).replace_schema_metadata(metadata)

    def _column(self, name: str, type_: pa.DataType) -> pa.Array:
        column = getattr(self, "decided" if name == "round" else name)
        return column.arrow().cast(type_) if isinstance(column, Texts) else pa.array(column, type_)

    @classmethod
    @system_memory()
    def read(cls, path: str | os.PathLike[str]) -> Ledger:
        """Reads a snapshot.

        Raises:
            LedgerError: if it is missing or not a ledger.
        """
        mend = "delete it to do the round again, or start in a new run directory."
        try:
            table = pq.read_table(path, read_dictionary=_FEW, use_threads=False)
            metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            if metadata["format"] != FORMAT:
                raise LedgerError(f"{path}: ledger format {metadata['format']}, this version reads {FORMAT}; {mend}")
            if table.schema.names != list(_TYPES):
                raise LedgerError(f"{path}: columns {table.schema.names}, expected {list(_TYPES)}; {mend}")
            columns = {name: _read_column(name, table[name]) for name in _TYPES}
            for name in ("chosen_score", "rejected_score"):  # earlier ledgers hold 32 bits
                columns[name] = columns[name].astype(np.float64, copy=False)
            columns["decided"] = columns.pop("round")
            return cls(
                **columns,
                round=int(metadata["ledger_round"]),
                index_fingerprint=metadata["index_fingerprint"],
                policy_fingerprint=metadata["policy_fingerprint"],
            )
        except (pa.ArrowException, OSError, KeyError) as error:
            raise LedgerError(f"{path}: not a readable ledger ({error}); {mend}") from error

    @classmethod
    def latest(cls, directory: str | os.PathLike[str], at_most: int | None = None) -> Ledger | None:
        """The snapshot of the newest round (not after `at_most`), or None if there is none."""
        rounds = [number for number in ledger_rounds(directory) if at_most is None or number <= at_most]
        return cls.read(round_path(Path(directory), rounds[-1])) if rounds else None


def round_path(directory: Path, number: int) -> Path:
    """Where a round's snapshot lies."""
    return directory / f"round_{number:04d}.parquet"


def ledger_rounds(directory: str | os.PathLike[str]) -> list[int]:
    """The rounds that have a snapshot, in order."""
    root = Path(directory)
    if not root.is_dir():
        return []
    return sorted(int(match[1]) for path in root.iterdir() if (match := _NAME.fullmatch(path.name)))


def set_aside_after(directory: str | os.PathLike[str], number: int) -> list[Path]:
    """Renames the snapshots of later rounds to `*.superseded`, so that they are neither read nor lost."""
    moved = []
    for later in ledger_rounds(directory):
        if later > number:
            path = round_path(Path(directory), later)
            target = path.with_suffix(".parquet.superseded")
            try:
                os.replace(path, target)
            except FileNotFoundError:
                continue  # another rank was faster
            moved.append(target)
    return moved


def _write_whole(table: pa.Table, path: Path) -> None:
    root = path.parent
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with partial.open("wb") as file:
            pq.write_table(table, file, use_dictionary=_FEW)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the new name itself
    finally:
        os.close(descriptor)


def _read_column(name: str, column: pa.ChunkedArray) -> Any:
    if name == "key":
        return Texts.from_arrow(column)
    return object_column(column) if name in _FEW else column.to_numpy()


def _counts(decision: Array) -> dict[str, int]:
    pairs = pa.array(decision, pa.string()).value_counts()
    return {item["values"].as_py(): item["counts"].as_py() for item in pairs}
