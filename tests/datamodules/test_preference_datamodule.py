from __future__ import annotations

import dataclasses
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.ledger import Decision, Ledger, ledger_rounds
from datamodules.preference_datamodule import DatasetSpec, PreferenceDataModule
from datamodules.work import Work
from mrm.errors import ConfigError, LedgerError, UnreadableSamplesError
from mrm.preference import Pair
from tests.datamodules.making import ToyEncoder, make_dataset, make_image, make_sample

OPTIONS = {"batch_size": 4, "score_batch_size": 4, "row_tokens": None, "num_workers": 0, "seed": 0}


def make_data(root: Path, specs: list[DatasetSpec] | None = None, **options: Any) -> PreferenceDataModule:
    """8 trusted, 12 open and 3 test samples, unless told otherwise."""
    if specs is None:
        for name, size in (("trusted", 8), ("open", 12), ("test", 3)):
            make_dataset(root / name, size, prefix=name)
        specs = [DatasetSpec(name, root / name, name) for name in ("trusted", "open", "test")]
    return PreferenceDataModule(specs, ToyEncoder(), **{**OPTIONS, "ledger_dir": root / "ledger", **options})


def bad_sample(key: str) -> Any:
    return make_sample(key, images=[make_image()[:60]])


class Cutting(ToyEncoder):
    """Says of sample k1 that it was cut by seven tokens."""

    def encode(self, sample: Any) -> Any:
        return dataclasses.replace(super().encode(sample), cut_tokens=7 if sample.key == "k1" else 0)


def edges_of(batch: Any) -> list[tuple[str, int, int, float, float]]:
    """(key, chosen, rejected, strength, weight) of each edge, with response numbers within their sample."""
    first = np.cumsum([0, *batch.response_counts])
    columns = (batch.edge_chosen, batch.edge_rejected, batch.edge_strength, batch.edge_weight)
    found = []
    for chosen, rejected, strength, weight in zip(*(column.tolist() for column in columns), strict=True):
        sample = int(np.searchsorted(first, chosen, side="right")) - 1
        found.append((batch.keys[sample], chosen - int(first[sample]), rejected - int(first[sample]), strength, weight))
    return found


def test_setup_first_time_writes_round_zero_and_tells_trusted_from_open(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data.setup("fit")
    assert ledger_rounds(tmp_path / "ledger") == [0]
    assert data.trusted.tolist() == [True] * 8 + [False] * 12
    assert data.test_names == ("test",) and len(data.held_out_indexes["test"]) == 3
    assert data.ledger().accounts()["trained"] == 8 and data.ledger().accounts()["held"] == 12
    assert len(data.lengths) == 20


def test_setup_without_ledger_dir_keeps_round_zero_in_memory(tmp_path: Path) -> None:
    data = make_data(tmp_path, ledger_dir=None, admit_open=True)
    data.setup("fit")
    assert sorted(key for batch in data.epoch_loader(0) for key in batch.keys) == sorted(data.index.keys)


def test_setup_ledger_of_another_index_is_refused(tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", 5)
    Ledger.initial(other, np.ones(5, bool), False).write(tmp_path / "ledger")
    with pytest.raises(LedgerError, match="another index"):
        make_data(tmp_path).setup("fit")


def test_setup_for_test_only_touches_no_ledger(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data.setup("test")
    assert not (tmp_path / "ledger").exists() and len(data.test_dataloader()) == 1


def test_datamodule_bad_configuration_names_every_problem(tmp_path: Path) -> None:
    specs = [DatasetSpec("a", tmp_path, "trustd"), DatasetSpec("a", tmp_path, "open", weight=-1)]
    with pytest.raises(ConfigError) as caught:
        make_data(tmp_path, specs, batch_size=0, max_unreadable=2)
    for part in ("'a' is named 2 times", "'trustd'", "weight -1", "batch_size is 0", "max_unreadable is 2"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"batch_tokens": 0, "length_window": 1}, "batch_tokens is 0: it must be at least 1"),
        ({"batch_tokens": 9}, "needs length_window >= 1"),
        ({"order": "hard_first"}, "order is 'hard_first', it must be one of shuffled, easy_first"),
    ],
)
def test_datamodule_bad_plan_settings_are_named(tmp_path: Path, options: dict, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        make_data(tmp_path, **options)


def test_datamodule_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "open", 3)
    data = make_data(tmp_path, [DatasetSpec("open", tmp_path / "open", "open")])
    with pytest.raises(ConfigError, match="no pair to train on.*'held': 3.*name a trusted data set"):
        data.epoch_loader(0)
    with pytest.raises(ConfigError, match="no training data"):
        make_data(tmp_path, [DatasetSpec("t", tmp_path / "open", "test")]).setup("fit")


