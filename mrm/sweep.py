"""`python -m mrm.run -m ...`: runs the members that Hydra composed, as plain runs in processes of their own.

Hydra's multirun composes and checks every member first (its whole grammar of overrides holds), and gives them to `SweepDriver.add`;
`run` then starts them, several at once, goes on past those that fail, and concludes.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from datamodules.ordered_pool import available_cpus
from mrm.cli import console, explain, fail, show_error
from mrm.config import RunConfig, SweepConfig, to_run_config
from mrm.config_checks import sweep_problems
from mrm.errors import ConfigError, MrmError
from mrm.launch import world_size
from mrm.parts import check
from mrm.sweeps.display import SweepDisplay, print_table
from mrm.sweeps.members import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    Member,
    conclude,
    distinct,
    find_state,
    is_of,
    run_words,
)
from mrm.sweeps.membership import Membership
from mrm.sweeps.parent_run import close_parent, open_parent, store_of
from mrm.sweeps.processes import GRACE_S, Processes, caught_signals
from mrm.sweeps.record import SWEEP_FILE, SweepRecord, lock_sweep
from mrm.sweeps.resources import GPUS, THREADS, GpuShares, plan, visible_gpus

POLL_S = 0.2
NOT_A_MEMBERS = ("hydra.mode", "hydra.sweep", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher")

log = logging.getLogger(__name__)


class SweepDriver:
    """Gathers a sweep's members and runs them.

    Args:
        command: starts a run, given the words of a member and the number of its processes.
        grace_s: seconds that members have to end when the sweep is ended.
    """

    def __init__(
        self, command: Callable[[Sequence[str], int], list[str]] | None = None, *, grace_s: float = GRACE_S
    ) -> None:
        self.members: list[Member] = []
        self._command = command or run_command
        self._grace_s = grace_s
        self._folder = Path()
        self._flags: list[str] = []
        self._settings: list[SweepConfig] = []

    def add(self, cfg: DictConfig) -> None:
        """Takes a member that Hydra composed; one that cannot be run is told at once, and counts as failed."""
        hydra = HydraConfig.get()
        member = Member(len(self.members) + 1, [str(word) for word in hydra.overrides.task])
        try:
            config = to_run_config(cfg)
            self._settings.append(config.sweep)
            member = Member(member.number, member.overrides, config)
            check(config, launched=False)
            check_nodes(config)
        except (MrmError, OmegaConfBaseException) as error:
            member.fault = str(error) if isinstance(error, MrmError) else explain(error)
            show_error(f"member {member.number}, {' '.join(member.overrides)}: {member.fault}")
        if not self.members:
            self._folder = Path(hydra.sweep.dir).expanduser().resolve()
            self._flags = flags(hydra)
        self.members.append(member)

    def run(self) -> int:
        """Runs the members.

        Returns:
            The exit status: 0 where all have finished, 1 where not, 128 + the number of the signal that ended the sweep. Ends the
            process with status 2 and one message where the sweep as a whole cannot be run.
        """
        try:
            settings = self._check()
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = lock_sweep(self._folder)
            try:
                return self._run(settings, lock)
            finally:
                os.close(lock)
        except MrmError as error:
            fail(str(error))
            raise AssertionError from error

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

    def _run(self, settings: SweepConfig, lock: int) -> int:
        members, twins = distinct(self.members)
        for member, other in twins:
            log.warning("Member %d computes the same as member %d, it is left out.", member.number, other.number)
        record = SweepRecord.open(self._folder, sys.argv[1:], members)
        (self._folder / "logs").mkdir(exist_ok=True)
        for member in members:
            member.log = self._folder / "logs" / f"{member.label}.log"
            find_state(
                member, self._folder.name, record.earlier.get(member.fingerprint), retry_failed=settings.retry_failed
            )
        configs = [member.config for member in members if member.config is not None and member.fault is None]
        cuda = torch.cuda.device_count()
        record.plan = plan(
            settings.jobs, configs, cores=available_cpus(), gpus=visible_gpus(cuda, os.environ), environment=os.environ
        )
        tracked = next((config for config in configs if config.logger.enabled), None)
        if tracked is not None and any(member.state == WAITING for member in members):
            earlier = record.mlflow if record.mlflow and store_of(tracked).items() <= record.mlflow.items() else {}
            record.mlflow = open_parent(tracked, self._folder, record.command, earlier.get("run_id"))
        record.write()
        signal_number = self._run_all(record, lock)
        record.write()
        if record.mlflow is not None:
            close_parent(record.mlflow, record.state, members, self._folder / SWEEP_FILE)
        out = Console()
        print_table(members, out)
        lines = [f"Record   {self._folder / SWEEP_FILE}"]
        if any(member.state != FINISHED for member in members):
            lines.append(f"Go on    {shlex.join(self._again())}")
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        if signal_number is not None:
            return 128 + signal_number
        return int(any(member.state != FINISHED for member in members))

    def _run_all(self, record: SweepRecord, lock: int) -> int | None:
        """Runs what waits; gives the number of the signal that ended the sweep before its end."""
        assert record.plan is not None
        members = record.members
        by_label = {member.label: member for member in members}
        waiting = deque(member for member in members if member.state == WAITING)
        processes, shares, taken = Processes(keep_open=[lock]), GpuShares(record.plan.gpus), {}
        deadline, killed = 0.0, False
        display = SweepDisplay(members, record.plan.jobs, console)
        display.say(
            f"Sweep {self._folder}: {len(members)} members, {len(waiting)} to run, {record.plan.jobs} at once with "
            f"{record.plan.threads} thread(s) a process"
            + (f" on GPUs {', '.join(record.plan.gpus)}" * bool(record.plan.gpus))
        )
        with caught_signals() as signals, display:
            while len(processes) or (waiting and not signals.received):
                if signals.received and not deadline:
                    deadline = time.monotonic() + self._grace_s
                    display.say("Ending the members that run; once more to kill them.", "yellow")
                    processes.terminate()
                if deadline and not killed and (len(signals.received) > 1 or time.monotonic() > deadline):
                    killed = True
                    processes.kill()
                while waiting and not signals.received and len(processes) < record.plan.jobs:
                    member = waiting.popleft()
                    taken[member.label] = shares.take(member.config.trainer.devices if member.config else 1)
                    self._start(member, record, processes, taken[member.label], display)
                for label, status, seconds in processes.ended():
                    member = by_label[label]
                    shares.give_back(taken.pop(label))
                    member.seconds = seconds
                    conclude(member, self._folder.name, status, stopping=bool(signals.received))
                    record.write()
                    display.ended(member)
                display.progress()
                if len(processes):
                    time.sleep(POLL_S)
            for member in waiting:
                member.state = INTERRUPTED
            return signals.received[0] if signals.received else None

    def _start(
        self, member: Member, record: SweepRecord, processes: Processes, gpus: Sequence[str], display: SweepDisplay
    ) -> None:
        assert member.config is not None and member.log is not None and record.plan is not None
        parent = record.mlflow if record.mlflow and store_of(member.config).items() <= record.mlflow.items() else None
        place = Membership(self._folder.name, parent["run_id"] if parent else None)
        environment = {
            "COLUMNS": "120",  # of tables in the log
            THREADS: str(record.plan.threads),
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **place.to_environment(),
            **({GPUS: ",".join(gpus)} if gpus else {}),
        }
        command = self._command([*self._flags, *run_words(member)], member.config.trainer.devices)
        member.starts += 1
        member.state = RUNNING
        with member.log.open("a") as file:
            file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}  {shlex.join(command)}\n")
        try:
            processes.start(member.label, command, environment, member.log)
        except OSError as error:
            member.state, member.fault = FAILED, f"cannot be started: {error}"
            display.ended(member)
        else:
            display.began(member, "goes on" if member.resume else "begins")
        record.write()

    def _again(self) -> list[str]:
        words = [word for word in sys.argv[1:] if not is_of(word, "sweep.name")]
        named = any(is_of(word, "hydra.sweep.dir") for word in words)
        return [
            Path(sys.executable).name,
            "-m",
            "mrm.run",
            *words,
            *([] if named else [f"sweep.name={self._folder.name}"]),
        ]


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
    """What a member's command needs to compose as this one did: folders and names of configurations, and Hydra's own overrides."""
    folders = [str(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"]
    words = [str(word) for word in hydra.overrides.hydra]
    return [
        *(word for folder in folders for word in ("--config-dir", folder)),
        *([] if hydra.job.config_name == "config" else ["--config-name", str(hydra.job.config_name)]),
        *(word for word in words if not any(is_of(word, key) for key in NOT_A_MEMBERS)),
    ]
