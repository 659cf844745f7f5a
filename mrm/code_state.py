"""Which code a run is done by: the checkout's commit, what differs from it, and a digest of the files themselves."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from mrm.config import PACKAGE

ROOT = PACKAGE.parent
PARTS = ("mrm", "datamodules", "callbacks", "experiments")  # what a run's outcome may depend on
KINDS = (".py", ".yaml", ".j2")
UNKNOWN = "unknown"


def git_commit() -> str:
    """The checkout's commit, with `-dirty` where files differ from it; `unknown` outside a checkout."""
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or UNKNOWN


def local_changes() -> str:
    """What differs from the commit, as a patch; new files by name, as comments. Empty where nothing does, or outside a checkout."""
    patch = _git("diff", "HEAD", "--", *PARTS, "setup.cfg", "pyproject.toml")
    new = _git("ls-files", "--others", "--exclude-standard", "--", *PARTS)
    told = [f"# not in the commit: {name}" for name in new.splitlines()]
    return "\n".join([*told, *([patch] if patch else [])]) + "\n" if patch or told else ""


def code_digest(root: Path = ROOT) -> str:
    """Digest of the names and contents of all code and configuration; equal digests are equal code, with a checkout or without."""
    digest = hashlib.sha256()
    folders = [root / part for part in PARTS if (root / part).is_dir()]
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in KINDS):
        if path.is_file():
            name, content = path.relative_to(root).as_posix().encode(), path.read_bytes()
            digest.update(len(name).to_bytes(8, "big") + name + len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout.rstrip()
