"""What the actions of `mrm.audit` take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass
class ShowConfig:
    """Of `show`."""

    run: str = MISSING  # a run's folder, its ledger folder, or an output of mrm.curate
    key: str | None = None
    pair: int | None = None  # number within the sample
    decision: str | None = None
    source: str | None = None
    round: int | None = None
    limit: int = 20  # pairs shown
    texts: bool = True  # with what the pairs say, where their data are reachable
    data: Any = None  # where the data lie: DIR, or {NAME: DIR, ...}; null as the run's folder says


@dataclass
class DiffConfig:
    """Of `diff`."""

    run: str = MISSING
    other: str = MISSING
    round: int | None = None  # of both; null takes the newest of each
    limit: int = 20  # pairs named


@dataclass
class UndoConfig:
    """Of `undo`."""

    run: str = MISSING
    round: int = MISSING
    output: str = MISSING  # FILE.parquet, or a folder that gets round_NNNN.parquet
    admit: bool = False  # pairs that would be held again come into use as published
    limit: int = 20  # pairs named


@dataclass
class ExportConfig:
    """Of `export`."""

    run: str = MISSING
    output: str = MISSING
    form: str | None = None  # jsonl | csv | parquet | llama_factory | shards; null goes by the output's ending
    round: int | None = None  # null takes the newest
    ledger: str | None = None  # a file, such as of `undo`, in the place of a round
    decision: str | None = None
    source: str | None = None
    data: Any = None
    max_bad: float = 0.01  # share of samples that may be unreadable, of llama_factory and shards
