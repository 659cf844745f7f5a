"""Parts of an output: disjoint, together the whole, and joined into one data set."""

import json

import pytest

from datamodules.index import Index
from datamodules.index_build import build_index
from datamodules.merge import main, merge
from datamodules.prepare import prepare
from datamodules.shards import read_sample, verify_shards
from mrm.errors import ConfigError, ShardError
from tests.datamodules.prepare_runs import SOURCES, contents, listed, make_pairs, make_t2i, run, status_of
from tests.datamodules.sources.helpers import write_jsonl


def samples(path):
    index = Index.load(path)
    return {index.keys[row]: read_sample(index, row) for row in range(len(index))}


def run_parts(source, data, output, parts, **options):
    return [run(source, data, output, part=f"{n}/{parts}", **options) for n in range(1, parts + 1)]


@pytest.mark.parametrize("source", SOURCES)
def test_parts_are_disjoint_and_together_the_whole(tmp_path, source):
    data = SOURCES[source](tmp_path / "data")
    whole = run(source, data, tmp_path / "whole")
    parts = run_parts(source, data, tmp_path / "out", 3)
    assert [part.path.name for part in parts] == [f"out.part-{n}-of-3" for n in (1, 2, 3)]
    prompts = [{sample.prompt for sample in samples(part.path).values()} for part in parts]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) and all(prompts)
    assert set.union(*prompts) >= {sample.prompt for sample in samples(whole.path).values()}
    assert sum(part.read for part in parts) == whole.read


@pytest.mark.parametrize("source", SOURCES)
def test_merge_holds_what_one_run_writes(tmp_path, source):
    data = SOURCES[source](tmp_path / "data")
    whole = run(source, data, tmp_path / "whole")
    run_parts(source, data, tmp_path / "out", 3)
    result = merge(tmp_path / "out")
    assert result.read == whole.read == result.written + result.skipped.total()
    # The order among parts decides which of two records with one key is first, and so which counts as what.
    assert abs(result.written - whole.written) <= whole.skipped["duplicate key"]
    assert len(listed(result.path)) == result.skipped.total()
    made, expected = samples(result.path), samples(whole.path)
    assert set(made) == set(expected)
    verify_shards(result.path, digests=True)
    fingerprint = Index.load(result.path).fingerprint
    assert build_index(result.path).fingerprint == fingerprint  # what the tars hold is what the joined index says


def test_merge_sides_stay_balanced_to_within_parts(tmp_path):
    data = make_t2i(tmp_path / "data")
    parts = run_parts("mj_bench", data, tmp_path / "out", 5)
    for part in parts:
        chosen = Index.load(part.path).pair_chosen
        assert abs((chosen == 0).sum() - (chosen == 1).sum()) == part.written % 2
    chosen = Index.load(merge(tmp_path / "out").path).pair_chosen
    assert abs((chosen == 0).sum() - (chosen == 1).sum()) <= 5


def test_merge_is_used_again_by_prepare(tmp_path):
    data = make_pairs(tmp_path / "data", 3)
    run_parts("jsonl", data, tmp_path / "out", 2)
    merge(tmp_path / "out")
    again = run("jsonl", data, tmp_path / "out")
    assert again.reused and again.written == 3


