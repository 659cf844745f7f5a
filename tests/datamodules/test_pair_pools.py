"""A pool in either form says the same of itself; what it feeds a scoring model is every wanted sample once."""

import numpy as np
import pytest

from datamodules.ledger import Decision
from datamodules.pair_files import PairFile
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS, ShardPool, form_of, open_pool
from mrm.errors import ConfigError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import ToyEncoder, make_dataset, make_sample
from tests.datamodules.sources.helpers import write_json


def record(number):
    turns = [{"from": "human", "value": f"question {number}"}]
    return {"conversations": turns, "chosen": "a", "rejected": "b"}


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


@pytest.mark.parametrize("form", [SHARDS, LLAMA_FACTORY])
def test_feed_brings_every_wanted_sample_once_in_packed_batches(tmp_path, form):
    if form == SHARDS:
        make_dataset(tmp_path / "pool", 7)
    else:
        write_json(tmp_path / "pool" / "k.json", [record(number) for number in range(7)])
    pool = open_pool(tmp_path / "pool")
    rows = np.array([0, 1, 3, 4, 5, 6])
    dataset = pool.dataset(ToyEncoder(), None, "shared")
    fed = [(numbers.tolist(), dataset[work]) for numbers, work in pool.feed(rows, {3: (1,)}, 4, 1 << 20)]
    assert [len(numbers) for numbers, _ in fed] == [4, 2]
    assert sorted(number for numbers, _ in fed for number in numbers) == [0, 1, 3, 4, 5, 6]
    for numbers, batch in fed:
        assert batch.keys == [pool.keys[number] for number in numbers]
        assert batch.response_counts == [1 if number == 3 else 2 for number in numbers]


@pytest.mark.parametrize("form", [SHARDS, LLAMA_FACTORY])
def test_distinct_of_either_form_numbers_responses_through_the_pool(tmp_path, form):
    said = [("q", "a", "b"), ("q", "b", "c"), ("r", "a", "b"), ("q", "c", "a")]
    if form == SHARDS:
        turns = [(Message("user", question),) for question, _, _ in said]
        samples = [
            PreferenceSample(f"k{n}", "made", turn, (), one[1:], (Pair(0, 1),))
            for n, (turn, one) in enumerate(zip(turns, said, strict=True))
        ]
        make_dataset(tmp_path / "pool", samples)
    else:
        records = [
            {"conversations": [{"from": "human", "value": question}], "chosen": chosen, "rejected": rejected}
            for question, chosen, rejected in said
        ]
        write_json(tmp_path / "pool" / "k.json", records)
    plan = open_pool(tmp_path / "pool").distinct(np.ones(4, bool))
    assert plan.rows.tolist() == [0, 1, 2] and plan.responses == {1: (1,)}
    assert plan.copy_to.tolist() == [2, 6, 7] and plan.copy_from.tolist() == [1, 3, 0]
    some = open_pool(tmp_path / "pool").distinct(np.array([False, True, True, True]))
    assert some.rows.tolist() == [1, 2, 3] and some.responses == {3: (1,)}


def test_shard_pool_has_a_ledger_row_a_pair(tmp_path):
    make_dataset(tmp_path / "pool", [make_sample("a", responses=3, pairs=(Pair(0, 1, 0.25), Pair(2, 1)))])
    pool = open_pool(tmp_path / "pool")
    ledger = pool.opening_ledger()
    assert (len(pool), pool.n_pairs, len(ledger), ledger.index_fingerprint) == (1, 2, 2, pool.fingerprint)
    assert ledger.decision.tolist() == [Decision.HELD] * 2 and ledger.strength[0] == 0.25
