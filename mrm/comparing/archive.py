"""Runs in one file, to keep with what was written about them: configuration, figures, rounds of curation, which test pairs were right; no
weights, no curves, no rewards.

Gzipped JSON Lines: {"format": 2}, a line {"samples": {NAME: {"key": [...], "pair": [...]}}} of the test pairs, and a line a run. A study's
tables can be made again from it where neither its store nor its runs' folders are any more.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrm.comparing.courses import ROUND_NAMES
from mrm.comparing.measures import SPEED, SPENT
from mrm.comparing.records import RunRecord, with_defaults
from mrm.comparing.sources import RunSource
from mrm.errors import ConfigError
from mrm.evaluation.sample_scores import SampleScores

FORMAT = 2
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
    samples: dict[str, dict[str, list[Any]]] = {}
    for run in sorted(runs, key=lambda run: (run.experiment, run.seed, run.started, run.run_id)):
        fields = {name: getattr(run, name) for name in _FIELDS}
        courses: dict[str, list[tuple[int, float]]] = {}
        for entry in source.history(run, KEPT):
            courses.setdefault(entry["name"], []).append((entry["step"], entry["value"]))
        lines.append({**fields, "history": courses, "right": _right(source.scores(run), samples)})
    lines.insert(1, {"samples": samples})
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
        self._scores: dict[str, dict[str, SampleScores]] = {}
        try:
            head, pairs, *lines = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
            if head != {"format": FORMAT}:
                raise ValueError(f"its first line is {head}, not {{'format': {FORMAT}}}")
            samples = {name: _columns(**one) for name, one in pairs["samples"].items()}
            for line in lines:
                if line["run_id"] in self._histories:
                    raise ValueError(f"the run {line['run_id']} stands in it twice")
                self._histories[line["run_id"]] = line.pop("history")
                right = line.pop("right")
                self._scores[line["run_id"]] = {
                    name: _scores(digest, bits, samples) for name, (digest, bits) in right.items()
                }
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
        """See `RunSource`; as rewards, 1 and 0 for the response that is preferred and the other one."""
        return self._scores[run.run_id]

    def history(self, run: RunRecord, names: Sequence[str]) -> list[dict[str, Any]]:
        """See `RunSource`; of the metrics in `KEPT`."""
        return [
            {"step": step, "name": name, "value": value}
            for name, points in self._histories[run.run_id].items()
            if name in names
            for step, value in points
        ]


def _right(scores: Mapping[str, SampleScores], samples: dict[str, dict[str, list[Any]]]) -> dict[str, tuple[str, str]]:
    """Test set -> (name of its pairs in `samples`, where they are added, a bit a pair in hexadecimal)."""
    kept = {}
    for name, one in scores.items():
        columns = {"key": one.key.tolist(), "pair": one.pair.tolist()}
        digest = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]
        samples[digest] = columns
        kept[name] = (digest, np.packbits(one.right).tobytes().hex())
    return kept


def _columns(key: Sequence[str], pair: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(object [N] keys, int32 [N] pairs)."""
    if len(key) != len(pair):
        raise ValueError(f"{len(key)} keys are not of {len(pair)} pairs")
    return np.array(key, object), np.array(pair, np.int32)


def _scores(digest: str, bits: str, samples: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> SampleScores:
    key, pair = samples[digest]
    packed = np.frombuffer(bytes.fromhex(bits), np.uint8)
    right = np.unpackbits(packed, count=len(key)).astype(np.float32)
    if len(packed) != -(-len(key) // 8):
        raise ValueError(f"{8 * len(packed)} bits are not of {len(key)} pairs")
    return SampleScores(key, pair, right, 1 - right)
