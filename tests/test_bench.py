"""The benchmark measures what it says: both ways give the same rewards, and the table and JSON hold all keys."""

import json

import pytest
import torch
from rich.console import Console

from mrm import bench as module
from mrm.bench import Bench, BenchConfig, Shape, bench, packing_waste, run, usual_inputs
from mrm.errors import ConfigError
from mrm.model.costs import state_bytes
from mrm.model.packing import NO_EDGES, collate
from tests.model.checkpoints import make_checkpoint

RATIOS = {"256x120_k2", "t2i_k2", "256x120_k4"}


def test_both_ways_give_the_same_rewards():
    made = Bench(BenchConfig(samples=2))
    made.causal.eval()
    made.model.head.layers[-1].weight.data.normal_()
    samples = made.samples(Shape(2, 12, 10, 9, 3))
    inputs, ends = usual_inputs(samples, made.settings.image_token_id)
    with torch.inference_mode():
        usual = made.causal(**inputs, output_hidden_states=True).hidden_states[-1][torch.arange(len(ends)), ends]
        own = made.model(collate([(sample, NO_EDGES) for sample in samples], row_tokens=None, pad_id=0))
        torch.testing.assert_close(made.model.head(usual), own, atol=1e-4, rtol=0)


def test_bench_writes_all_ratios_and_tells_memory_and_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "STANDARD", {name: Shape(1, 4, 6, 3, 2) for name in RATIOS})
    monkeypatch.setattr(module, "POOL_PAIRS", 32)
    monkeypatch.setattr(module, "data_bench", lambda config, console: {"data_decode_vs_pil": 1.0})
    monkeypatch.setattr(
        module, "logging_figures", lambda pairs: {"logging_overhead": 0.01}
    )  # tests/test_logging_bench.py
    options = {"rounds": 1, "samples": 1, "memory_gb": 1.0, "epoch_pairs": 1000, "data_pairs": 2000}
    config = BenchConfig(output=str(tmp_path / "b.json"), **options)
    run(config)
    figures = json.loads((tmp_path / "b.json").read_text())
    expected = {f"{what}_{name}" for what in ("train", "score") for name in RATIOS}
    assert expected | {"packing_waste", "data_decode_vs_pil"} <= figures.keys()
    assert all(figures[name] > 0 for name in expected)
    plan = figures["plans"]["t2i_k2"]
    assert plan["fits"] and 0 < plan["bytes"] < 1e9
    assert plan["epoch_seconds"] == pytest.approx(1000 / figures["details"]["train_t2i_k2"]["pairs_per_second"])
    shown = capsys.readouterr().out
    assert "fits 1 GB" in shown
    data = {
        "index_2000_read_s",
        "ledger_2000_write_s",
        "plan_2000_s",
        "hot_columns_2000_mb",
        "plan_padding",
        "round_2000_s",
        "score_pool_vs_epoch",
        "boundary_fixed_s",
        "logging_overhead",
    }
    assert data <= figures.keys() and all(name in shown for name in data)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_5"])
def test_bench_measures_the_configuration_of_a_folder(tmp_path, kind):
    folder = make_checkpoint(kind, tmp_path / "model")
    shape = {"images": 2, "image_tokens": 16, "prompt": 300, "answer": 5, "responses": 3}
    figures = bench(BenchConfig(model=str(folder), rounds=1, samples=1, **shape), Console(quiet=True))
    assert figures["train_16x5_k3"] > 0


def test_state_counts_trained_weights_in_float32_and_slices_them():
    made = Bench(BenchConfig(dtype="bfloat16"))
    trained = sum(p.numel() for p in made.model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in made.model.parameters()) - trained
    whole = {"weights": 4 * trained + 2 * frozen, "gradients": 4 * trained, "moments": 8 * trained}
    assert state_bytes(made.model) == whole
    assert state_bytes(made.model, 2) == {name: -(-size // 2) for name, size in whole.items()}


def test_packing_of_many_short_samples_wastes_at_most_five_percent():
    assert packing_waste() <= 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples=0"),
        ({"dtype": "float8"}, "dtype='float8'"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"image_tokens": 4}, "prompt=None: a shape of your own needs all four"),
        ({"model": "/nowhere"}, "config.json cannot be loaded"),
        ({"attention": "magic"}, "model.attention='magic'"),
        ({"memory_gb": 0.0}, "memory_gb=0.0"),
        ({"data_pairs": 5}, "data_pairs=5: must be at least 100"),
        ({"images": 4, "image_tokens": 4, "prompt": 6, "answer": 1, "responses": 2}, "prompt=6: must be at least 9"),
    ],
)
def test_bench_bad_setting_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        bench(BenchConfig(**settings), Console(quiet=True))


def test_bench_beyond_the_devices_memory_says_what_to_give(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr(Bench, "measure", full)
    with pytest.raises(ConfigError, match="give fewer samples"):
        bench(BenchConfig(), Console(quiet=True))
