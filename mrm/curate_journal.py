"""What a model has scored so far, so that a scoring that was killed goes on where it was.

A line a batch, by the batch's number; the same pool, model and settings make the same batches, and other ones have a file of their own. A
batch of which something could not be read is not kept: it may be readable the next time.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Rewards = dict[str, list[float]]  # key -> a reward a response


class ScoreJournal:
    """A file of batches that are scored; made when the first one is.

    Args:
        target: the output that is scored for; the file stands beside it.
        settings: all that batches and rewards depend on, as JSON has it.

    Attributes:
        done: number of the batch -> its rewards, of an earlier try.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any]) -> None:
        self._head = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.path = target.with_name(f"{target.name}.scoring-{self._head[:8]}.jsonl")
        self.done: dict[int, Rewards] = {}
        whole = self._read()
        self._file = self.path.open("r+b" if whole else "wb")
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write({"settings": self._head})
        elif self.done:
            log.info("%s: %d batches were scored before and are not scored again.", self.path, len(self.done))

    def add(self, number: int, rewards: Rewards) -> None:
        """Keeps a batch."""
        self._write({"batch": number, "rewards": rewards})

    def close(self) -> None:
        """Leaves the file for another try."""
        with contextlib.suppress(OSError):  # a full disk was told where a batch was added
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()  # a killed process loses nothing then; a machine that dies may lose the last batches

    def _read(self) -> int:
        """Takes in what is whole; its bytes. A line that was cut by a kill is none."""
        whole = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    told = json.loads(line) if line.endswith(b"\n") else {}
                    if not whole and told.get("settings") != self._head:
                        break
                    if whole:
                        self.done[int(told["batch"])] = told["rewards"]
                    whole += len(line)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):  # damaged from here on
            log.warning("%s: is damaged behind byte %d; what stood there is scored again.", self.path, whole)
        return whole


def remove_journals(target: Path) -> None:
    """Removes the files of an output that stands, of whatever settings."""
    for path in target.parent.glob(f"{glob.escape(target.name)}.scoring-*.jsonl"):
        path.unlink(missing_ok=True)
