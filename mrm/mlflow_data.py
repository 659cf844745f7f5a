"""Data sets and ledgers as MLflow datasets: what went into a run, by fingerprint, so that runs on the same data can be found.

Imported where it is used: it imports MLflow, which costs a second.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.types.schema import Array, ColSpec, DataType, Object, Property, Schema
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from datamodules.ledger import Ledger
from datamodules.set_accounts import SetAccount

DIGEST = 32  # characters of a fingerprint; MLflow's stores take 36
CURATED = "curated"  # the context of a ledger; that of a data set is its role
_PAIR = Object([Property("chosen", DataType.long), Property("rejected", DataType.long), Property("strength", DataType.double)])  # fmt: skip
_TURN = Object([Property("role", DataType.string), Property("content", DataType.string)])
SAMPLE = Schema(
    [
        ColSpec(DataType.string, "key"),
        ColSpec(DataType.string, "source"),
        ColSpec(Array(_TURN), "prompt"),
        ColSpec(Array(DataType.binary), "images"),
        ColSpec(Array(DataType.string), "responses"),
        ColSpec(Array(_PAIR), "pairs"),
    ]
)


class CountedDataset(MetaDataset):
    """A dataset that MLflow holds no rows of: name, digest, source, schema, and counts as its profile."""

    def __init__(
        self, source: DatasetSource, *, name: str, digest: str, schema: Schema | None, profile: dict[str, Any]
    ) -> None:
        self._profile = profile
        super().__init__(source, name=name, digest=digest, schema=schema)

    @property
    def profile(self) -> dict[str, Any]:
        """The counts."""
        return self._profile

    def to_dict(self) -> dict[str, str]:
        """All of it as strings, as MLflow stores it."""
        return {**super().to_dict(), "profile": json.dumps(self._profile)}


def set_inputs(accounts: Iterable[SetAccount]) -> list[DatasetInput]:
    """The data sets of a run as its inputs, each with its role as its context."""
    return [
        _input(
            CountedDataset(
                _source(account.path),
                name=account.name,
                digest=account.fingerprint[:DIGEST],
                schema=SAMPLE,
                profile={
                    name: value for name, value in account.to_json().items() if name not in ("name", "role", "path")
                },
            ),
            account.role,
        )
        for account in accounts
    ]


def ledger_inputs(ledgers: Iterable[tuple[Path, Ledger]]) -> list[DatasetInput]:
    """Rounds of a ledger as inputs: what was trained on after each.

    Args:
        ledgers: files, each with what it holds.
    """
    return [
        _input(
            CountedDataset(
                _source(str(path)),
                name=f"ledger_round_{ledger.round}",
                digest=hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST],
                schema=None,
                profile={
                    "pairs": len(ledger),
                    "active_pairs": int(ledger.active.sum()),
                    "decisions": ledger.accounts(),
                },
            ),
            CURATED,
        )
        for path, ledger in ledgers
    ]


def _input(dataset: CountedDataset, context: str) -> DatasetInput:
    return DatasetInput(dataset._to_mlflow_entity(), [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _source(place: str) -> DatasetSource:
    """What MLflow makes of a path or URL; of one that it does not know (hf://) the address alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has one class twice, and says that it has to choose
            return resolve_dataset_source(place)
    except MlflowException:
        return CodeDatasetSource({"address": place})
