"""A run's book of calls: which wait for an outcome, which are equal to one another, and what became of them."""

from __future__ import annotations

from dataclasses import replace

from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Call


class Outcomes:
    """Sees to it that every call of a run has one outcome, and equal calls share theirs.

    Args:
        account: of the run; every outcome is counted there.
        log: where answers are found, and failures of equal calls are kept.
    """

    def __init__(self, account: CallAccount, log: AnswerLog) -> None:
        self._account, self._log = account, log
        self._open: dict[str, list[str]] = {}  # keys without an outcome -> records of the equal calls that wait for it
        self._failed: dict[str, str] = {}

    def take(self, call: Call) -> bool:
        """Takes a call in; whether it has to be asked: False where it has its outcome, or shares that of an equal one."""
        self._account.calls += 1
        if call.key in self._open:
            self._open[call.key].append(call.record)
        elif (reason := self._failed.get(call.key)) is not None:
            self._log_equal(call, call.record, reason)
            self._account.fail(call, reason)
        elif call.key in self._log:
            self._account.reused += 1
        else:
            self._open[call.key] = [call.record]
            return True
        return False

    def answered(self, call: Call) -> None:
        """Its answer is in the log."""
        self._account.answered += 1
        self._account.reused += len(self._open.pop(call.key)) - 1

    def fail(self, call: Call, reason: str) -> None:
        """It was given up, as the log says."""
        self._failed[call.key] = reason
        records = self._open.pop(call.key)
        for record in records:
            self._account.fail(call, reason, record)
        for record in dict.fromkeys(records):
            if record != call.record:
                self._log_equal(call, record, reason)

    def leave_out(self, call: Call, reason: str) -> None:
        """It is not asked in this run."""
        self._account.not_asked[reason] += len(self._open.pop(call.key))

    def close(self, reason: str) -> None:
        """The run is over: what waits is not asked."""
        if left := sum(map(len, self._open.values())):
            self._account.not_asked[reason] += left
            self._open.clear()

    def _log_equal(self, call: Call, record: str, reason: str) -> None:
        """Names a further record whose call was given up: it asks the same."""
        message = "an equal call of this run was given up"
        self._log.append_failure(replace(call, record=record), reason=reason, message=message, final=True, attempts=0)
