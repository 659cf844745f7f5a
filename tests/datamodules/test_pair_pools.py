"""A pool in either form says the same of itself; what it feeds a scoring model is every wanted sample once."""

import dataclasses

import numpy as np
import pytest

from datamodules.ledger import Decision
from datamodules.pair_files import PairFile
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS, ShardPool, form_of, open_pool
from mrm.errors import ConfigError, RecordError, ShardError
from mrm.preference import Message, Pair, PreferenceSample
from tests.datamodules.making import ToyEncoder, make_dataset, make_image, make_sample
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


def test_shard_pool_texts_are_its_samples_with_no_bytes_for_images(tmp_path, monkeypatch):
    some = [make_sample(f"k{number}", images=[make_image()] * number) for number in range(4)]
    make_dataset(tmp_path / "pool", some)
    pool, wanted = open_pool(tmp_path / "pool"), np.array([True, False, True, True])
    samples = dict(pool.samples(wanted))
    monkeypatch.setattr("datamodules.pair_pools.read_sample", None)
    texts = dict(pool.texts(wanted))
    assert list(texts) == list(samples) == [0, 2, 3]
    for number, sample in samples.items():
        assert texts[number] == dataclasses.replace(sample, images=(b"",) * len(sample.images))
    assert [len(texts[number].images) for number in texts] == [0, 2, 3]


def test_shard_pool_texts_of_a_damaged_shard_are_errors(tmp_path):
    make_dataset(tmp_path / "pool", 2)
    pool = open_pool(tmp_path / "pool")
    shard = pool.index.shard_files[0]
    shard.write_bytes(shard.read_bytes().replace(b'"responses"', b'"responsez"'))
    assert all(isinstance(item, ShardError) for _, item in pool.texts(np.ones(2, bool)))


def test_pair_file_texts_need_no_image_and_count_them(tmp_path):
    """No image, one that is not there, one that is no path, one alone in its column, and more marks than images."""
    turns = [{"from": "human", "value": "<image>what?"}]
    columns = [["gone.png"], [7], "gone.png", []]
    records = [record(0), *({**record(1), "conversations": turns, "images": column} for column in columns)]
    pool = open_pool(write_json(tmp_path / "k.json", records))
    *texts, (last, error) = pool.texts(np.ones(5, bool))
    assert [(number, sample.images) for number, sample in texts] == [(0, ()), (1, (b"",)), (2, (b"",)), (3, (b"",))]
    assert last == 4 and isinstance(error, RecordError) and error.reason == "image count"


def test_shard_pool_has_a_ledger_row_a_pair(tmp_path):
    make_dataset(tmp_path / "pool", [make_sample("a", responses=3, pairs=(Pair(0, 1, 0.25), Pair(2, 1)))])
    pool = open_pool(tmp_path / "pool")
    ledger = pool.opening_ledger()
    assert (len(pool), pool.n_pairs, len(ledger), ledger.index_fingerprint) == (1, 2, 2, pool.fingerprint)
    assert ledger.decision.tolist() == [Decision.HELD] * 2 and ledger.strength[0] == 0.25
