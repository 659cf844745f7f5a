"""Counting what cannot be read: by name, a few times in the log, and never past a limit."""

from __future__ import annotations

import logging

from mrm.errors import UnreadableSamplesError
from mrm.model.packing import RewardBatch, Unreadable

log = logging.getLogger(__name__)
_LOGGED = 10  # unreadable samples that are logged one by one


class UnreadableCount:
    """Samples that could not be read, by key: counted once, logged a few times, too many stop the run.

    Args:
        max_fraction: of a data set's samples that may be unreadable.
    """

    def __init__(self, max_fraction: float) -> None:
        self.max_fraction = max_fraction
        self.found: dict[str, Unreadable] = {}
        self._of: dict[str, set[str]] = {}

    def note(self, batch: RewardBatch, data: str, samples: int) -> None:
        """Counts a batch's unreadable samples.

        Args:
            batch: the batch.
            data: name of the data set it is of.
            samples: how many that has.

        Raises:
            UnreadableSamplesError: past the allowed fraction.
        """
        for item in batch.unreadable:
            if item.key not in self.found:
                self.found[item.key] = item
                if len(self.found) <= _LOGGED:
                    log.warning("unreadable sample %s in %s: %s", item.key, item.shard, item.reason)
                if len(self.found) == _LOGGED:
                    log.warning("further unreadable samples are counted, not logged.")
            self._of.setdefault(data, set()).add(item.key)
        bad = self._of.get(data, set())
        if batch.unreadable and len(bad) > self.max_fraction * samples:
            first = "; ".join(f"{key} in {self.found[key].shard}: {self.found[key].reason}" for key in sorted(bad)[:3])
            raise UnreadableSamplesError(
                f"{len(bad)} of {samples} samples of {data} are unreadable, more than the allowed"
                f" {self.max_fraction:.2%}: {first}. Mend or leave out these samples, or raise max_unreadable."
            )
