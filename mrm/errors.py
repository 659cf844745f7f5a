"""Errors that a person can act on.

Every message says what was found, where (file, key, field), what is allowed, and what to do.
`MrmError` is a `ValueError`, so that callers may catch either. Impossible states use `assert`.
"""

import difflib
from collections.abc import Iterable

EXIT_BAD_INPUT = 2
EXIT_RESUMABLE = 75


def suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing where no known word is near."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class MrmError(ValueError):
    """Base of all errors that this project raises for bad input."""


class ConfigError(MrmError):
    """The configuration cannot be run; the message lists every problem found."""


class RecordError(MrmError):
    """A preference sample breaks a rule of the record.

    Args:
        reason: a short stable name of the rule, fit for counting (`"empty response"`).
        message: the full explanation, naming the key and the mend.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):  # two arguments: the default would lose one when a worker sends it home
        return type(self), (self.reason, str(self))


class ShardError(MrmError):
    """A shard or its index is missing, cut off, altered, or does not fit the other."""


class LedgerError(MrmError):
    """A ledger snapshot is missing, altered, or does not fit the index or the epoch."""


class CurationError(MrmError):
    """Curation cannot go on: accounts do not balance, or the pool would be emptied."""


class UnreadableSamplesError(MrmError):
    """More samples than allowed could not be read."""


class ResumableError(MrmError):
    """The work stopped half-way; what was finished is kept, and the same call goes on behind it."""


def exit_status(error: MrmError) -> int:
    """What a command that this error ended tells its caller: 2, or 75 (EX_TEMPFAIL) where the same call goes on."""
    return EXIT_RESUMABLE if isinstance(error, ResumableError) else EXIT_BAD_INPUT
