"""A run's folder: its name, what identifies its configuration, and finding an unfinished run to go on with.

A run holds a lock on its folder for as long as it runs, so that no other one goes on with it meanwhile.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mrm.config import RunConfig, flatten, to_run_config, to_yaml
from mrm.construct_config import CallingConfig
from mrm.curation.rules import without_guards
from mrm.errors import ConfigError, ResumableError

CONFIG_FILE = "config.yaml"
STATE_FILE = "run.json"
RESULTS_FILE = "results.json"
ROUNDS_FILE = "rounds.json"  # everything that is known of each round of curation
EVALUATIONS_FILE = "evaluations.json"  # each evaluation while training
REPORT_FILE = "report.html"
LOCK_FILE = "run.lock"
MLFLOW_RUN, MLFLOW_COPIES = "mlflow_run_id", "mlflow_copies"  # in the state, as STOPPED
STOPPED = "stopped"  # why a run stopped half-way without a fault of its own
NOT_IDENTIFYING = (  # these do not change what is computed, nor does `sweep`
    "resume", "output_root", "trainer.progress",
    # nor where and whether it is told: a run goes on where its server has moved, or without one
    "logger.enabled", "logger.mlflow", "logger.experiment_name", "logger.log_model", "logger.system_metrics",
    "report.enabled", "report.gallery",
    # nor how patiently and where judges are asked, so that a run goes on with a larger budget or a server that moved
    *(f"curation.annotation.{field.name}" for field in dataclasses.fields(CallingConfig)),
    "curation.annotation.cache_dir", "curation.annotation.probe",
)  # fmt: skip
NOT_IDENTIFYING_OF_JUDGES = ("base_url", "key_env", "timeout_s", "concurrency", "price_input", "price_output")

_NOT_RESUMABLE = "the run cannot be resumed: start another, and remove this one's folder once its files are not needed."

log = logging.getLogger(__name__)
_held: dict[Path, int] = {}  # this process's run folders -> descriptor of the locked file


def identity(config: RunConfig) -> dict[str, Any]:
    """The flat configuration without the keys that do not change what is computed."""
    judges = [
        f"curation.annotators.{name}.{key}" for name in config.curation.annotators for key in NOT_IDENTIFYING_OF_JUDGES
    ]
    left_out = {*NOT_IDENTIFYING, *judges}
    flat = flatten(config).items()
    return {key: value for key, value in flat if key not in left_out and not key.startswith("sweep.")}


def _without_guards(found: dict[str, Any]) -> dict[str, Any]:
    """An `identity` without what only stops a round of curation: a run that was stopped may go on with other guards."""
    rest = {key: value for key, value in found.items() if key != "curation.min_active_share"}
    schedule = rest.get("curation.schedule")
    return rest | (
        {"curation.schedule": [without_guards(one) for one in schedule]} if isinstance(schedule, list) else {}
    )


def fingerprint(config: RunConfig) -> str:
    """Digest of everything that a run's outcome depends on, by configuration."""
    return hashlib.sha256(json.dumps(_without_guards(identity(config)), sort_keys=True).encode()).hexdigest()[:16]


def open_run_dir(config: RunConfig, *, sweep: str | None = None) -> tuple[Path, bool]:
    """Makes the folder of a new run, or finds the one to go on with; it is locked until `close_run_dir`.

    Args:
        config: what is run.
        sweep: the sweep that a new run is a member of.

    Returns:
        The folder, and whether it is an earlier run's.

    Raises:
        ConfigError: for a run that cannot be resumed; says why. A ResumableError for one that is still running.
    """
    root = Path(config.output_root).expanduser().resolve()
    if config.resume == "auto":
        earlier = _newest_unfinished(root, fingerprint(config))
        if earlier is not None:
            _point_latest(root, earlier)
            forget_stop(earlier)
            return earlier, True
    elif config.resume is not None:
        folder = Path(config.resume).expanduser().resolve()
        _check_resumable(folder, config)
        if not lock_run_dir(folder):
            raise ResumableError(
                f"resume={str(folder)!r}: this run is still running, it holds {folder / LOCK_FILE}; wait for it or end it."
            )
        if folder.parent == root:
            _point_latest(root, folder)
        forget_stop(folder)
        return folder, True
    folder = _make(root, f"{config.experiment}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}")
    lock_run_dir(folder)
    (folder / CONFIG_FILE).write_text(to_yaml(replace(config, resume=None)))
    write_state(
        folder, fingerprint=fingerprint(config), identity=identity(config), **({"sweep": sweep} if sweep else {})
    )
    _point_latest(root, folder)
    return folder, False


def forget_stop(folder: Path) -> None:
    """A run that goes on forgets why it stopped."""
    if read_state(folder).get(STOPPED) is not None:
        write_state(folder, **{STOPPED: None})


def close_run_dir(folder: Path) -> None:
    """Gives the lock back; the end of the process does so too."""
    if (descriptor := _held.pop(folder, None)) is not None:
        os.close(descriptor)


