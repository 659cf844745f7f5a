"""Processes that run at once, each with a log of its own, and their end when the sweep is to end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

GRACE_S = 60.0  # a training ends behind its batch, and closes its files
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    since: float


class Processes:
    """Starts commands and tells which have ended.

    Each has a session of its own: a Ctrl-C in the terminal reaches this process only, which decides.

    Args:
        keep_open: descriptors that the processes inherit.
    """

    def __init__(self, keep_open: Sequence[int] = ()) -> None:
        self._keep_open = tuple(keep_open)
        self._running: dict[str, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Starts a command; what it prints is added to its log.

        Raises:
            OSError: where it cannot be started.
        """
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                pass_fds=self._keep_open,
            )
        self._running[name] = _Running(process, time.monotonic())

    def ended(self) -> list[tuple[str, int, float]]:
        """Name, exit status and seconds of those that have ended since the last call."""
        done = []
        for name, running in list(self._running.items()):
            if (status := running.process.poll()) is not None:
                del self._running[name]
                done.append((name, status, time.monotonic() - running.since))
        return done

    def terminate(self) -> None:
        """Asks all to end. Their own children are theirs to end."""
        for running in self._running.values():
            running.process.terminate()

    def kill(self) -> None:
        """Ends all at once, with their children."""
        for running in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)


@dataclass
class Signals:
    """The signals to end that have come."""

    received: list[int] = field(default_factory=list)


@contextmanager
def caught_signals() -> Iterator[Signals]:
    """Notes SIGINT, SIGTERM and SIGHUP instead of ending; one that was ignored before (nohup) still is."""
    signals = Signals()

    def note(number: int, frame: FrameType | None) -> None:
        signals.received.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
