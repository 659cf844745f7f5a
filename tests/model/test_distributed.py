"""Two processes against one over the same global batch, as torchrun starts them; on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.model.distributed import CLIP
from tests.model.test_reward_module import assert_equal, build, shards, trainer, weights  # noqa: F401  # a fixture

ROOT = Path(__file__).parents[2]


def torchrun(*arguments, processes=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"torchrun ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
    return done


@pytest.mark.parametrize("more", [[], ["twin=1"]], ids=["plain", "twin"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "deepspeed"])
def test_two_processes_train_as_one_over_the_same_global_batch(shards, tmp_path, strategy, more):  # noqa: F811
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")
    # 20 samples in batches of 4 a process: two steps of 8 and one of 4, which is 2 a process
    result = torchrun(
        "-m", "tests.model.distributed", str(shards), str(tmp_path / "w.safetensors"), strategy, "4", *more
    )
    assert result.stdout.count("took 3 steps") == 2
    module, data = build(shards, 8, twin=bool(more))
    start = weights(module)
    trainer(tmp_path, gradient_clip_val=CLIP).fit(module, datamodule=data)
    assert_equal(load_file(tmp_path / "w.safetensors"), weights(module), start)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "deepspeed"])
def test_uneven_last_batches_do_not_hang(shards, tmp_path, strategy):  # noqa: F811
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")
    # 20 samples in batches of 3 a process: steps of 6, 6, 6 and 2; the last leaves each process one sample
    result = torchrun("-m", "tests.model.distributed", str(shards), str(tmp_path / "w.safetensors"), strategy, "3")
    assert result.stdout.count("took 4 steps") == 2
