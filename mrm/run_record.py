"""What a run's folder tells of how it came about: with what it was done, `environment.json`, and with which data, `data.json`.

Configuration, ledgers and results are written where they arise. A run that goes on, maybe elsewhere, adds its start to the others, and says what
is not as it was: its figures are those of one left alone only where nothing is.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from datamodules.preference_datamodule import PreferenceDataModule
from datamodules.set_accounts import SetAccount, set_accounts
from mrm.code_state import code_digest, git_commit, local_changes
from mrm.config import RunConfig
from mrm.launch import world_size
from mrm.run_dirs import write_json

ENVIRONMENT_FILE = "environment.json"
CHANGES_FILE = "changes.diff"  # only where the code differs from its commit
DATA_FILE = "data.json"
VARIABLES = (  # that change what is computed, or how fast
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTHONHASHSEED",
)  # fmt: skip
COMPARED = ("python", "packages", "code_digest", "cpu", "gpus", "threads", "processes", "variables")

log = logging.getLogger(__name__)


def environment(config: RunConfig) -> dict[str, Any]:
    """What this start of a run is done with, as JSON types."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": config.seed,
        "commit": git_commit(),
        "code_digest": code_digest(),
        "python": platform.python_version(),
        "packages": dict(
            sorted({dist.name: dist.version for dist in importlib.metadata.distributions() if dist.name}.items())
        ),
        "os": platform.platform(),
        "host": platform.node(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "usable": _usable_cores()},
        "memory_mib": _memory_mib(),
        "gpus": [_gpu(number) for number in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def write_start(folder: Path, config: RunConfig) -> int:
    """Adds this start to the run's others, and the code's changes; says what differs from the start before it.

    Returns:
        How many starts the run has had.
    """
    path = folder / ENVIRONMENT_FILE
    starts = read_starts(folder)
    now = environment(config)
    if starts and (changed := differences(starts[-1], now)):
        log.warning("the run goes on with what is not as it was, so its figures may differ: %s", "; ".join(changed))
    write_json(path, {"starts": [*starts, now]})
    changes, known = local_changes(), [path.read_text() for path in folder.glob("changes*.diff")]
    if changes and changes not in known:
        name = CHANGES_FILE if not known else CHANGES_FILE.replace(".", f"-{len(starts) + 1}.")
        (folder / name).write_text(changes)
    return len(starts) + 1


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """All starts of a run, as `environment` told them; none where the file is damaged, which is told."""
    path = folder / ENVIRONMENT_FILE
    try:
        return [dict(start) for start in json.loads(path.read_text())["starts"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read (%r), it begins anew", path, error)
        return []


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is another in two starts, of what figures depend on."""
    told = []
    for key in COMPARED:
        before, after = then.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            told += [
                f"{key} {name} {before.get(name)} then, {after.get(name)} now"
                for name in sorted({*before, *after})
                if before.get(name) != after.get(name)
            ]
        elif before != after:
            told.append(f"{key} {before} then, {after} now")
    return told


def write_data(folder: Path, config: RunConfig, datamodule: PreferenceDataModule) -> list[SetAccount]:
    """Writes which data the run is done with: counts, fingerprints, and the settings that they were made with, seeds among them.

    Raises:
        ShardError: if an index cannot be read.
    """
    accounts = set_accounts(datamodule)
    sets = []
    for account in accounts:
        dataset = config.data.datasets[account.name]
        sets.append({**account.to_json(), "source": dataset.source, "options": dict(dataset.options)})
    write_json(folder / DATA_FILE, {"training_fingerprint": datamodule.index.fingerprint, "sets": sets})
    return accounts


@dataclass(frozen=True)
class RunData:
    """Which data a run is done with.

    Args:
        fingerprint: of all that is trained on.
        accounts: one a data set.
    """

    fingerprint: str
    accounts: list[SetAccount]


def read_data(folder: Path) -> RunData | None:
    """What `write_data` wrote; None where the run ended before it, or the file is damaged, which is told."""
    path, names = folder / DATA_FILE, {field.name for field in fields(SetAccount)}
    try:
        told = json.loads(path.read_text())
        accounts = [SetAccount(**{name: one[name] for name in names}) for one in told["sets"]]
        if not all(isinstance(one.fingerprint, str) for one in accounts):
            raise TypeError("a fingerprint is no text")
        return RunData(str(told["training_fingerprint"]), accounts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read: %r", path, error)
        return None


def record_files(folder: Path) -> list[Path]:
    """Those of a run's files that this module writes."""
    found = [folder / ENVIRONMENT_FILE, folder / DATA_FILE, *sorted(folder.glob("changes*.diff"))]
    return [path for path in found if path.is_file()]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _gpu(number: int) -> dict[str, Any]:
    told = torch.cuda.get_device_properties(number)
    return {
        "name": told.name,
        "memory_mib": told.total_memory // 2**20,
        "capability": f"{told.major}.{told.minor}",
    }
