"""Members at once, threads and GPUs, worked out by hand."""

from __future__ import annotations

import pytest

from mrm.config import DataConfig, RunConfig, TrainerConfig
from mrm.sweeps.resources import GpuShares, Plan, plan, visible_gpus


def configs(number: int, *, devices: int = 1, workers: int = 0, accelerator: str = "auto") -> list[RunConfig]:
    one = RunConfig(trainer=TrainerConfig(devices=devices, accelerator=accelerator), data=DataConfig(workers=workers))
    return [one] * number


@pytest.mark.parametrize(
    ("jobs", "members", "cores", "gpus", "environment", "expected"),
    [
        (None, configs(6), 2, [], {}, Plan(2, 1)),
        (None, configs(2), 8, [], {}, Plan(2, 4)),  # fewer members than cores: more threads each
        (None, configs(6), 8, [], {"OMP_NUM_THREADS": "3"}, Plan(2, 3)),
        (None, configs(6), 8, [], {"OMP_NUM_THREADS": "all"}, Plan(6, 1)),
        (None, configs(6), 1, [], {"OMP_NUM_THREADS": "4"}, Plan(1, 4)),
        (None, configs(9, workers=3), 8, [], {}, Plan(2, 4)),  # 1 + 3 processes each
        (3, configs(6), 8, [], {}, Plan(3, 2)),
        (16, configs(6), 2, [], {}, Plan(6, 1)),
        (None, configs(9), 16, ["0", "1"], {}, Plan(2, 8, ("0", "1"))),
        (None, configs(9, devices=2), 16, ["0", "1", "2", "3"], {}, Plan(2, 4, ("0", "1", "2", "3"))),
        (None, configs(9, devices=8), 16, ["0"], {}, Plan(1, 2, ("0",))),
        (4, configs(9), 16, ["0"], {}, Plan(4, 4, ("0",))),  # four share one
        (None, configs(9, accelerator="cpu"), 4, ["0"], {}, Plan(4, 1)),
        (None, [], 4, [], {}, Plan(1, 4)),
    ],
)
def test_plan_is_as_worked_out(jobs, members, cores, gpus, environment, expected) -> None:
    assert plan(jobs, members, cores=cores, gpus=gpus, environment=environment) == expected


def test_gpu_shares_are_ones_own_while_there_are_enough() -> None:
    shares = GpuShares(["0", "1", "2", "3"])
    first, second = shares.take(2), shares.take(2)
    assert sorted(first + second) == ["0", "1", "2", "3"]
    shares.give_back(first)
    assert shares.take(2) == first
    assert len(shares.take(1)) == 1  # shared: none is free
    assert GpuShares([]).take(2) == []
    assert GpuShares(["0"]).take(2) == ["0"]


def test_visible_gpus_are_named_as_the_environment_does() -> None:
    assert visible_gpus(2, {}) == ["0", "1"]
    assert visible_gpus(2, {"CUDA_VISIBLE_DEVICES": "3, GPU-ab"}) == ["3", "GPU-ab"]
    assert visible_gpus(0, {"CUDA_VISIBLE_DEVICES": ""}) == []
    assert visible_gpus(1, {"CUDA_VISIBLE_DEVICES": "2,9"}) == ["2"]  # the second does not exist
