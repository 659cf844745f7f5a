"""Runs in one file, to keep with what was written about them: configuration, figures, rounds of curation; no weights, no curves.

Gzipped JSON Lines: {"format": 1} and a line a run. A study's tables can be made again from it where neither its store nor its runs'
folders are any more.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrm.comparing.courses import ROUND_NAMES
from mrm.comparing.measures import SPEED, SPENT
from mrm.comparing.records import RunRecord, with_defaults
from mrm.comparing.sources import RunSource
from mrm.errors import ConfigError
from mrm.evaluation.sample_scores import SampleScores

FORMAT = 1
ENDING = ".jsonl.gz"
KEPT = (*ROUND_NAMES, *SPENT, SPEED)  # metrics whose course is kept; of the speed the tables take the median
_FIELDS = [one.name for one in dataclasses.fields(RunRecord) if one.name not in ("folder", "cut")]


def write_archive(path: Path, source: RunSource, runs: Sequence[RunRecord]) -> Path:
    """Writes runs to a file; an older one is replaced whole.

    Args:
        path: ends in .jsonl.gz.
        source: of the runs.
        runs: to keep, with their whole configuration.

    Raises:
        ConfigError: for a run of which a store holds only the beginning of its configuration.
    """
    if cut := [run.told for run in runs if run.cut]:
        raise ConfigError(f"archive: of {', '.join(cut)} the store has the configuration only in part; leave it out.")
    lines: list[dict[str, Any]] = [{"format": FORMAT}]
    for run in sorted(runs, key=lambda run: (run.experiment, run.seed, run.started, run.run_id)):
        fields = {name: getattr(run, name) for name in _FIELDS}
        courses: dict[str, list[tuple[int, float]]] = {}
        for entry in source.history(run, KEPT):
            courses.setdefault(entry["name"], []).append((entry["step"], entry["value"]))
        lines.append({**fields, "history": courses})
    data = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(gzip.compress(data, mtime=0))  # the same runs give the same file
    temporary.replace(path)
    return path


class Archive:
    """The runs of a file of `write_archive`.

    Raises:
        ConfigError: for a file that is none.
    """

    def __init__(self, path: Path) -> None:
        self.uri = str(path)
        self._runs: list[RunRecord] = []
        self._histories: dict[str, dict[str, list[tuple[int, float]]]] = {}
        try:
            head, *lines = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
            if head != {"format": FORMAT}:
                raise ValueError(f"its first line is {head}, not {{'format': {FORMAT}}}")
            for line in lines:
                self._histories[line["run_id"]] = line.pop("history")
                record = RunRecord(**line)
                self._runs.append(dataclasses.replace(record, config=with_defaults(record.config)))
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"store={str(path)!r}: is no archive of runs: {error}.") from error

    def runs(self) -> tuple[list[RunRecord], list[str]]:
        """See `RunSource`."""
        return self._runs, []

    def whole(self, run: RunRecord) -> RunRecord:
        """See `RunSource`."""
        return run

    def artifact(self, run: RunRecord, name: str) -> Path | None:
        """None: files are not kept."""
        return None

    def scores(self, run: RunRecord) -> Mapping[str, SampleScores]:
        """Nothing: samples are not kept."""
        return {}

    def history(self, run: RunRecord, names: Sequence[str]) -> list[dict[str, Any]]:
        """See `RunSource`; of the metrics in `KEPT`."""
        return [
            {"step": step, "name": name, "value": value}
            for name, points in self._histories[run.run_id].items()
            if name in names
            for step, value in points
        ]