def test_epoch_loader_gives_labels_of_the_ledger(tmp_path: Path) -> None:
    """A flip swaps the pair and hides its strength; a dropped pair goes, its sample's other pair stays."""
    pairs = [Pair(2, 0, 0.75), Pair(0, 1, None)]
    make_dataset(tmp_path / "open", [make_sample("a"), make_sample("b", responses=3, pairs=pairs), make_sample("c")])
    data = make_data(tmp_path, [DatasetSpec("open", tmp_path / "open", "open")], admit_open=True)
    data.setup("fit")
    (batch,) = data.epoch_loader(0)
    found = sorted(edges_of(batch))
    expected = [("a", 0, 1, 0.5, 1), ("b", 0, 1, np.nan, 1), ("b", 2, 0, 0.75, 1), ("c", 0, 1, 0.5, 1)]
    assert str(found) == str([(k, c, r, float(s), float(w)) for k, c, r, s, w in expected])
    assert float(batch.normalizer) == 4
    ledger = dataclasses.replace(
        data.ledger(),
        decision=np.array([Decision.FLIP, Decision.KEEP, Decision.DROP, Decision.DROP], object),
        flipped=np.array([True, False, False, False]),
        active=np.array([True, True, False, False]),
        weight=np.array([1, 0.5, 1, 1], np.float32),
        round=1,
    )
    ledger.write(tmp_path / "ledger")
    (batch,) = data.epoch_loader(1)
    assert str(sorted(edges_of(batch))) == str([("a", 1, 0, np.nan, 1.0), ("b", 2, 0, 0.75, 0.5)]).replace("np.", "")
    assert float(batch.normalizer) == 1.5
    data.use_strength = False
    (batch,) = data.epoch_loader(1)
    assert batch.edge_strength.isnan().all()


def test_epoch_loader_persistent_workers_see_the_new_ledger(tmp_path: Path) -> None:
    data = make_data(tmp_path, num_workers=2, admit_open=True)
    data.setup("fit")

    def worker_ids() -> list[int]:
        return [worker.pid for worker in data._train_workers._loader._iterator._workers]

    assert {edge[1:3] for batch in data.epoch_loader(0) for edge in edges_of(batch)} == {(0, 1)}
    before = worker_ids()
    loader = data.epoch_loader(0)
    next(iter(loader))  # left in the middle, with batches on their way
    ledger = data.ledger()
    ones = np.ones(len(ledger), bool)
    decision = np.full(len(ledger), Decision.FLIP, object)
    dropped = {"decision": np.where(np.arange(20) < 4, Decision.DROP, decision), "active": np.arange(20) >= 4}
    dataclasses.replace(ledger, flipped=ones, round=1, **dropped).write(tmp_path / "ledger")
    edges = [edge for batch in data.epoch_loader(1) for edge in edges_of(batch)]
    assert sorted(edge[0] for edge in edges) == sorted(data.index.keys[4:]) and {edge[1:3] for edge in edges} == {
        (1, 0)
    }
    assert worker_ids() == before
    data.teardown("fit")
    assert "_train_workers" not in data.__dict__


def test_epoch_loader_batch_8_equals_batch_4_accumulated_twice(tmp_path: Path) -> None:
    data = make_data(tmp_path, admit_open=True, batch_size=8)
    half = make_data(tmp_path, list(data.datasets), admit_open=True)
    whole = list(data.epoch_loader(3))
    parts = list(half.epoch_loader(3, accumulate=2))
    assert len(parts) == 2 * len(whole) == 6  # 20 samples: 8, 8, 4
    for step, batch in enumerate(whole):
        pair = parts[2 * step : 2 * step + 2]
        assert sorted(batch.keys) == sorted(pair[0].keys + pair[1].keys)
        assert [float(part.normalizer) * 2 for part in pair] == [float(batch.normalizer)] * 2
        assert float(batch.normalizer) == len(batch.keys)


