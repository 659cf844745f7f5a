"""A sweep's folder: its lock, and `sweep.json`, which tells of every member that the sweep has had.

The file is written whole after each change; where that fails, with the next one, and the sweep goes on meanwhile:

    name, state     the sweep's name; running | finished | failed | interrupted
    command         the words of the newest command
    started, updated  times with their zone; of the sweep's first command, and of this writing
    jobs, threads, gpus  members at once, threads a process, GPUs shared out
    mlflow          tracking_uri, experiment, run_id of the parent run; null without MLflow
    members         in the command's order, those of earlier commands behind them: number (null: not in this command), label,
                    overrides, fingerprint (digest of the configuration, as in run.json), state, run_dir, log, starts, seconds (from the last start),
                    exit_status (negative: a signal), error, results (tests, open_pairs, active_pairs, seconds of results.json)
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrm.errors import ConfigError
from mrm.run_dirs import RESULTS_FILE, write_json
from mrm.sweeps.members import FAILED, FINISHED, INTERRUPTED, RUNNING, Member
from mrm.sweeps.resources import Plan

SWEEP_FILE = "sweep.json"
LOCK_FILE = "sweep.lock"
RESULTS = ("tests", "open_pairs", "active_pairs", "seconds")

log = logging.getLogger(__name__)


@dataclass
class SweepRecord:
    """What `sweep.json` says.

    Args:
        folder: the sweep's folder; its name is the sweep's.
        command: the words of the command line.
        members: of this command.
        plan: what the members share.
        mlflow: where the parent run is.
        started: of the sweep's first command.
        earlier: digest -> entry as an earlier command left it.
        fault: why the newest change is not in the file; None where it is.
    """

    folder: Path
    command: list[str]
    members: Sequence[Member]
    plan: Plan
    mlflow: dict[str, str] | None = None
    started: str = field(default_factory=lambda: _now())
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)
    fault: OSError | None = None
    _told: set[tuple[type[OSError], int | None]] = field(default_factory=set)  # kinds of faults

    @classmethod
    def open(cls, folder: Path, command: Sequence[str], members: Sequence[Member], plan: Plan) -> SweepRecord:
        """A new sweep's record, or one that goes on with what its folder holds.

        Raises:
            ConfigError: for a damaged file.
        """
        record = cls(folder, list(command), members, plan)
        path = folder / SWEEP_FILE
        if not path.exists():
            return record
        try:
            found = json.loads(path.read_text())
            record.started, record.mlflow = found["started"], found["mlflow"]
            record.earlier = {entry["fingerprint"]: entry for entry in found["members"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error!r}; remove it, and the sweep goes on with what the runs' folders say."
            ) from error
        return record

    @property
    def state(self) -> str:
        """running while a member waits or runs; then the worst of the members' states."""
        states = {member.state for member in self.members}
        ended = states <= {FINISHED, FAILED, INTERRUPTED}
        return next((state for state in (INTERRUPTED, FAILED) if state in states), FINISHED) if ended else RUNNING

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        entries = [self._entry(member) for member in self.members]
        current = {entry["fingerprint"] for entry in entries}
        others = [{**entry, "number": None} for digest, entry in self.earlier.items() if digest not in current]
        told = {
            "name": self.folder.name,
            "state": self.state,
            "command": self.command,
            "started": self.started,
            "updated": _now(),
            "jobs": self.plan.jobs,
            "threads": self.plan.threads,
            "gpus": list(self.plan.gpus),
            "mlflow": self.mlflow,
            "members": entries + others,
        }
        write_json(self.folder / SWEEP_FILE, told)

    def keep(self) -> None:
        """Writes the file where that is possible, since members go on without it; the next call writes all of it again.

        A failure is told once a kind, and stands in `fault` until the file is written.
        """
        path = self.folder / SWEEP_FILE
        try:
            self.write()
        except OSError as error:
            self.fault, kind = error, (type(error), error.errno)
            if kind not in self._told:
                self._told.add(kind)
                log.warning(
                    "%s cannot be written: %s; the sweep goes on, and tries it at the next change.", path, error
                )
            return
        if self.fault is not None:
            log.info("%s is written again, and tells of all members.", path)
        self.fault = None

    def _entry(self, member: Member) -> dict[str, Any]:
        return {
            "number": member.number,
            "label": member.label,
            "overrides": member.overrides,
            "fingerprint": member.fingerprint,
            "state": member.state,
            "run_dir": str(member.run_dir) if member.run_dir else None,
            "log": str(member.log) if member.log else None,
            "starts": member.starts,
            "seconds": None if member.seconds is None else round(member.seconds, 1),
            "exit_status": member.exit_status,
            "error": member.fault,
            "results": _results(member),
        }


def _results(member: Member) -> dict[str, Any] | None:
    if member.state != FINISHED or member.run_dir is None:
        return None
    try:
        found = json.loads((member.run_dir / RESULTS_FILE).read_text())
    except (OSError, ValueError) as error:
        log.warning("%s: no results (%s)", member.run_dir, error)
        return None
    return {name: found.get(name) for name in RESULTS}


def read_tracked(folder: Path) -> dict[str, str] | None:
    """Where a sweep's parent run is, as `SweepRecord.mlflow`; None without MLflow, or where the sweep's folder is elsewhere or damaged."""
    try:
        found = json.loads((folder / SWEEP_FILE).read_text())["mlflow"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def lock_sweep(folder: Path) -> int:
    """Takes the sweep's lock; members inherit the descriptor, so that it is held until the last of them has ended too.

    Raises:
        ConfigError: where the sweep is running.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"sweep.name={folder.name}: this sweep is running, or members of it that outlived it are; they hold "
            f"{folder / LOCK_FILE}. Wait for them or end them, or choose another name."
        ) from error
    except OSError as error:
        log.warning("%s: the file system has no locks (%s); start a sweep once at a time.", folder, error)
    return descriptor


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
