import dataclasses
import gzip
from pathlib import Path

import pytest

from mrm.comparing.archive import Archive, write_archive
from mrm.comparing.sources import Together
from mrm.errors import ConfigError
from tests.comparing.making import made_run

COURSE = [
    {"step": 10, "name": "curation/round", "value": 1.0},
    {"step": 10, "name": "curation/noise_after", "value": 0.1},
    {"step": 5, "name": "train/loss", "value": 0.7},
]


class Source:
    uri = "made"

    def history(self, run, names):
        return [entry for entry in COURSE if entry["name"] in names] if run.seed == 1 else []


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
    assert archive.scores(found[0]) == {} and archive.artifact(found[0], "config.yaml") is None
    assert path.read_bytes() == write_archive(tmp_path / "again.jsonl.gz", Source(), RUNS[::-1]).read_bytes()


def test_archive_of_a_run_with_half_its_configuration_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a-s1-0.*only in part"):
        write_archive(tmp_path / "runs.jsonl.gz", Source(), [dataclasses.replace(RUNS[1], cut=("k",))])


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", gzip.compress(b'{"format": 9}\n'), gzip.compress(b'{"format": 1}\n{}\n')]
)
def test_archive_that_is_none_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "runs.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="runs.jsonl.gz.*is no archive of runs"):
        Archive(path)


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
