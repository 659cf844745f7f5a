"""DeepSpeed's ZeRO on two processes: it trains, restarts, saves and resumes as without it. On the CPU, where Lightning refuses it."""

import pytest
import torch
from safetensors.torch import load_file

import mrm.model.zero
from mrm.cli import compose_run_config
from mrm.config_checks import check_config
from mrm.errors import ConfigError
from mrm.model.zero import check_zero
from mrm.parts import check
from tests.model.distributed import CLIP, ColdThenSaved
from tests.model.test_distributed import torchrun
from tests.model.test_reward_module import assert_equal, build, shards, trainer, weights  # noqa: F401  # a fixture


@pytest.fixture
def train(shards, tmp_path):  # noqa: F811
    """Trains on two processes; gives the weights."""
    pytest.importorskip("deepspeed")

    def run(strategy, *options):
        output = str(tmp_path / f"{strategy}.safetensors")
        torchrun("-m", "tests.model.distributed", str(shards), output, strategy, "4", *options)
        return load_file(output)

    return run


def test_zero_accumulates_in_bfloat16_as_ddp_does(shards, train):  # noqa: F811
    # three batches a process, two a step: the epoch's last step has one
    options = ("accumulate=2", "precision=bf16-mixed")
    start = weights(build(shards, 8)[0])
    assert_equal(train("deepspeed", *options), train("ddp", *options), start, most=2e-3)  # 3e-4 was seen


def test_zero_restarts_cold_and_its_checkpoint_is_that_of_one_process(shards, train, tmp_path):  # noqa: F811
    two, one = tmp_path / "two.ckpt", tmp_path / "one.ckpt"
    start = weights(build(shards, 8)[0])
    sliced = train("deepspeed", "epochs=3", f"save={two}")
    module, data = build(shards, 8)
    settings = {"max_epochs": 3, "gradient_clip_val": CLIP}
    trainer(tmp_path, callbacks=[ColdThenSaved(one)], **settings).fit(module, datamodule=data)
    whole = weights(module)
    assert_equal(sliced, whole, start)
    found, expected = (torch.load(path, weights_only=True)["optimizer_states"][0] for path in (two, one))
    assert found["param_groups"] == expected["param_groups"]
    assert {key: {k: v.shape for k, v in state.items()} for key, state in found["state"].items()} == {
        key: {k: v.shape for k, v in state.items()} for key, state in expected["state"].items()
    }
    assert_equal(train("deepspeed", "epochs=3", f"resume={one}"), whole, start)
    module, data = build(shards, 8)
    trainer(tmp_path, **settings).fit(module, datamodule=data, ckpt_path=two, weights_only=True)
    assert_equal(weights(module), sliced, start)


def test_zero_gradient_that_is_not_finite_stops_all_ranks(train):
    with pytest.raises(RuntimeError, match="a gradient is not a finite number"):
        train("deepspeed", "spoil=1")


def test_zero_without_the_package_names_the_extra(small_run, monkeypatch):
    monkeypatch.setattr(mrm.model.zero, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'trainer.strategy: deepspeed: .* pip install "mrm\[deepspeed\]"'):
        check(small_run("trainer.strategy=deepspeed"))


def test_zero_on_the_cpu_names_ddp(monkeypatch):
    monkeypatch.setattr(mrm.model.zero, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="runs on CUDA GPUs only"):
        check_zero("cpu")


def test_zero_is_a_trainer_of_its_own():
    config = compose_run_config(["trainer=deepspeed"])
    assert config.trainer.strategy == "deepspeed"
    check_config(config)


def test_zero_weights_in_bfloat16_are_refused_where_they_are_trained():
    module = torch.nn.Linear(1, 1).bfloat16()
    with pytest.raises(ConfigError, match="weight is torch.bfloat16; set model.dtype=float32"):
        mrm.model.zero.check_trained(module)
    mrm.model.zero.check_trained(module.requires_grad_(False))