def test_epoch_loader_ranks_share_out_the_epoch(tmp_path: Path) -> None:
    """20 samples, steps of 2 ranks x 2 x 4 = 16: the second step has 4, one for each micro-batch."""
    data = make_data(tmp_path, admit_open=True)
    ranks = [list(data.epoch_loader(0, world_size=2, rank=rank, accumulate=2)) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [4, 4]
    assert sorted(key for batches in ranks for batch in batches for key in batch.keys) == sorted(data.index.keys)
    for batches in ranks:
        assert [float(batch.normalizer) for batch in batches] == [4, 4, 1, 1]
        assert [len(batch.keys) for batch in batches] == [4, 4, 1, 1]


@pytest.mark.parametrize("budget", [{}, {"batch_tokens": 40, "length_window": 2}], ids=["samples", "tokens"])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_epoch_loader_every_active_sample_once_whatever_reads_it(
    tmp_path: Path, world_size: int, accumulate: int, workers: int, budget: dict
) -> None:
    """Five of the 20 samples are not active."""
    data = make_data(tmp_path, admit_open=True, num_workers=workers, **budget)
    data.setup("fit")
    ledger = data.ledger()
    dropped = np.arange(20) % 4 == 1
    decision = np.where(dropped, Decision.DROP, ledger.decision).astype(object)
    dataclasses.replace(ledger, decision=decision, active=~dropped, round=1).write(tmp_path / "ledger")
    ranks = [
        list(data.epoch_loader(0, world_size=world_size, rank=rank, accumulate=accumulate))
        for rank in range(world_size)
    ]
    data.teardown("fit")
    assert len({len(batches) for batches in ranks}) == 1
    seen = [edge[0] for batches in ranks for batch in batches for edge in edges_of(batch) if edge[-1] > 0]
    assert sorted(seen) == sorted(data.index.keys[~dropped])


def test_epoch_loader_source_weights_repeat_and_leave_out(tmp_path: Path) -> None:
    samples = [make_sample(f"k{n}", images=(), source="xyz"[n % 3]) for n in range(9)]
    make_dataset(tmp_path / "trusted", samples)
    spec = DatasetSpec("trusted", tmp_path / "trusted", "trusted", 1.0, {"x": 2.0, "y": 0.0})
    data = make_data(tmp_path, [spec])
    keys = [key for batch in data.epoch_loader(0) for key in batch.keys]
    assert sorted(keys) == sorted([f"k{n}" for n in (0, 3, 6)] * 2 + [f"k{n}" for n in (2, 5, 8)])


def test_setup_source_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    make_dataset(tmp_path / "trusted", 3)
    spec = DatasetSpec("trusted", tmp_path / "trusted", "trusted", 1.0, {"kk": 2.0})
    with pytest.raises(ConfigError, match=r"has no source 'kk'; it has k\. Did you mean 'k'"):
        make_data(tmp_path, [spec]).setup("fit")


def test_epoch_loader_easy_first_gives_strong_preferences_first(tmp_path: Path) -> None:
    samples = [make_sample(f"k{n}", images=(), pairs=[Pair(0, 1, (n * 7 % 12 + 1) / 12)]) for n in range(12)]
    make_dataset(tmp_path / "trusted", samples)
    data = make_data(tmp_path, [DatasetSpec("trusted", tmp_path / "trusted", "trusted")], order="easy_first")
    strengths = [edge[3] for batch in data.epoch_loader(0) for edge in edges_of(batch)]
    assert strengths == sorted(strengths, reverse=True)


def test_epoch_loader_tells_the_share_of_padding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="datamodules.preference_datamodule"):
        make_data(tmp_path, admit_open=True).epoch_loader(3)
    assert "epoch 3: 5 micro-batches a rank, " in caplog.text and "% padding by estimate" in caplog.text


def test_epoch_loader_filler_has_weight_zero(tmp_path: Path) -> None:
    make_dataset(tmp_path / "trusted", 5)
    data = make_data(tmp_path, [DatasetSpec("trusted", tmp_path / "trusted", "trusted")])
    ranks = [list(data.epoch_loader(0, world_size=2, rank=rank, accumulate=1)) for rank in range(2)]
    assert [batch.edge_weight.tolist() for batch in (ranks[0][0], ranks[1][0])] == [[1, 1, 1], [1, 1]]
    data.batch_size = 2
    ranks = [list(data.epoch_loader(0, world_size=2, rank=rank)) for rank in range(2)]
    assert [batch.edge_weight.tolist() for batch in (ranks[0][1], ranks[1][1])] == [[1], [0]]
    assert float(ranks[1][1].normalizer) == 0.5


