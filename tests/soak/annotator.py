"""Judges that are down for a whole round: training goes on, and the queued pairs wait for the next round, unless they are to be dropped."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from datamodules.ledger import Decision, Ledger, round_path
from tests.construction.fault_server import FaultServer
from tests.soak.places import AFTER_LEDGER, Place, of_round
from tests.soak.runs import CAPS, JUDGES, VARIANTS, Runs, Started

SETTLED = (Decision.RESTORE, Decision.DROP)
DOWN_ROUND = 2
OUTAGES = ("500", "no connection")


@dataclass(frozen=True)
class Outage:
    """How judges are down.

    Args:
        kind: "500" answers each request by it; "no connection" has nobody listen.
        missing: of the schedule: what becomes of pairs without all their votes, `wait` or `drop`.
        mode: of the annotation.
    """

    kind: str
    missing: str = "wait"
    mode: str = "sync"


@dataclass(frozen=True)
class OutageResult:
    """What came of it.

    Args:
        outage: that the judges had.
        queued: pairs that were to be judged in the round that they were down for.
        settled: what became of them, decision -> pairs; reasons of those that were dropped for want of an answer.
        seconds: all in all.
    """

    outage: Outage
    queued: int
    settled: Counter[str]
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        what = f"judges down ({self.outage.kind}, {self.outage.mode}) for round {DOWN_ROUND}, training went on"
        if self.outage.missing == "drop":
            named = ", ".join(f"{count} {reason!r}" for reason, count in self.reasons.items())
            return f"{what}; missing=drop: {self.queued} queued pairs dropped by name ({named}); {self.seconds:.0f} s"
        told = ", ".join(f"{decision} {count}" for decision, count in self.settled.items())
        return f"{what}; all {self.queued} queued pairs waited, the round after settled them ({told}); {self.seconds:.0f} s"


def judges_down(runs: Runs, outage: Outage) -> OutageResult:
    """A run whose judges come back when the round that they were down for has been decided.

    Raises:
        AssertionError: if a pair is lost, or dropped or kept against the schedule.
    """
    began = time.monotonic()
    with _judges(outage.kind) as judges:
        root = runs.folder / f"down-{outage.kind.replace(' ', '-')}-{outage.missing}-{outage.mode}"
        started = runs.start(root, *_words(judges.url, outage), place=Place(of_round(AFTER_LEDGER, DOWN_ROUND)))
        assert started.wait_held(), f"round {DOWN_ROUND} was not decided:\n{started.printed[-4000:]}"
        before, during = _ledger(started, DOWN_ROUND - 1), _ledger(started, DOWN_ROUND)
        queued = before.decision == Decision.QUEUE
        assert queued.any(), "no pair waited for the judges"
        assert not judges.answered(), "the judges were not down"
        judges.come_back()
        started.go_on()
        started.finish()
    after = _ledger(started, DOWN_ROUND + 1)
    assert np.isnan(during.vote_share[queued]).all()
    reasons = Counter(str(reason) for reason in during.reason[queued])
    if outage.missing == "drop":
        assert (during.decision[queued] == Decision.DROP).all(), Counter(during.decision[queued])
        assert all("vote" in reason for reason in reasons), reasons
    else:
        assert (during.decision[queued] == Decision.QUEUE).all(), Counter(during.decision[queued])
        assert np.isin(after.decision[queued], SETTLED).all(), Counter(after.decision[queued])
        assert judges.answered(), "nobody was asked"
        assert not np.isnan(after.vote_share[queued]).any()
    settled = Counter(str(decision) for decision in after.decision[queued])
    return OutageResult(outage, int(queued.sum()), settled, reasons, time.monotonic() - began)


class _Judges:
    """A server on a port of its own that is down until it comes back."""

    def __init__(self, kind: str, closing: contextlib.ExitStack) -> None:
        self._kind, self._closing, self._down = kind, closing, True
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._server = FaultServer(lambda record, attempt: "500" if self._down else "good", port=port)
        if kind == "500":
            closing.enter_context(self._server)

    def come_back(self) -> None:
        self._down = False
        if self._kind != "500":
            self._closing.enter_context(self._server)

    def answered(self) -> int:
        return self._server.kinds["good"]


@contextlib.contextmanager
def _judges(kind: str) -> Iterator[_Judges]:
    with contextlib.ExitStack() as closing:
        yield _Judges(kind, closing)


def _words(url: str, outage: Outage) -> list[str]:
    caps = "".join(f",{name}:{share}" for name, share in CAPS.items())
    more = caps + (",missing:drop" if outage.missing == "drop" else "")
    rounds = [f"{{after_epoch:0,steps:[score,correct,filter]{caps}}}"]
    rounds += [f"{{after_epoch:{epoch},steps:[annotate]{more}}}" for epoch in (1, 2)]
    return [
        f"curation.schedule=[{','.join(rounds)}]", "trainer.max_epochs=4", *VARIANTS[outage.mode],
        "curation.annotation.probe=false", *(f"curation.annotators.{name}.base_url={url}" for name in JUDGES),
    ]  # fmt: skip


def _ledger(started: Started, number: int) -> Ledger:
    return Ledger.read(round_path(started.run_dir / "ledger", number))