def read_config(folder: Path) -> RunConfig:
    """The configuration that a run was started with.

    Raises:
        ConfigError: where the folder is no run's, or its file is damaged.
    """
    try:
        return to_run_config(OmegaConf.load(folder / CONFIG_FILE))  # type: ignore[arg-type]  # no list
    except (OSError, ValueError, TypeError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"run={str(folder)!r}: is no run's folder, its {CONFIG_FILE} cannot be read: {error}"
        ) from error


def read_state(folder: Path) -> dict[str, Any]:
    """What a run remembers about itself; empty where the folder is no run.

    Raises:
        ConfigError: for a damaged file.
    """
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; {_NOT_RESUMABLE}") from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path} is no JSON object; {_NOT_RESUMABLE}")
    return state


def write_state(folder: Path, **values: Any) -> None:
    """Adds to what a run remembers about itself."""
    write_json(folder / STATE_FILE, {**read_state(folder), **values})


def tracked_as(state: dict[str, Any]) -> list[str]:
    """Ids of a run's runs in MLflow: of the store that it began in, then of others that it was given to."""
    first = state.get(MLFLOW_RUN)
    return [] if first is None else [first, *(state.get(MLFLOW_COPIES) or ())]


def remember_tracked(folder: Path, run_id: str) -> None:
    """Adds to `tracked_as`."""
    known = tracked_as(read_state(folder))
    write_state(folder, **{MLFLOW_COPIES: [*known[1:], run_id]} if known else {MLFLOW_RUN: run_id})


def find_runs(root: Path, **remembered: Any) -> list[Path]:
    """Folders of the runs that remember these values, newest first; damaged ones are passed over, and told."""
    found = []
    for path in root.glob(f"*/{STATE_FILE}"):
        folder = path.parent
        try:
            state = {} if folder.is_symlink() else read_state(folder)
        except ConfigError as error:
            log.warning("%s is passed over: %s", folder, error)
            continue
        if state and all(state.get(key) == value for key, value in remembered.items()):
            found.append(folder)
    return sorted(found, key=_began, reverse=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(json.dumps(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        temporary.replace(path)
    except OSError:  # such as for want of room
        temporary.unlink(missing_ok=True)
        raise


def _make(root: Path, name: str) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = root / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:  # two runs of a sweep in one second
                continue
    except OSError as error:
        raise ConfigError(f"output_root: no folder can be made in {root}: {error}; choose another.") from error
    raise ConfigError(f"output_root: {root} holds a thousand runs named {name}.")


def _newest_unfinished(root: Path, digest: str) -> Path | None:
    """The newest unfinished run of that configuration that is not running, now locked."""
    runs = [
        path.parent
        for path in root.glob(f"*/{STATE_FILE}")
        if not path.parent.is_symlink() and _is_unfinished(path.parent, digest)
    ]
    for folder in sorted(runs, key=_began, reverse=True):
        if not lock_run_dir(folder):
            log.info("resume=auto passes over %s: it is still running.", folder)
        elif read_state(folder).get("finished"):  # a moment ago
            close_run_dir(folder)
        else:
            return folder
    return None


def _began(folder: Path) -> int:
    """When a run was started first, in nanoseconds."""
    return (folder / CONFIG_FILE).stat().st_mtime_ns


def _is_unfinished(folder: Path, digest: str) -> bool:
    try:
        state = read_state(folder)
    except ConfigError as error:  # another run's damage must not keep this one from going on
        log.warning("resume=auto passes over %s: %s", folder, error)
        return False
    return not state.get("finished") and state.get("fingerprint") == digest


def lock_run_dir(folder: Path) -> bool:
    """Takes the folder's lock for this process, until `close_run_dir`; False where another process has it."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError as error:
        log.warning("%s: the file system has no locks (%s); do not resume a run that is running.", folder, error)
    _held[folder] = descriptor
    return True


def _drop_inherited_locks() -> None:
    """In a forked worker: a copy that outlives a killed run for a moment must not keep its lock."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_inherited_locks)


def _check_resumable(folder: Path, config: RunConfig) -> None:
    state = read_state(folder)
    if not state:
        raise ConfigError(
            f"resume={str(folder)!r}: is no run's folder, it has no {STATE_FILE}; give one, or resume=auto."
        )
    if state.get("finished"):
        raise ConfigError(f"resume={str(folder)!r}: this run has finished; leave out resume to start another.")
    if state.get("fingerprint") != fingerprint(config):
        now, then = (
            _without_guards(one) for one in (json.loads(json.dumps(identity(config))), state.get("identity", {}))
        )
        changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
        lines = "\n".join(f"  - {key}: {then.get(key)!r} then, {now.get(key)!r} now" for key in changed)
        raise ConfigError(f"resume={str(folder)!r}: was started with another configuration:\n{lines}")


def _point_latest(root: Path, folder: Path) -> None:
    """Points `latest` at the folder; replaced in one step, so that it never dangles."""
    temporary = root / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, root / "latest")
