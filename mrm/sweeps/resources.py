"""How many members run at once, and what each of them gets of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mrm.config import RunConfig

THREADS = "OMP_NUM_THREADS"
GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Plan:
    """What the members share.

    Args:
        jobs: members at once.
        threads: of PyTorch in each process of a member.
        gpus: names as in CUDA_VISIBLE_DEVICES; empty where the members use none.
    """

    jobs: int
    threads: int
    gpus: tuple[str, ...] = ()


def plan(
    jobs: int | None, configs: Sequence[RunConfig], *, cores: int, gpus: Sequence[str], environment: Mapping[str, str]
) -> Plan:
    """The plan for members with these configurations.

    Args:
        jobs: members at once as set; None: one for each set of GPUs, or without GPUs as many as there are cores for the
            processes (and their reading workers) of the most demanding member.
        configs: of all members of the sweep, finished ones too, so that a member gets as many threads when the sweep goes on.
        cores: processors at hand.
        gpus: names of the GPUs at hand.
        environment: its OMP_NUM_THREADS, where set, holds.
    """
    devices = max((config.trainer.devices for config in configs), default=1)
    workers = max((config.data.workers for config in configs), default=0)
    names = tuple(gpus) if any(config.trainer.accelerator != "cpu" for config in configs) else ()
    own_threads = environment.get(THREADS, "")
    set_threads = max(1, int(own_threads)) if own_threads.isdecimal() else None
    if jobs is None:
        jobs = len(names) // devices if names else cores // (devices * ((set_threads or 1) + workers))
    jobs = max(1, min(jobs, len(configs)))
    return Plan(jobs, set_threads or max(1, cores // (jobs * devices)), names)


class GpuShares:
    """Gives each member its GPUs: those that the fewest members use, so its own as long as there are enough.

    Args:
        names: as in CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._users = dict.fromkeys(names, 0)

    def take(self, number: int) -> list[str]:
        """The GPUs of one member; all there are where it wants more."""
        taken = sorted(self._users, key=self._users.__getitem__)[:number]
        for name in taken:
            self._users[name] += 1
        return taken

    def give_back(self, taken: Sequence[str]) -> None:
        for name in taken:
            self._users[name] -= 1


def visible_gpus(count: int, environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that this process may use.

    Args:
        count: their number, as PyTorch tells.
        environment: its CUDA_VISIBLE_DEVICES, where set, names them.
    """
    named = [name.strip() for name in environment.get(GPUS, "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]
