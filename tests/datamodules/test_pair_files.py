"""A pool in one file of LLaMA-Factory's form: records keep their names, places and columns."""

import json

import fsspec
import numpy as np
import pytest

from datamodules.pair_files import PairFile, swapped, write_records
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample
from tests.datamodules.sources.helpers import png, write_json, write_jsonl


def record(number, **more):
    turns = [{"from": "human", "value": f"question {number}"}]
    return {"conversations": turns, "chosen": {"from": "gpt", "value": "a"}, "rejected": "b", **more}


def test_pair_file_names_records_by_id_or_number_each_once(tmp_path):
    records = [record(0), record(1, id="x"), record(2, id="x"), record(3, id=7)]
    pairs = PairFile(write_json(tmp_path / "open.json", records))
    assert pairs.keys.tolist() == ["open-0000000", "open-x", "open-0000002-x", "open-7"]
    assert (pairs.doubles, pairs.n_pairs, pairs.problems) == (1, 4, {})
    ledger = pairs.opening_ledger()
    assert ledger.accounts() == {"pairs": 4, "trained": 0, "dropped": 0, "queued": 0, "held": 4, "unreadable": 0}
    assert set(ledger.source) == {"open"} and np.isnan(ledger.strength).all()


def test_pair_file_records_that_are_no_pairs_keep_their_place(tmp_path):
    bad = [record(1, chosen=3), {"chosen": "a", "rejected": "b"}, {"conversations": [], "chosen": "a"}]
    path = write_jsonl(tmp_path / "open.jsonl", [record(0), *bad, "not JSON", record(5)])
    pairs = PairFile(path)
    assert len(pairs) == 6
    assert {key[-1]: why.split(": ", 1)[1][:28] for key, why in pairs.problems.items()} == {
        "1": "`chosen` is int, it must be ",
        "2": "neither conversations, messa",
        "3": "`rejected` is missing, it mu",
        "4": "not a line of JSON: Expectin",
    }
    everything = pairs.records(np.ones(6, bool))
    assert [number for number, _, _ in everything] == [0, 1, 2, 3, 5]  # what is no JSON is no record


def test_pair_file_unknown_columns_are_counted_and_not_read(tmp_path):
    pairs = PairFile(write_json(tmp_path / "a.json", [record(0, score=1), record(1, score=2, extra=[])]))
    assert dict(pairs.unknown_columns) == {"score": 2, "extra": 1}
    [(_, first), _] = pairs.samples(np.ones(2, bool))
    assert isinstance(first, PreferenceSample) and first.responses == ("a", "b")


def test_pair_file_samples_have_images_or_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    turns = [{"from": "human", "value": "<image>what?"}]
    records = [record(0, conversations=turns, images=[name]) for name in ("a.png", "gone.png")]
    pairs = PairFile(write_json(tmp_path / "open.json", records))
    (_, sample), (_, error) = pairs.samples(np.ones(2, bool))
    assert sample.images == (png(),)
    assert isinstance(error, RecordError) and error.reason == "image missing"


def test_pair_file_that_changed_meanwhile_is_an_error(tmp_path):
    pairs = PairFile(write_json(tmp_path / "open.json", [record(0), record(1)]))
    write_json(tmp_path / "open.json", [record(0)])
    with pytest.raises(ConfigError, match="had 2 records, and has others now"):
        list(pairs.records(np.ones(2, bool)))


def shown(*images, **more):
    return record(0, conversations=[{"from": "human", "value": "<image>" * len(images)}], images=list(images), **more)


def test_pair_file_distinct_goes_by_where_an_image_path_leads(tmp_path):
    paths = ["a.png", "./a.png", f".//{tmp_path.name}/../a.png", "b.png", str(tmp_path / "a.png"), "s/../a.png"]
    pairs = PairFile(write_json(tmp_path / "open.json", [shown(path) for path in paths]))
    plan = pairs.distinct(np.ones(6, bool))  # there is none of these files, and none is looked for
    assert plan.rows.tolist() == [0, 2, 3, 5]  # what `..` leads to, links decide
    assert plan.copy_to.tolist() == [2, 3, 8, 9] and plan.copy_from.tolist() == [0, 1, 0, 1]
    two = [shown("a.png", "b.png"), shown("b.png", "a.png"), shown("a.png", "b.png"), shown("a.png")]
    plan = PairFile(write_json(tmp_path / "two.json", two)).distinct(np.ones(4, bool))
    assert plan.rows.tolist() == [0, 1, 3] and plan.copy_to.tolist() == [4, 5]


def test_pair_file_distinct_goes_by_what_is_said_not_by_how_it_is_written(tmp_path):
    plain = record(0)
    other_tags = {**plain, "conversations": [{"role": "user", "content": "question 0"}], "extra": 1}
    alpaca = {"instruction": "question 0", "chosen": "a", "rejected": "b"}
    system, empty = {**plain, "system": "Be brief."}, {**plain, "system": ""}
    turn = {**plain, "conversations": [{"from": "system", "value": "Be brief."}, *plain["conversations"]]}
    pairs = PairFile(write_json(tmp_path / "open.json", [plain, other_tags, alpaca, system, empty, turn]))
    plan = pairs.distinct(np.ones(6, bool))
    assert plan.rows.tolist() == [0, 3]
    assert plan.copy_from.tolist() == [0, 1, 0, 1, 0, 1, 6, 7]


def test_pair_file_distinct_takes_what_is_no_sample_by_itself(tmp_path):
    bad = [record(0, videos=["v"]), record(0, rejected="a"), shown("s3://a/b.png"), shown(3), record(0, images="a.png")]
    pairs = PairFile(write_json(tmp_path / "open.json", [record(0), *bad, record(0)]))
    plan = pairs.distinct(np.ones(7, bool))
    assert plan.rows.tolist() == [0, 1, 2, 3, 4, 5] and not plan.responses
    assert plan.copy_to.tolist() == [12, 13]


def test_pair_file_distinct_in_a_remote_folder_refuses_paths_that_lead_out(tmp_path):
    fs = fsspec.filesystem("memory")
    fs.pipe("/distinct/open.json", json.dumps([shown("a.png"), shown("/a.png"), shown("./a.png")]).encode())
    plan = PairFile("memory://distinct/open.json").distinct(np.ones(3, bool))
    assert plan.rows.tolist() == [0, 1] and plan.copy_to.tolist() == [4, 5] and plan.copy_from.tolist() == [0, 1]


def test_pair_file_empty_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no record"):
        PairFile(write_json(tmp_path / "open.json", []))


def test_swapped_changes_two_values_and_twice_nothing():
    one = record(0, extra={"n": 1.5})
    turned = swapped(one)
    assert list(turned) == list(one)
    assert (turned["chosen"], turned["rejected"]) == ("b", {"from": "gpt", "value": "a"})
    assert swapped(turned) == one


def test_write_records_keeps_texts_that_utf8_cannot(tmp_path):
    records = [record(0, system="é 中"), record(1, system="\ud83d")]
    assert write_records(tmp_path / "out.json", records) == 2
    assert json.loads((tmp_path / "out.json").read_text()) == records
    assert "é 中".encode() in (tmp_path / "out.json").read_bytes()
    assert write_records(tmp_path / "none.json", []) == 0 and json.loads((tmp_path / "none.json").read_text()) == []
