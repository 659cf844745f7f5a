"""Counting what cannot be read: by data set and name, a few times in the log, and never past a limit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mrm.errors import UnreadableSamplesError
from mrm.model.packing import RewardBatch, Unreadable

log = logging.getLogger(__name__)
_LOGGED = 10  # unreadable samples that are logged one by one


class UnreadableCount:
    """Samples that could not be read: counted once, logged a few times, too many of one data set stop the run.

    Args:
        max_fraction: of each data set's samples that may be unreadable.
        setting: the name of the setting that holds it, for the message.

    Attributes:
        found: data set -> key -> what could not be read and why.
    """

    def __init__(self, max_fraction: float, setting: str = "max_unreadable") -> None:
        self.max_fraction = max_fraction
        self.setting = setting
        self.found: dict[str, dict[str, Unreadable]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def note(self, batch: RewardBatch, sizes: Mapping[str, int]) -> None:
        """Counts a batch's unreadable samples.

        Args:
            batch: the batch.
            sizes: samples of each data set that the batch may hold.

        Raises:
            UnreadableSamplesError: past the allowed fraction of a data set.
        """
        for item in batch.unreadable:
            found = self.found.setdefault(item.dataset, {})
            if item.key not in found:
                found[item.key] = item
                if len(self) <= _LOGGED:
                    log.warning("unreadable sample %s in %s: %s", item.key, item.shard, item.reason)
                if len(self) == _LOGGED:
                    log.warning("further unreadable samples are counted, not logged.")
        for dataset in sorted({item.dataset for item in batch.unreadable}):
            bad, size = self.found[dataset], sizes[dataset]
            if len(bad) > self.max_fraction * size:
                first = "; ".join(f"{key} in {bad[key].shard}: {bad[key].reason}" for key in sorted(bad)[:3])
                raise UnreadableSamplesError(
                    f"{len(bad)} of {size} samples of data set {dataset!r} are unreadable, more than the allowed"
                    f" {self.max_fraction:.2%}: {first}. Mend or leave out these samples, or raise {self.setting}."
                )

    def state_dict(self) -> dict[str, Any]:
        return {name: {key: (i.shard, i.reason) for key, i in found.items()} for name, found in self.found.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.found = {
            name: {key: Unreadable(key, shard, reason, name) for key, (shard, reason) in found.items()}
            for name, found in state.items()
        }
