"""Where runs come from: a store of MLflow, an archive, or several of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mrm.comparing.records import RunRecord
from mrm.evaluation.sample_scores import SampleScores


class RunSource(Protocol):
    """Gives runs, and what there is of each."""

    uri: str

    def runs(self) -> tuple[list[RunRecord], list[str]]:
        """All runs that trained, and the names of those that are not of this framework."""

    def whole(self, run: RunRecord) -> RunRecord:
        """The run with its whole configuration, where that can be had."""

    def artifact(self, run: RunRecord, name: str) -> Path | None:
        """A file of a run; None where there is none."""

    def scores(self, run: RunRecord) -> Mapping[str, SampleScores]:
        """What a run scored the pairs of its test sets; empty where it kept nothing."""

    def history(self, run: RunRecord, names: Sequence[str]) -> list[dict[str, Any]]:
        """Metrics by step, {"step", "name", "value"} each; names that the run does not have are passed over."""


class Together:
    """Several sources as one. A run that stands in two of them is taken from the one that has its folder, else from the first."""

    def __init__(self, sources: Sequence[RunSource]) -> None:
        self.uri = ", ".join(source.uri for source in sources)
        self._sources = sources
        self._owner: dict[str, RunSource] = {}

    def runs(self) -> tuple[list[RunRecord], list[str]]:
        """See `RunSource`."""
        records: dict[str, RunRecord] = {}
        strangers = []
        for source in self._sources:
            found, others = source.runs()
            strangers += others
            for record in found:
                known = records.get(record.run_id)
                if known is None or (known.folder is None and record.folder is not None):
                    self._owner[record.run_id] = source
                    records[record.run_id] = record
        return list(records.values()), strangers

    def whole(self, run: RunRecord) -> RunRecord:
        """See `RunSource`."""
        return self._owner[run.run_id].whole(run)

    def artifact(self, run: RunRecord, name: str) -> Path | None:
        """See `RunSource`."""
        return self._owner[run.run_id].artifact(run, name)

    def scores(self, run: RunRecord) -> Mapping[str, SampleScores]:
        """See `RunSource`."""
        return self._owner[run.run_id].scores(run)

    def history(self, run: RunRecord, names: Sequence[str]) -> list[dict[str, Any]]:
        """See `RunSource`."""
        return self._owner[run.run_id].history(run, names)
