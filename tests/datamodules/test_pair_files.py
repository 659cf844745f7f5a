"""A pool in one file of LLaMA-Factory's form: records keep their names, places and columns."""

import json

import numpy as np
import pytest

from datamodules.pair_files import PairFile, swapped, write_records
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS, ShardPool, form_of, open_pool
from mrm.errors import ConfigError, RecordError
from mrm.preference import PreferenceSample
from tests.datamodules.making import make_dataset
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


def test_open_pool_tells_the_form_by_content(tmp_path):
    make_dataset(tmp_path / "shards", 2)
    write_json(tmp_path / "folder" / "open.json", [record(0)])
    assert isinstance(open_pool(tmp_path / "shards"), ShardPool)
    assert isinstance(open_pool(tmp_path / "folder"), PairFile)
    assert form_of("s3://bucket/open.jsonl") == LLAMA_FACTORY and form_of("s3://bucket/open") == SHARDS
    with pytest.raises(ConfigError, match="neither shards"):
        (tmp_path / "empty").mkdir()
        form_of(tmp_path / "empty")
    with pytest.raises(ConfigError, match="no such file"):
        form_of(tmp_path / "none")
    with pytest.raises(ConfigError, match="media_dir.*no effect with shards"):
        open_pool(tmp_path / "shards", media_dir="x")
