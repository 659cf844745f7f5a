"""What each data set of a run is, in numbers: for the run's record and for tracking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from datamodules.dataset_spec import TRAINED, DatasetSpec
from datamodules.index import Index
from datamodules.preference_datamodule import PreferenceDataModule


@dataclass(frozen=True)
class SetAccount:
    """One data set as the run found it.

    Args:
        name, role, path, weight: of its `DatasetSpec`.
        fingerprint: digest of keys, records and images, whatever the shards they lie in.
        samples, responses, pairs, images: how many.
        strengths: pairs whose strength is known.
        sources: source -> samples.
    """

    name: str
    role: str
    path: str
    weight: float
    fingerprint: str
    samples: int
    responses: int
    pairs: int
    images: int
    strengths: int
    sources: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def set_accounts(datamodule: PreferenceDataModule) -> list[SetAccount]:
    """One a data set, in their order."""
    trained = [spec for spec in datamodule.datasets if spec.role in TRAINED]
    places = {spec.name: place for place, spec in enumerate(trained)}
    accounts = []
    for spec in datamodule.datasets:
        index = datamodule.index if spec.role in TRAINED else datamodule.held_out_indexes[spec.name]
        rows = np.flatnonzero(index.dataset == places.get(spec.name, 0))  # a held-out set has an index of its own
        accounts.append(_account(spec, index, rows, datamodule.fingerprints[spec.name]))
    return accounts


def _account(spec: DatasetSpec, index: Index, rows: np.ndarray, fingerprint: str) -> SetAccount:
    """Of one set's rows, which lie one behind the other."""
    first, last = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    pairs = slice(int(index.pair_start[first]), int(index.pair_start[last]))
    numbers = np.bincount(index.source[first:last], minlength=len(index.source_names))
    return SetAccount(
        name=spec.name,
        role=spec.role,
        path=str(spec.path),
        weight=spec.weight,
        fingerprint=fingerprint,
        samples=last - first,
        responses=int(index.n_responses[first:last].sum()),
        pairs=pairs.stop - pairs.start,
        images=int(index.image_start[last] - index.image_start[first]),
        strengths=int(np.isfinite(index.pair_strength[pairs]).sum()),
        sources={name: int(number) for name, number in zip(index.source_names, numbers, strict=True) if number},
    )
