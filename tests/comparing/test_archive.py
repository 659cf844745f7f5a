import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from mrm.comparing.archive import Archive, write_archive
from mrm.comparing.sources import Together
from mrm.errors import ConfigError
from mrm.evaluation.sample_scores import SampleScores
from tests.comparing.making import made_run

COURSE = [
    {"step": 10, "name": "curation/round", "value": 1.0},
    {"step": 10, "name": "curation/noise_after", "value": 0.1},
    {"step": 5, "name": "train/loss", "value": 0.7},
]


KEYS = np.array(list("aabcdefghi"), object)
SCORES = {  # ten pairs, more than a byte's bits; a tie is wrong
    "t": SampleScores(
        KEYS, np.array([0, 1, *[0] * 8], np.int32), np.arange(10, dtype=np.float32), np.full(10, 4, np.float32)
    )
}


class Source:
    uri = "made"

    def history(self, run, names):
        return [entry for entry in COURSE if entry["name"] in names] if run.seed == 1 else []

    def scores(self, run):
        return SCORES if run.seed == 1 else {}


RUNS = [made_run("b", 2, {"t": 0.75}), made_run("a", 1, {"t": 0.5}, metrics={"seconds": 3.0}, data="d1")]


def test_archive_gives_the_runs_back_with_the_course_of_curation(tmp_path):
    path = write_archive(tmp_path / "new" / "runs.jsonl.gz", Source(), RUNS)
    archive = Archive(path)
    found, strangers = archive.runs()
    assert [(run.experiment, run.seed) for run in found] == [("a", 1), ("b", 2)] and not strangers
    for run, given in zip(found, reversed(RUNS), strict=True):
        assert run.metrics == given.metrics and given.config.items() <= run.config.items()
        assert dataclasses.replace(run, config=given.config) == given
    assert archive.history(found[0], ["curation/noise_after", "train/loss"]) == [COURSE[1]]
    assert archive.history(found[1], ["curation/round"]) == []
    assert archive.scores(found[1]) == {} and archive.artifact(found[0], "config.yaml") is None
    kept = archive.scores(found[0])["t"]
    assert kept.key.tolist() == KEYS.tolist() and kept.pair.tolist() == [0, 1, *[0] * 8]
    assert kept.right.tolist() == SCORES["t"].right.tolist() == [False] * 5 + [True] * 5
    assert path.read_bytes() == write_archive(tmp_path / "again.jsonl.gz", Source(), RUNS[::-1]).read_bytes()


def test_archive_of_a_run_with_half_its_configuration_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a-s1-0.*only in part"):
        write_archive(tmp_path / "runs.jsonl.gz", Source(), [dataclasses.replace(RUNS[1], cut=("k",))])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        *(
            gzip.compress(text)
            for text in (b'{"format": 9}\n{}\n', b'{"format": 2}\n{}\n', b'{"format": 2}\n{"samples": {}}\n{}\n')
        ),
    ],
)
def test_archive_that_is_none_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "runs.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="runs.jsonl.gz.*is no archive of runs"):
        Archive(path)


def changed(path: Path, change) -> Path:
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(lines)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines.append(lines[2]), "the run .* stands in it twice"),
        (lambda lines: lines[2]["right"].update(t=[*lines[2]["right"]["t"][:1], "ff"]), "8 bits are not of 10 pairs"),
        (lambda lines: lines[2]["right"].update(t=["none", "ff"]), "'none'"),
        (lambda lines: next(iter(lines[1]["samples"].values()))["pair"].pop(), "10 keys are not of 9 pairs"),
    ],
)
def test_archive_that_was_damaged_is_named(tmp_path: Path, change, told):
    with pytest.raises(ConfigError, match=f"is no archive of runs: .*{told}"):
        Archive(changed(write_archive(tmp_path / "runs.jsonl.gz", Source(), RUNS), change))


def test_together_takes_a_run_that_stands_twice_once_and_asks_its_owner(tmp_path):
    first = Archive(write_archive(tmp_path / "1.jsonl.gz", Source(), RUNS))
    second = Archive(write_archive(tmp_path / "2.jsonl.gz", Source(), [*RUNS, made_run("c", 1)]))
    both = Together([first, second])
    found, _ = both.runs()
    assert [run.experiment for run in found] == ["a", "b", "c"]
    here = Source()  # the run's own folder is better than what was kept of it
    here.runs = lambda: ([dataclasses.replace(RUNS[0], folder=tmp_path)], [])
    assert {run.experiment: run.folder for run in Together([first, here]).runs()[0]} == {"a": None, "b": tmp_path}
    assert both.history(found[2], ["curation/round"]) == [COURSE[0]] and both.whole(found[0]) is found[0]
