"""What the actions of `mrm.audit` take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING


@dataclass
class ShowConfig:
    """Of `show`."""

    run: str = MISSING  # a run's folder, its ledger folder, or an output of mrm.curate
    key: str | None = None  # of a sample, whose pairs are told round by round
    pair: int | None = None  # number within the sample
    decision: str | None = None  # only pairs so decided about, such as keep, flip, drop, queue or restore
    source: str | None = None  # only its pairs
    round: int | None = None  # null tells of all
    limit: int = 20  # pairs shown
    texts: bool = True  # with what the pairs say, where their data are reachable
    data: Any = None  # where the data lie: DIR, or {NAME: DIR, ...}; null as the run's folder says


@dataclass
class DiffConfig:
    """Of `diff`."""

    run: str = MISSING  # as of show
    other: str = MISSING  # what it is compared with, the same
    round: int | None = None  # of both; null takes the newest of each
    limit: int = 20  # pairs named


@dataclass
class UndoConfig:
    """Of `undo`."""

    run: str = MISSING  # as of show
    round: int = MISSING  # that is taken back
    output: str = MISSING  # FILE.parquet, or a folder that gets round_NNNN.parquet
    admit: bool = False  # pairs that would be held again come into use as published
    limit: int = 20  # pairs named


@dataclass
class ExportConfig:
    """Of `export`."""

    run: str = MISSING  # as of show
    output: str = MISSING  # a file, or a folder
    form: str | None = None  # jsonl | csv | parquet | llama_factory | shards; null goes by the output's ending
    round: int | None = None  # null takes the newest
    ledger: str | None = None  # a file, such as of `undo`, in the place of a round
    decision: str | None = None  # only pairs so decided about
    source: str | None = None  # only its pairs
    data: Any = None  # as of show
    max_bad: float = 0.01  # share of samples that may be unreadable, of llama_factory and shards