def test_epoch_loader_mixture_weights_repeat_and_leave_out(tmp_path: Path) -> None:
    data = make_data(tmp_path, admit_open=True)
    trusted, open_, test = data.datasets
    specs = [dataclasses.replace(trusted, weight=2.0), dataclasses.replace(open_, weight=0.0), test]
    again = make_data(tmp_path, specs, admit_open=True)
    keys = [key for batch in again.epoch_loader(0) for key in batch.keys]
    assert sorted(keys) == sorted([*again.index.keys[:8]] * 2)


def test_epoch_loader_start_skips_without_reading(tmp_path: Path) -> None:
    data = make_data(tmp_path, admit_open=True)
    whole, rest = data.epoch_loader(1), data.epoch_loader(1, start=3)
    assert len(whole) == len(rest) == 5
    assert [batch.keys for batch in rest] == [batch.keys for batch in whole][3:]
    rest.load_state_dict(whole.state_dict())
    with pytest.raises(ConfigError, match="resume with the same settings"):
        rest.load_state_dict(data.epoch_loader(2).state_dict())


def test_epoch_loader_unexpected_round_is_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data.setup("fit")
    data.expected_round = lambda epoch: epoch
    data.epoch_loader(0)
    with pytest.raises(LedgerError, match="epoch 1 must be planned with the ledger of round 1, .* is round 0"):
        data.epoch_loader(1)


def test_score_dataloader_all_responses_in_the_order_given(tmp_path: Path) -> None:
    make_dataset(tmp_path / "open", [make_sample(f"k{n}", responses=n + 2) for n in range(6)])
    data = make_data(tmp_path, [DatasetSpec("open", tmp_path / "open", "open")])
    loader = data.score_dataloader([5, 0, 3, 2, 1])
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert [batch.keys for batch in batches] == [["k5", "k0", "k3", "k2"], ["k1"]]
    assert batches[0].response_counts == [7, 2, 5, 4] and len(batches[0].score_row) == 18
    assert len(batches[0].edge_chosen) == 0


