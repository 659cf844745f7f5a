"""Runs that are killed at random moments of every phase, and resumed until they are done: each ends as one left alone."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrm.construction.calling.answer_log import AnswerLog
from tests.construction.fault_server import FaultServer
from tests.soak.places import PHASES, Place
from tests.soak.runs import VARIANTS, Runs, Started, check_ledgers, compare, remove

ANY = "any moment"
ANNOTATIONS = "annotations"
SECOND_EVERY = 3  # of so many runs one is killed once more, after it was resumed


@dataclass(frozen=True)
class Moment:
    """When to kill: at a place, or where there is none, `share` of an undisturbed run's time after the start."""

    phase: str
    place: Place | None
    share: float = 0.0


def moments(passed: Mapping[str, int], number: int, rng: random.Random, first: int = 0) -> list[Moment]:
    """So many moments, spread over the phases as evenly as it goes; within a phase over all passings of its places.

    Args:
        passed: place -> times that an undisturbed run passes it.
        number: of moments.
        rng: the source of chance.
        first: number of the phase to begin with, counted round and round, so that several variants share the phases.
    """
    phases = [*PHASES, ANY]
    chosen = []
    for count in range(number):
        phase = phases[(first + count) % len(phases)]
        if phase == ANY:
            chosen.append(Moment(phase, None, rng.random()))
            continue
        ways = [Place(name, time) for name in PHASES[phase] for time in range(1, passed[name] + 1)]
        used = [moment.place for moment in chosen]
        chosen.append(Moment(phase, rng.choice([place for place in ways if place not in used] or ways)))
    rng.shuffle(chosen)
    return chosen


@dataclass(frozen=True)
class KillResult:
    """What came of it.

    Args:
        kills: phase -> SIGKILLs.
        runs: that were killed, and compared.
        answers: that one run asks for.
        asked_again: requests for answers that were in the log when a kill came; must be 0.
        under_way: requests beyond those of undisturbed runs: answers that were under way when a kill came.
        whole_s, killed_s: seconds of an undisturbed run, and of all killed ones.
    """

    kills: Counter[str]
    runs: int
    answers: int
    asked_again: int
    under_way: int
    whole_s: float
    killed_s: float

    def __str__(self) -> str:
        phases = ", ".join(f"{phase} {self.kills[phase]}" for phase in sorted(self.kills))
        return (
            f"{self.kills.total()} kills in {self.runs} runs ({phases}); all ledgers and weights are those of a run left alone; "
            f"{self.answers} answers a run, {self.asked_again} asked twice, {self.under_way} requests cut off on their way; "
            f"{self.whole_s:.0f} s undisturbed, {self.killed_s:.0f} s with kills"
        )


def killed_runs(runs: Runs, server: FaultServer, *, kills: int, seed: int, variant: str, first: int = 0) -> KillResult:
    """Kills so many runs, and compares each with an undisturbed one.

    Args:
        runs: starts them.
        server: their judges.
        kills: runs that are killed; some are killed twice.
        seed: of the moments.
        variant: of VARIANTS.
        first: the phase to begin with; see `moments`.

    Raises:
        AssertionError: if anything is lost, asked twice, or other than undisturbed.
    """
    rng, whole = random.Random(f"{seed}/{variant}"), runs.reference(variant)
    answers = len(logged(whole.run_dir))
    met: Counter[str] = Counter()
    asked_again = under_way = 0
    began = time.monotonic()
    for number, moment in enumerate(moments(whole.passed(), kills, rng, first)):
        planned, watch, requests = [moment], _Watch(server), server.asked.total()
        if number % SECOND_EVERY == 0:
            planned.append(Moment(ANY, None, 0.2 + 0.6 * rng.random()))
        last = _killed(
            runs, runs.folder / f"{variant}-killed-{number}", VARIANTS[variant], planned, whole.seconds, watch
        )
        try:
            compare(whole.run_dir, last.run_dir)
        except AssertionError as error:
            raise AssertionError(f"killed at {planned}: {error}") from error
        met.update(watch.kills)
        asked_again += watch.asked_again()
        under_way += server.asked.total() - requests - answers
        remove(last)
    assert not asked_again, f"{asked_again} answers that were in the log were asked for again"
    return KillResult(met, kills, answers, asked_again, under_way, whole.seconds, time.monotonic() - began)


def _killed(
    runs: Runs, root: Path, words: Sequence[str], planned: Sequence[Moment], whole_s: float, watch: _Watch
) -> Started:
    """A run that is killed at each of these moments, as far as it gets there, and resumed to its end."""
    for moment in planned:
        started = runs.start(root, *words, place=moment.place)
        if not (started.wait_held() if moment.place else started.wait_for(moment.share * whole_s)):
            started.finish()
            assert moment.place is None, f"{moment.place} was not reached"
            return started
        started.kill()
        watch.note(moment.phase, started)
    return runs.run(root, *words)


class _Watch:
    """What one run's kills leave, and which answers the log had at each."""

    def __init__(self, server: FaultServer) -> None:
        self.kills: list[str] = []
        self._server = server
        self._asked_at_kill: dict[str, int] = {}

    def note(self, phase: str, started: Started) -> None:
        """Takes in what a kill left; a ledger under its own name must be whole."""
        self.kills.append(phase)
        if not started.run_dir.exists():
            return
        check_ledgers(started.run_dir)
        for name in logged(started.run_dir):
            self._asked_at_kill.setdefault(name, self._server.asked[name])

    def asked_again(self) -> int:
        """Requests for answers that were in the log at a kill."""
        return sum(self._server.asked[name] - count for name, count in self._asked_at_kill.items())


def logged(run_dir: Path) -> list[str]:
    """The names, at the server, of the answers in a run's log."""
    if not (run_dir / ANNOTATIONS).exists():
        return []
    with AnswerLog(run_dir / ANNOTATIONS, write=False) as log:
        return [each.answer.model.removeprefix("judge-") for each in log.answers()]
