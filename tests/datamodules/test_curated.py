"""A curated pool, written: what a ledger has in use and nothing else; worked out by hand on three samples."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.curated import curated_sample, write_pool
from datamodules.index import Index
from datamodules.ledger import Decision
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS, open_pool
from datamodules.reading import read_sample
from mrm.preference import Pair
from tests.datamodules.making import make_dataset, make_sample
from tests.datamodules.sources.helpers import write_json


@pytest.fixture
def pool(tmp_path):
    edges = (Pair(0, 1, 0.5), Pair(0, 2, 1.0), Pair(1, 2))
    truth = {"flipped": [0, 1, 0]}
    samples = [make_sample("a", responses=3, pairs=edges, meta={"truth": truth}), make_sample("b"), make_sample("c")]
    make_dataset(tmp_path / "pool", samples)
    return open_pool(tmp_path / "pool")


def decided(pool, decisions, weights=(1, 1, 1, 1, 1)):
    flipped = np.array([decision == Decision.FLIP for decision in decisions])
    active = flipped | [decision == Decision.KEEP for decision in decisions]
    return replace(
        pool.opening_ledger(),
        decision=np.array(decisions, object),
        flipped=flipped,
        active=active,
        weight=np.array(weights, np.float32),
    )


def test_curated_sample_turns_pairs_and_mends_what_is_known_of_them(pool):
    ledger = decided(pool, ["flip", "keep", "flip", "keep", "drop"])
    sample = read_sample(pool.index, 0)
    some = curated_sample(sample, ledger, np.array([0, 1, 2]), np.array([0, 1, 2]))
    assert some.pairs == (Pair(1, 0), Pair(0, 2, 1.0), Pair(2, 1))
    assert some.meta["truth"]["flipped"] == [True, True, True]  # two right labels turned, a wrong one kept
    assert (some.responses, some.prompt, some.images) == (sample.responses, sample.prompt, sample.images)


def test_curated_sample_told_of_a_pair_stays_with_it_when_others_go(pool):
    ledger = decided(pool, ["drop", "drop", "flip", "keep", "drop"], (1, 1, 0.5, 1, 1))
    once = curated_sample(read_sample(pool.index, 0), ledger, np.array([2]), np.array([2]))
    (told,) = once.meta["curation"]
    assert (told["pair"], told["decision"], told["flipped"], told["weight"]) == (2, "flip", True, 0.5)
    assert told["chosen_score"] is None and "before" not in told
    again = curated_sample(once, ledger, np.array([2]), np.array([0]))
    assert again.meta["curation"][0]["before"] == told and again.pairs == (Pair(1, 2),)


def test_write_pool_accounts_for_every_sample_and_pair(pool, tmp_path):
    ledger = decided(pool, ["flip", "keep", "drop", "queue", "keep"], (1, 0.5, 1, 1, 1))
    shards = write_pool(pool, ledger, SHARDS, tmp_path / "shards")
    assert (shards.samples, shards.pairs, shards.flipped, shards.without_pairs) == (2, 3, 1, 1)
    assert (shards.strengths_lost, shards.weights_lost, shards.unreadable) == (1, 0, {})
    assert Index.load(tmp_path / "shards").keys.tolist() == ["a", "c"]
    pairs = write_pool(pool, ledger, LLAMA_FACTORY, tmp_path / "pairs.json")
    assert (pairs.samples, pairs.pairs, pairs.strengths_lost, pairs.weights_lost) == (2, 3, 3, 1)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["a.0.png", "c.0.png"]


def test_write_pool_of_chosen_rows_leaves_out_the_others(pool, tmp_path):
    ledger = decided(pool, ["flip", "keep", "keep", "keep", "keep"])
    written = write_pool(
        pool, ledger, SHARDS, tmp_path / "some", chosen_rows=np.array([False, True, False, False, True])
    )
    assert (written.samples, written.pairs, written.flipped, written.without_pairs) == (2, 2, 0, 1)


def test_write_pool_pairs_of_no_weight_are_not_in_use(pool, tmp_path):
    ledger = decided(pool, ["keep"] * 5, (0, 1, 1, 0, 1))
    assert write_pool(pool, ledger, SHARDS, tmp_path / "some").pairs == 3


@pytest.mark.parametrize(("form", "lost"), [(SHARDS, (1, 0)), (LLAMA_FACTORY, (2, 1))])
def test_write_pool_counts_only_what_it_wrote(pool, tmp_path, form, lost):
    """Of a's pairs two have a strength and one is turned, of c's one of strength 0.5 and weight 0.5; b is damaged."""
    tar = next((tmp_path / "pool").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[int(pool.index.json_offset[1]) + 5] ^= 1
    tar.write_bytes(data)
    ledger = decided(pool, ["flip", "drop", "keep", "flip", "keep"], (1, 1, 1, 0.5, 0.5))
    written = write_pool(pool, ledger, form, tmp_path / "out")
    assert list(written.unreadable) == ["b"]
    assert (written.samples, written.pairs, written.flipped, written.without_pairs) == (2, 3, 1, 0)
    assert (written.strengths_lost, written.weights_lost) == lost


def test_write_pool_of_a_file_counts_its_records(tmp_path):
    records = [{"instruction": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(4)]
    pool = open_pool(write_json(tmp_path / "open.json", records))
    ledger = decided(pool, ["flip", "drop", "keep", "keep"], (1, 1, 0.5, 1))
    written = write_pool(pool, ledger, LLAMA_FACTORY, tmp_path / "pairs.json")
    assert (written.samples, written.pairs, written.flipped, written.without_pairs) == (3, 3, 1, 1)
    assert (written.strengths_lost, written.weights_lost) == (0, 1)
