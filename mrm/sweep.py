"""`python -m mrm.run -m ...`: gathers the members of a sweep from Hydra, and has them run as processes of their own.

Hydra's multirun composes every member first, so that its whole grammar of overrides holds, and gives them to `SweepDriver.add`;
`run` hands them to `mrm.sweeps.running`, which starts plain runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from datamodules.ordered_pool import available_cpus
from mrm.cli import console, explain, show_error
from mrm.config import RunConfig, SweepConfig, to_run_config
from mrm.config_checks import sweep_problems
from mrm.errors import ConfigError, MrmError, exit_status
from mrm.launch import world_size
from mrm.parts import check
from mrm.sweeps.members import Member, is_of
from mrm.sweeps.resources import visible_gpus
from mrm.sweeps.running import Sweep

NOT_A_MEMBERS = ("hydra.mode", "hydra.sweep", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher")


class SweepDriver:
    """Gathers a sweep's members, checks them, and runs them."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._folder = Path()
        self._flags: list[str] = []
        self._settings: list[SweepConfig] = []

    def add(self, cfg: DictConfig) -> None:
        """Takes a member that Hydra composed; one that cannot be run is kept with its fault, and counts as failed."""
        hydra = HydraConfig.get()
        member = Member(len(self.members) + 1, [str(word) for word in hydra.overrides.task])
        if not self.members:
            self._folder = Path(hydra.sweep.dir).expanduser().resolve()
            self._flags = flags(hydra)
        try:
            config = to_run_config(cfg)
            self._settings.append(config.sweep)
            member = Member(member.number, member.overrides, config)
            check(config, launched=False)
            check_nodes(config)
        except (MrmError, OmegaConfBaseException) as error:
            member.fault = str(error) if isinstance(error, MrmError) else explain(error)
        self.members.append(member)

    def run(self) -> int:
        """Runs the members.

        Returns:
            The exit status, as of `mrm.sweeps.running.Sweep.run`. Ends the process with one message and status 2 where the sweep as a
            whole cannot be run, 75 where its record could not be written in the end.
        """
        try:
            return Sweep(
                self._folder,
                self.members,
                self._check(),
                command=lambda words, processes: run_command([*self._flags, *words], processes),
                typed=sys.argv[1:],
                cores=available_cpus(),
                gpus=visible_gpus(torch.cuda.device_count(), os.environ),
                console=console,
            ).run()
        except MrmError as error:
            show_error(str(error))
            sys.exit(exit_status(error))

    def _check(self) -> SweepConfig:
        settings = self._settings[0] if self._settings else SweepConfig()
        problems = sweep_problems(settings)
        if any(other != settings for other in self._settings):
            problems.append("sweep: its keys hold for all members; give each one value.")
        if world_size() > 1:
            problems.append("-m: a sweep starts its members' processes itself; start it without torchrun or srun.")
        if problems:
            raise ConfigError("\n".join(problems))
        return settings


def run_command(words: Sequence[str], processes: int) -> list[str]:
    """The command of a plain run; of several processes by torchrun's module."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *several, "-m", "mrm.run", *words]


def check_nodes(config: RunConfig) -> None:
    """Raises a ConfigError for a member that one machine cannot run."""
    if config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes}: a sweep runs its members on this machine; over several, choose "
            "hydra/launcher=submitit_slurm (docs/scaling.md)."
        )


def flags(hydra: Any) -> list[str]:
    """What a member's command needs to compose as this one did: folders and names of configurations, and Hydra's own overrides.

    Args:
        hydra: Hydra's part of what was composed.
    """
    folders = [str(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"]
    words = [str(word) for word in hydra.overrides.hydra]
    return [
        *(word for folder in folders for word in ("--config-dir", folder)),
        *([] if hydra.job.config_name == "config" else ["--config-name", str(hydra.job.config_name)]),
        *(word for word in words if not any(is_of(word, key) for key in NOT_A_MEMBERS)),
    ]
