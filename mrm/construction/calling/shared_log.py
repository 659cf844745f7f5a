"""An answer log that several runs share: they take turns, and each finds what the others asked."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from mrm.construction.calling.answer_log import AnswerLog, LogInUseError

_LOOK_S, _TELL_S = 0.5, 60.0

log = logging.getLogger(__name__)


async def open_when_free(directory: str | os.PathLike[str]) -> AnswerLog:
    """Opens a log for writing as soon as nobody else has it, in this process or another; says so when it waits, and every minute.

    The lock is the system's, which takes it back from a process that ends in any way: nobody waits for the dead.

    Raises:
        ConfigError: if the folder cannot be written to.
    """
    told_at: float | None = None
    while True:
        try:
            return AnswerLog(directory)
        except LogInUseError as error:
            if told_at is None or time.monotonic() - told_at >= _TELL_S:
                log.warning("waiting for those who are being asked: %s", error)
                told_at = time.monotonic()
        await asyncio.sleep(_LOOK_S)
