"""Beside a run: its account is shown, and its log synced."""

from __future__ import annotations

import asyncio
import time

from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.call_account import CallAccount, Watcher
from mrm.construction.calling.stopping import Stop
from mrm.errors import ResumableError

_TICK_S, _SYNC_S = 0.25, 1.0


class Watch:
    """Looks at a run several times a second.

    Args:
        account: of the run.
        log: is synced every second: a power cut costs no more than that.
        progress: is told the account; None tells nobody.
        stop: ends the run where the log cannot be synced or the progress cannot be shown.

    Attributes:
        under_way: attempts under way.
    """

    def __init__(self, account: CallAccount, log: AnswerLog, progress: Watcher | None, stop: Stop) -> None:
        self.under_way = 0
        self._account, self._log, self._progress, self._stop = account, log, progress, stop
        self._began = time.monotonic()

    async def go_on(self) -> None:
        """Until it is cancelled."""
        synced = time.monotonic()
        while not self._stop.is_set():
            await asyncio.sleep(_TICK_S)
            try:
                self.show()
                if time.monotonic() - synced >= _SYNC_S:
                    await asyncio.to_thread(self._log.sync)
                    synced = time.monotonic()
            except OSError as error:
                self._stop.set(str(error), ResumableError(f"{self._log.directory} cannot be written: {error}"))
            except Exception as error:  # else it would go unseen until the end
                self._stop.set(f"{type(error).__name__}: {error}", error)

    def show(self) -> None:
        """Brings the account up to the second, and shows it."""
        self._account.seconds = time.monotonic() - self._began
        if self._progress is not None:
            self._progress.update(self._account, self.under_way)
