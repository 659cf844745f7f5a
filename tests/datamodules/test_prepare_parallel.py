"""Any number of workers writes the same bytes, and duplicates are left out and named."""

import dataclasses
import json

import pytest

from datamodules import ordered_pool, preparation
from datamodules.index import Index
from datamodules.prepare import prepare
from datamodules.prepare_progress import RecordProgress
from datamodules.shards import read_sample
from mrm.construction.reformulation import T2IPreference
from mrm.errors import ConfigError
from mrm.preference import Pair
from tests.datamodules.making import make_image, make_sample
from tests.datamodules.prepare_runs import SOURCES, contents, listed, make_pairs, run
from tests.datamodules.sources.helpers import write_jsonl


@pytest.fixture(autouse=True)
def workers_start_at_once(monkeypatch):
    monkeypatch.setattr(ordered_pool, "ALONE_S", 0.0)


@pytest.fixture
def given(monkeypatch):
    """Makes the source `jsonl` give these items instead of what its file holds."""

    def give(items):
        monkeypatch.setattr(preparation, "get_source", lambda name: lambda *a, **k: iter(items))

    return give


@pytest.mark.parametrize("source", SOURCES)
def test_prepare_any_number_of_workers_writes_the_same_bytes(tmp_path, source):
    data = SOURCES[source](tmp_path / "data")
    results = [run(source, data, tmp_path / f"out{n}", workers=n) for n in (1, 2, 5)]
    first, *others = (contents(result.path) for result in results)
    assert len([name for name in first if name.endswith(".tar")]) > 3
    assert all(other == first for other in others)


def test_prepare_shards_have_the_asked_size(tmp_path):
    data = make_pairs(tmp_path / "data")
    for mb in (20 / 1024, 1.0):
        path = run("jsonl", data, tmp_path / f"out{mb}", shard_mb=mb).path
        sizes = [p.stat().st_size for p in sorted(path.glob("*.tar"))]
        assert all(size <= mb * 2**20 + 10240 for size in sizes)  # a tar ends on a multiple of 10,240 bytes
        assert all(size > mb * 2**20 - 10240 for size in sizes[:-1])
    assert len(sizes) == 1


def test_prepare_duplicates_are_skipped_with_the_first_key(tmp_path, given):
    image, other = make_image(1), make_image(2)
    sample = make_sample("a", images=[image])
    given(
        [
            sample,
            dataclasses.replace(sample, key="b", source="elsewhere", meta={"n": 1}),
            dataclasses.replace(sample, key="c", images=(other,)),
            dataclasses.replace(sample, key="d", pairs=(Pair(1, 0),)),
            dataclasses.replace(sample, key="e", pairs=(Pair(0, 1, None),)),
        ]
    )
    result = run("jsonl", make_pairs(tmp_path / "data", 1), tmp_path / "out")
    assert (result.read, result.written, dict(result.skipped)) == (5, 3, {"duplicate": 2})
    assert [(line["key"], "'a'" in line["detail"]) for line in listed(result.path)] == [("b", True), ("e", True)]


def test_prepare_pair_of_a_ranking_that_is_known_is_left_out_of_it(tmp_path, given):
    sample = make_sample("a", responses=3, pairs=[Pair(0, 1)])
    ranking = dataclasses.replace(sample, key="b", pairs=(Pair(0, 1), Pair(0, 2), Pair(2, 1)))
    given([sample, ranking])
    result = run("jsonl", make_pairs(tmp_path / "data", 1), tmp_path / "out")
    assert (result.written, result.pairs, result.duplicate_pairs) == (2, 3, 1)
    assert read_sample(Index.load(result.path), 1).pairs == (Pair(0, 2), Pair(2, 1))
    assert [(line["key"], line["reason"]) for line in listed(result.path)] == [("b", "duplicate pair")]


def test_prepare_t2i_duplicate_is_found_whichever_side_it_would_get_and_uses_none_up(tmp_path, given):
    images = [make_image(n) for n in range(8)]
    pairs = [T2IPreference(f"t{n}", "made", f"caption {n}", images[n], images[n + 1]) for n in range(6)]
    given([item for pair in pairs for item in (pair, dataclasses.replace(pair, key=f"{pair.key}-again"))])
    result = run("jsonl", make_pairs(tmp_path / "data", 1), tmp_path / "out")
    index = Index.load(result.path)
    assert (result.written, dict(result.skipped)) == (6, {"duplicate": 6})
    assert sorted(index.pair_chosen.tolist()) == [0, 0, 0, 1, 1, 1]


def test_prepare_deduplicate_false_keeps_duplicates(tmp_path, given):
    sample = make_sample("a")
    given([sample, dataclasses.replace(sample, key="b")])
    assert run("jsonl", make_pairs(tmp_path / "data", 1), tmp_path / "out", deduplicate=False).written == 2


def test_record_progress_line_tells_rate_and_time_left():
    progress = RecordProgress("prepare x", total=10_000, start=1000, show=False)
    # 2,000 records in 10 s after the first 1,000: 7,000 are left, at 200 a second
    assert progress.line(3000, 12, 10.0) == "prepare x: 3,000 of 10,000 records, 12 skipped, 200/s, 0:00:35 left"
    assert RecordProgress("x", total=0, show=False).line(5, 0, 1.0) == "x: 5 records, 0 skipped, 5/s"


def test_prepare_marker_holds_the_accounts(tmp_path):
    result = run("jsonl", make_pairs(tmp_path / "data"), tmp_path / "out")
    told = json.loads((result.path / "prepared.json").read_text())["result"]
    assert told["read"] == told["written"] + sum(told["skipped"].values()) == 80
    assert told["skipped"] == {
        "image does not decode": 8, "duplicate": 8, "duplicate key": 8, "empty response": 8
    }  # fmt: skip


def test_prepare_same_pair_twice_within_a_sample_is_left_out(tmp_path):
    record = {"key": "k", "prompt": "Q", "responses": ["yes", "no", "no"]}
    pairs = [{"chosen": 0, "rejected": 1}, {"chosen": 0, "rejected": 2}]
    input = write_jsonl(tmp_path / "pairs.jsonl", [{**record, "pairs": pairs}])
    result = prepare("jsonl", input, tmp_path / "out", show_progress=False)
    assert (result.pairs, result.duplicate_pairs) == (1, 1)


@pytest.mark.parametrize("setting", [{"decontaminate": ""}, {"decontaminate": " , "}, {"input": ""}])
def test_prepare_empty_setting_is_refused(tmp_path, setting):
    with pytest.raises(ConfigError, match=f"{next(iter(setting))}: is empty"):
        prepare(**{"source": "jsonl", "input": str(tmp_path), "output": tmp_path / "out", **setting})
