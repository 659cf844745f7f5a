"""The benchmark of reading: every way reads what it says, and all figures are there."""

import pytest
from rich.console import Console

from mrm import data_bench as module
from mrm.data_bench import data_bench, rates
from mrm.data_bench_ways import DataBenchConfig, Reading
from mrm.errors import ConfigError


def test_data_bench_gives_every_figure(monkeypatch):
    monkeypatch.setattr(module, "SIZES", (32, 48))
    monkeypatch.setattr(module, "PEERS", {"no_such_package": None})
    config = DataBenchConfig(samples=32, rounds=1, workers=1, shard_samples=16)
    figures = data_bench(config, Console(quiet=True))
    names = (
        "data_decode_vs_pil",
        "data_decode_vs_pil_at_10pct",
        "data_bytes_vs_webdataset",
        "data_decode_vs_pil_small",
    )
    assert all(figures[name] > 0 for name in names)
    assert figures["data_details"]["peers"] == {"no_such_package": "not measured: No module named 'no_such_package'"}


def test_rates_take_the_best_of_each_piece(monkeypatch):
    times = iter(
        [0, 9, 9, 18, 20, 22, 22, 26, 26, 27, 27, 33]
    )  # two pieces, a round to warm up: 2, 4 then 1, 6 seconds
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(times)))
    ways = {"a": [(lambda: None, 10), (lambda: None, 20)]}
    found = rates({name: list(pieces) for name, pieces in ways.items()}, rounds=2)
    assert found == {"a": 30 / (1 + 4)}


def test_orders_at_a_tenth_see_as_many_samples_as_the_whole(tmp_path):
    reading = Reading(tmp_path, DataBenchConfig(samples=40, shard_samples=20), (32, 40))
    tenth, whole = reading.orders(0.1, 5), reading.orders(1.0, 5)
    assert [len(rows) for rows in tenth] == [4] * 10
    assert sorted(row for rows in whole for row in rows) == list(range(40)) and len(whole) == 5
    assert all(len(set(rows)) == 4 for rows in tenth)


@pytest.mark.parametrize("setting", ["samples=1", "rounds=0", "workers=0", "shard_samples=40"])
def test_data_bench_bad_setting_is_named(setting):
    name, value = setting.split("=")
    config = DataBenchConfig(**{"samples": 64, "shard_samples": 16, name: int(value)})
    with pytest.raises(ConfigError, match=name):
        data_bench(config, Console(quiet=True))
