import dataclasses
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset_spec import DatasetSpec, spec_problems
from datamodules.index import Index
from datamodules.ledger import Ledger
from datamodules.pool import mixture_weights, plan_pool, sample_lengths, sample_strength, trained_samples
from mrm.errors import ConfigError
from mrm.preference import Pair
from tests.datamodules.making import make_dataset, make_image, make_sample

SHAPE = {"batch_size": 1, "accumulate": 1, "world_size": 1, "seed": 0, "epoch": 0}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """a: strength 0.5; b: 0.2 and 0.4; c: unknown; d: a strong one. Sources x, y, x, z; c and d are another data set."""
    three = {"responses": 3, "images": ()}
    first = [
        make_sample("a", images=(), source="x"),
        make_sample("b", pairs=[Pair(0, 1, 0.2), Pair(0, 2, 0.4)], source="y", **three),
    ]
    second = [
        make_sample("c", images=(), pairs=[Pair(0, 1)], source="x"),
        make_sample("d", images=(), pairs=[Pair(1, 0, 1.0)], source="z"),
    ]
    parts = {"one": make_dataset(tmp_path / "one", first), "two": make_dataset(tmp_path / "two", second)}
    return Index.concat(parts)


def ledger_of(index: Index, **columns: list) -> Ledger:
    start = Ledger.initial(index, np.ones(len(index), bool), False)
    return dataclasses.replace(start, **{name: np.array(values) for name, values in columns.items()})


def test_trained_samples_have_an_active_pair_of_some_weight(index: Index) -> None:
    ledger = ledger_of(index, active=[True, False, True, True, False], weight=np.float32([0, 1, 1, 1, 1]))
    assert trained_samples(index, ledger).tolist() == [False, True, True, False]


def test_sample_strength_is_the_mean_of_what_is_trained_on_as_published(index: Index) -> None:
    whole = sample_strength(index, ledger_of(index))
    np.testing.assert_allclose(whole, [0.5, 0.3, np.nan, 1.0], rtol=1e-6)
    ledger = ledger_of(index, active=[True, False, True, True, True], flipped=[True, False, False, False, False])
    np.testing.assert_allclose(sample_strength(index, ledger), [np.nan, 0.4, np.nan, 1.0], rtol=1e-6)


def test_sample_lengths_count_text_and_reduced_images_and_at_least_one(tmp_path: Path) -> None:
    """27 and 26 characters and 2 x 32 x 64 pixels, of which 1,024 an image are left: 53 // 4 + 2; 13 + 26 characters."""
    images = [make_image(size=(32, 64))] * 2
    made = make_dataset(tmp_path / "set", [make_sample("a", images=images), make_sample("b", images=())])
    assert sample_lengths(made, 1024).tolist() == [13 + 2, 9]
    assert sample_lengths(made, 4096).tolist() == [13 + 4, 9]
    none = dataclasses.replace(made, text_chars=np.zeros(2, np.int32))
    assert sample_lengths(none, 1024).tolist() == [2, 1]


def test_mixture_weights_multiply_data_set_and_source(index: Index) -> None:
    specs = [DatasetSpec("one", "", "trusted", 2.0, {"y": 0.5}), DatasetSpec("two", "", "open", 1.5, {"z": 0.0})]
    assert mixture_weights(index, specs).tolist() == [2.0, 1.0, 1.5, 0.0]


def test_mixture_weights_source_of_another_data_set_is_refused(index: Index) -> None:
    specs = [DatasetSpec("one", "", "trusted", 1.0, {"z": 0.5}), DatasetSpec("two", "", "open")]
    with pytest.raises(ConfigError, match="data set 'one' has no source 'z'; it has x, y"):
        mixture_weights(index, specs)


def test_spec_problems_bad_source_weight_is_named() -> None:
    problems = spec_problems([DatasetSpec("one", "", "open", 1.0, {"x": -1.0})])
    assert problems == ["data set 'one': weight of source 'x' -1.0 is not a number of at least 0"]


def test_plan_pool_easy_first_goes_by_the_ledgers_strength(index: Index) -> None:
    lengths, mixture = np.ones(4, np.int32), np.ones(4)
    plan = plan_pool(index, ledger_of(index), lengths, mixture, order="easy_first", **SHAPE)
    order = plan.rows.ravel().tolist()
    assert order[0] == 3 and order[3] == 1 and set(order[1:3]) == {0, 2}  # the median of 0.5, 0.3 and 1.0 is a's


def test_plan_pool_order_by_strength_without_any_is_refused(index: Index) -> None:
    ledger = ledger_of(index, strength=np.full(5, np.nan, np.float32))
    with pytest.raises(ConfigError, match=r"data\.order=easy_first goes by strength, but no pair"):
        plan_pool(index, ledger, np.ones(4, np.int32), np.ones(4), order="easy_first", **SHAPE)
