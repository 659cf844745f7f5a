"""A run's folder: its name, what identifies its configuration, and finding an unfinished run to go on with."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrm.config import RunConfig, flatten, to_yaml
from mrm.errors import ConfigError

CONFIG_FILE = "config.yaml"
STATE_FILE = "run.json"
RESULTS_FILE = "results.json"
NOT_IDENTIFYING = ("resume", "output_root", "trainer.progress")  # these do not change what is computed


def identity(config: RunConfig) -> dict[str, Any]:
    """The flat configuration without the keys that do not change what is computed."""
    return {key: value for key, value in flatten(config).items() if key not in NOT_IDENTIFYING}


def fingerprint(config: RunConfig) -> str:
    """Digest of everything that a run's outcome depends on, by configuration."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:16]


def open_run_dir(config: RunConfig) -> tuple[Path, bool]:
    """Makes the folder of a new run, or finds the one to go on with.

    Returns:
        The folder, and whether it is an earlier run's.

    Raises:
        ConfigError: for a run that cannot be resumed; says why.
    """
    root = Path(config.output_root).expanduser().resolve()
    if config.resume == "auto":
        earlier = _newest_unfinished(root, fingerprint(config))
        if earlier is not None:
            _point_latest(root, earlier)
            return earlier, True
    elif config.resume is not None:
        folder = Path(config.resume).expanduser().resolve()
        _check_resumable(folder, config)
        if folder.parent == root:
            _point_latest(root, folder)
        return folder, True
    folder = _make(root, f"{config.experiment}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}")
    (folder / CONFIG_FILE).write_text(to_yaml(replace(config, resume=None)))
    write_state(folder, fingerprint=fingerprint(config), identity=identity(config))
    _point_latest(root, folder)
    return folder, False


def read_state(folder: Path) -> dict[str, Any]:
    """What a run remembers about itself; empty where the folder is no run."""
    try:
        return json.loads((folder / STATE_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}


def write_state(folder: Path, **values: Any) -> None:
    """Adds to what a run remembers about itself."""
    write_json(folder / STATE_FILE, {**read_state(folder), **values})


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)


def _make(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:  # two runs of a sweep in one second
            continue
    raise ConfigError(f"output_root: {root} holds a thousand runs named {name}.")


def _newest_unfinished(root: Path, digest: str) -> Path | None:
    runs = [
        path.parent
        for path in root.glob(f"*/{STATE_FILE}")
        if not path.parent.is_symlink()
        and not (state := read_state(path.parent)).get("finished")
        and state.get("fingerprint") == digest
    ]
    return max(runs, key=lambda folder: (folder / CONFIG_FILE).stat().st_mtime_ns, default=None)


def _check_resumable(folder: Path, config: RunConfig) -> None:
    state = read_state(folder)
    if not state:
        raise ConfigError(
            f"resume={str(folder)!r}: is no run's folder, it has no {STATE_FILE}; give one, or resume=auto."
        )
    if state.get("finished"):
        raise ConfigError(f"resume={str(folder)!r}: this run has finished; leave out resume to start another.")
    if state["fingerprint"] != fingerprint(config):
        now, then = json.loads(json.dumps(identity(config))), state["identity"]
        changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
        lines = "\n".join(f"  - {key}: {then.get(key)!r} then, {now.get(key)!r} now" for key in changed)
        raise ConfigError(f"resume={str(folder)!r}: was started with another configuration:\n{lines}")


def _point_latest(root: Path, folder: Path) -> None:
    """Points `latest` at the folder; replaced in one step, so that it never dangles."""
    temporary = root / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, root / "latest")