def test_test_dataloader_one_loader_a_set_with_published_pairs(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    data.setup("test")
    (loader,) = data.test_dataloader()
    for _ in range(2):  # again and again, unlike an epoch
        assert [edges_of(batch) for batch in loader] == [[(f"test{n}", 0, 1, 0.5, 1.0) for n in range(3)]]


def test_held_out_set_of_either_role_is_scored_and_never_trained_on(tmp_path: Path) -> None:
    for name, size in (("trusted", 4), ("watched", 3), ("test", 2)):
        make_dataset(tmp_path / name, size, prefix=name)
    specs = [
        DatasetSpec("trusted", tmp_path / "trusted", "trusted"),
        DatasetSpec("watched", tmp_path / "watched", "val"),
    ]
    data = make_data(tmp_path, [*specs, DatasetSpec("test", tmp_path / "test", "test")])
    data.setup("fit")
    assert len(data.index) == 4 and data.test_names == ("test",)
    for name, size in (("watched", 3), ("test", 2)):
        held_out = data.held_out(name)
        batches = list(held_out.score_dataloader(range(size)))
        assert [key for batch in batches for key in batch.keys] == [f"{name}{n}" for n in range(size)]
        assert len(held_out.index) == size and all(not len(batch.edge_chosen) for batch in batches)


def test_unreadable_samples_are_counted_once_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = [bad_sample("bad") if n == 7 else make_sample(f"k{n}") for n in range(20)]
    make_dataset(tmp_path / "open", samples)
    data = make_data(tmp_path, [DatasetSpec("open", tmp_path / "open", "open")], admit_open=True, max_unreadable=0.05)
    data.setup("fit")
    with caplog.at_level(logging.WARNING):
        keys = [key for epoch in range(2) for batch in data.epoch_loader(epoch) for key in batch.keys]
    assert len(keys) == 38 and "bad" not in keys
    assert list(data.unreadable.found["open"]) == ["bad"] == list(data.unreadable_reasons())
    assert len(caplog.records) == 1 and "shard-000000.tar" in caplog.text and "'bad'" in caplog.text
    again = make_data(tmp_path, list(data.datasets), admit_open=True)
    again.setup("fit")
    again.load_state_dict(data.state_dict())
    assert again.unreadable.found == data.unreadable.found


def test_unreadable_samples_past_the_limit_stop_the_run(tmp_path: Path) -> None:
    make_dataset(tmp_path / "open", [make_sample("good"), bad_sample("bad1"), bad_sample("bad2")])
    data = make_data(tmp_path, [DatasetSpec("open", tmp_path / "open", "open")], admit_open=True, num_workers=1)
    with pytest.raises(UnreadableSamplesError, match=r"2 of 3 samples .* 1\.00%: bad1 in .*shard-000000\.tar: "):
        list(data.epoch_loader(0))


def test_unreadable_samples_are_a_share_of_their_own_data_set(tmp_path: Path) -> None:
    """Two of three small, two of 23 in all: too many, also where one was found before the run was resumed."""
    make_dataset(tmp_path / "big", 20, prefix="big")
    make_dataset(tmp_path / "small", [make_sample("good"), bad_sample("bad1"), bad_sample("bad2")])
    specs = [DatasetSpec("big", tmp_path / "big", "trusted"), DatasetSpec("small", tmp_path / "small", "trusted")]
    data = make_data(tmp_path, specs, max_unreadable=0.4)
    with pytest.raises(UnreadableSamplesError, match="2 of 3 samples of data set 'small'"):
        list(data.epoch_loader(0))
    one = make_data(tmp_path, specs, max_unreadable=0.4)
    one.setup("fit")
    list(one.score_dataloader([21]))  # bad1
    resumed = make_data(tmp_path, specs, max_unreadable=0.4)
    resumed.load_state_dict(one.state_dict())
    assert list(resumed.unreadable_reasons()) == ["bad1"]
    with pytest.raises(UnreadableSamplesError, match="2 of 3 samples"):
        list(resumed.score_dataloader([22]))


def test_cut_samples_are_logged_once_training_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_dataset(tmp_path / "trusted", 3)
    data = make_data(tmp_path, [DatasetSpec("trusted", tmp_path / "trusted", "trusted")])
    data.encoder = Cutting()
    for epoch in range(2):
        list(data.epoch_loader(epoch))
    assert data.cut == {"k1": 7}
    data.teardown("fit")
    assert "1 of 3 training samples were cut to the limits on text, by 7 tokens in all; first: k1" in caplog.text


def test_lengths_count_images_at_the_encoders_resolution(tmp_path: Path) -> None:
    image = make_image(size=(256, 128))  # 32768 pixels: 32 tokens; at most 8192: 8
    make_dataset(tmp_path / "trusted", [make_sample("k0", images=[image])])
    data = make_data(tmp_path, [DatasetSpec("trusted", tmp_path / "trusted", "trusted")])
    text = int(data.index.text_chars[0]) // 4
    assert data.lengths.tolist() == [text + 32]
    del data.lengths
    data.encoder.max_pixels = 8192
    assert data.lengths.tolist() == [text + 8]


def test_batch_without_a_readable_sample_is_empty_not_an_error(tmp_path: Path) -> None:
    make_dataset(tmp_path / "open", [bad_sample("bad1"), bad_sample("bad2")])
    specs = [DatasetSpec("open", tmp_path / "open", "open")]
    data = make_data(tmp_path, specs, admit_open=True, max_unreadable=1.0)
    (batch,) = data.epoch_loader(0)
    assert batch.keys == [] and len(batch.score_row) == 0 and len(batch.unreadable) == 2


def test_read_truth_is_the_metas(tmp_path: Path) -> None:
    make_dataset(tmp_path / "open", [make_sample("a", meta={"truth": {"flipped": [True]}}), make_sample("b")])
    data = make_data(tmp_path, [DatasetSpec("open", tmp_path / "open", "open")])
    assert data.read_truth([1, 0]) == [None, {"flipped": [True]}]


def test_work_and_dataset_can_be_sent_to_spawned_workers(tmp_path: Path) -> None:
    data = make_data(tmp_path, admit_open=True)
    dataset, works = pickle.loads(pickle.dumps((data._train_workers._loader.dataset, data.epoch_loader(0)._works[0])))
    assert isinstance(works, Work) and len(dataset[works].keys) == 4
