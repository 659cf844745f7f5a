"""Several processes, one decision: what only the first process may do, and the others must know.

Processes are started by torchrun or by SLURM's srun (Hydra's submitit launcher too), one a device. Names with the time of
day in them, new folders and prepared data are made by rank 0 and told to the rest.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import TypeVar

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment

from mrm.errors import ConfigError

T = TypeVar("T")


def join_cluster() -> None:
    """Takes rank and meeting place from SLURM where srun started one process a device, as torchrun gives them."""
    if "RANK" in os.environ or not SLURMEnvironment.detect() or int(os.environ.get("SLURM_NTASKS", "1")) < 2:
        return
    slurm = SLURMEnvironment(auto_requeue=False)
    os.environ.update(
        RANK=str(slurm.global_rank()), WORLD_SIZE=str(slurm.world_size()), LOCAL_RANK=str(slurm.local_rank())
    )
    os.environ.update(MASTER_ADDR=slurm.main_address, MASTER_PORT=str(slurm.main_port))


def world_size() -> int:
    """Number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is rank 0, which alone writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def check_launch(devices: int, num_nodes: int) -> None:
    """Lightning's own launcher starts the command again in children, each of which would choose its own folder.

    Raises:
        ConfigError: unless there is one process a device.
    """
    wanted = devices * num_nodes
    if wanted != world_size():
        raise ConfigError(
            f"trainer.devices={devices} x trainer.num_nodes={num_nodes} needs {wanted} process(es), there are {world_size()}; "
            f"start with: torchrun --nproc-per-node={devices} --nnodes={num_nodes} -m mrm.run ... (docs/scaling.md has SLURM)"
        )


def from_main(make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, on every rank; an error there is raised on every rank too."""
    if world_size() == 1:
        return make()
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend)
        atexit.register(leave_group)
    outcome: list = [None, None]
    if is_main():
        try:
            outcome[0] = make()
        except Exception as error:  # the other ranks would wait for ever
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def leave_group() -> None:
    """Ends the group's threads while Python still runs: one that frees a tensor after its end aborts the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
