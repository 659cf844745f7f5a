"""The figures are of what training does, on data sets in the true format; no time is asserted."""

from pathlib import Path

import numpy as np

from datamodules import scale_bench
from datamodules.index import Index
from datamodules.ledger import Ledger
from datamodules.scale_bench import curated, datamodule, make_shards, measure, scale_figures

FIGURES = {
    "index_{}_read_s",
    "ledger_{}_write_s",
    "ledger_{}_read_s",
    "plan_{}_s",
    "hot_columns_{}_mb",
    "hot_columns_{}_peak_mb",
    "hot_columns_{}_arrays_mb",
}
SHARES = {"plan_padding", "plan_padding_without_budget", "plan_padding_shuffled"}


def test_make_shards_can_be_loaded_and_joined(tmp_path: Path) -> None:
    for name in "ab":
        make_shards(tmp_path / name, 1500, name)
    index = Index.concat({name: Index.load(tmp_path / name) for name in "ab"})
    assert len(index) == index.n_pairs == len(index.image_offset) == 3000 and len(index.shard_files) == 4
    assert index.keys[2000].startswith("b-") and set(index.sources[:3]) == {"a-0", "a-1", "a-2"}
    assert (index.text_chars > 0).all() and (np.diff(index.pair_start) == 1).all()


def test_curated_ledger_balances_and_has_every_decision(tmp_path: Path) -> None:
    for name in scale_bench.DATASETS:
        make_shards(tmp_path / name, 100, name)
    ledger = curated(datamodule(tmp_path).ledger())
    accounts = ledger.accounts()
    assert accounts["pairs"] == 400 and 0 < accounts["dropped"] < 100 and np.isfinite(ledger.chosen_score).all()
    assert Ledger.read(ledger.write(tmp_path / "ledger")).accounts() == accounts


def test_measure_gives_every_figure(tmp_path: Path) -> None:
    for name in scale_bench.DATASETS:
        make_shards(tmp_path / name, 500, name)
    figures = measure(tmp_path, repeats=1)
    assert figures.keys() == FIGURES | SHARES
    assert 0 <= figures["plan_padding"] < figures["plan_padding_shuffled"] < 1
    assert all(value > 0 for name, value in figures.items() if name.endswith("_s"))


def test_scale_figures_are_named_by_their_size() -> None:
    figures = scale_figures(2000)
    assert figures.keys() == {name.format("2000") for name in FIGURES} | SHARES