def test_merge_key_in_two_parts_is_kept_once_and_counted(tmp_path):
    records = [
        {"key": f"k{n % 20}", "prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(40)
    ]
    data = write_jsonl(tmp_path / "data" / "pairs.jsonl", records)
    run_parts("jsonl", data, tmp_path / "out", 4, shard_mb=8 / 1024)
    result = merge(tmp_path / "out")
    assert (result.read, result.written, result.pairs, dict(result.skipped)) == (40, 20, 20, {"duplicate key": 20})
    assert len(samples(result.path)) == 20
    assert {line["reason"] for line in listed(result.path)} == {"duplicate key"} and len(listed(result.path)) == 20
    assert build_index(result.path).fingerprint == Index.load(result.path).fingerprint


def test_merge_missing_parts_are_named(tmp_path):
    data = make_pairs(tmp_path / "data")
    for number in (1, 3):
        run("jsonl", data, tmp_path / "out", part=f"{number}/4")
    with pytest.raises(ConfigError, match="2 of 4 parts are missing .*: out.part-2-of-4, out.part-4-of-4;"):
        merge(tmp_path / "out")
    with pytest.raises(ConfigError, match="no parts: prepare them"):
        merge(tmp_path / "other")


def test_merge_parts_of_two_numbers_must_be_told(tmp_path):
    data = make_pairs(tmp_path / "data")
    run_parts("jsonl", data, tmp_path / "out", 1)
    run_parts("jsonl", data, tmp_path / "out", 2)
    with pytest.raises(ConfigError, match="parts of 1, 2: give parts="):
        merge(tmp_path / "out")
    assert merge(tmp_path / "out", parts=2).read == 80


def test_merge_part_prepared_otherwise_is_named(tmp_path):
    data = make_pairs(tmp_path / "data")
    run("jsonl", data, tmp_path / "out", part="1/2")
    run("jsonl", data, tmp_path / "out", part="2/2", seed=7)
    with pytest.raises(ConfigError, match="out.part-2-of-2 was prepared otherwise .*seed was 0, now 7"):
        merge(tmp_path / "out")


def test_merge_damaged_part_is_named_and_nothing_is_written(tmp_path):
    data = make_pairs(tmp_path / "data")
    parts = run_parts("jsonl", data, tmp_path / "out", 2)
    shard = parts[1].path / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(ShardError, match="out.part-2-of-2/shard-000000.tar"):
        merge(tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.preparing").exists()


def test_merge_part_that_no_record_came_to_is_no_error(tmp_path):
    data = make_pairs(tmp_path / "data", 2)
    parts = run_parts("jsonl", data, tmp_path / "out", 8)
    assert {part.written for part in parts} >= {0}
    assert run("jsonl", data, tmp_path / "out", part="1/8").reused
    assert merge(tmp_path / "out").written == 2


def test_merge_of_nothing_is_an_error(tmp_path):
    data = write_jsonl(tmp_path / "data" / "p.jsonl", [{"prompt": "Q", "chosen": "", "rejected": "b"}])
    run_parts("jsonl", data, tmp_path / "out", 2)
    with pytest.raises(ConfigError, match="none of the 1 records of 2 parts"):
        merge(tmp_path / "out")


def test_merge_output_in_the_way_is_kept_until_overwrite(tmp_path):
    data = make_pairs(tmp_path / "data")
    run_parts("jsonl", data, tmp_path / "out", 2)
    before = contents(merge(tmp_path / "out").path)
    with pytest.raises(ConfigError, match="exists.*overwrite=true"):
        merge(tmp_path / "out")
    assert contents(merge(tmp_path / "out", overwrite=True).path) == before
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="thesis.tex"):
        merge(tmp_path / "out", overwrite=True)


def test_merge_through_a_link_finds_the_parts_that_were_prepared_through_it(tmp_path):
    data = make_pairs(tmp_path / "data")
    (tmp_path / "big").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "big" / "far")
    run_parts("jsonl", data, tmp_path / "out", 2)
    assert merge(tmp_path / "out").written == len(samples(tmp_path / "big" / "far"))
    assert (tmp_path / "out").is_symlink()


def test_main_merges_and_removes_the_parts_when_told(tmp_path, capsys):
    data = make_pairs(tmp_path / "data")
    run_parts("jsonl", data, tmp_path / "out", 2)
    assert status_of(main, [f"output={tmp_path / 'out'}", "remove_parts=true"]) == 0
    assert "80" in capsys.readouterr().out
    assert not list(tmp_path.glob("out.part-*"))
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["merged_parts"] == 2


@pytest.mark.parametrize("word", ["ouput=x", "output", "output=", "parts=many", "remove_parts=perhaps"])
def test_main_bad_argument_is_a_clear_error(word, capsys):
    assert status_of(main, [word]) == 2
    assert "Error: " in capsys.readouterr().err


def test_merge_no_parts_at_all_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="parts: 0 is not a number of parts"):
        merge(tmp_path / "out", parts=0)


@pytest.mark.parametrize("part", ["0/4", "5/4", "3", "a/b", "1/0"])
def test_prepare_part_of_another_form_is_refused(tmp_path, part):
    with pytest.raises(ConfigError, match="part: .* is not of the form 3/16"):
        prepare("shapeworld", None, tmp_path / "out", part=part)
