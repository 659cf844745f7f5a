"""The judges of a curation: asked at a boundary, while the training waits, or beside the epochs between two.

Which calls show a pair and which votes the answers are is `mrm.construction.annotating`'s; reading, asking and the log are
`pair_asking.py`'s; counting the votes is the policy's.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.pair_asking import AskedPairs, ask_about, run_judges
from datamodules.index import Index
from mrm.construction.annotating import ORDERS, PairAskings
from mrm.construction.calling.background import BackgroundRun
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Call, Model
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.calling.runner import BUDGET
from mrm.construction.calling.shared_log import open_when_free
from mrm.construction.judging import Rubrics
from mrm.errors import ConfigError, CurationError, RecordError
from mrm.preference import PreferenceSample

MODES = ("sync", "async")
Poll = Callable[[], None]

log = logging.getLogger(__name__)


class Annotators:
    """The judges of a curation, and the log of their answers.

    What is guaranteed:

    - An answer is asked for once. It is in the log before it counts, found there by what was asked (judge, settings, words,
      images), and never asked for again: neither by a round that is done again after a kill, nor by a later one, nor by another run with
      the same folder.
    - The votes on a pair depend on the answers in the log alone, not on when or in which order they came. An asking ends when each call is
      answered, given up, or its judge or the budget is at its end, as `settings` bound it; `collect` waits for that. So a round that is
      killed and done again decides the same, given the same answers; a call that was given up is asked again, and may be answered.
    - A judge that is down, refuses its key, or whose budget is spent costs votes (NaN), which is told, and not the training. The next
      asking asks it again.
    - Of pairs that are asked about beside the training, exactly those have votes at the next boundary that waited in the ledger before
      it: which they are depends on the ledger, not on how fast answers came.

    The log is open while somebody is asked, and one process at a time has it; runs that share a folder take turns. A budget counts
    all that was ever asked into the folder.

    Args:
        judges: J models of different names.
        rubrics: one for each language that prompts are in.
        folder: of the answers; made where it is missing, nothing is opened before somebody is asked.
        settings: limits, tries, waits and budget of an asking; None takes the defaults.
        mode: "sync" asks at the boundary, and the training waits; "async" asks beside the training about what a round queued,
            and the next boundary that annotates takes the answers.

    Raises:
        ConfigError: for judges that cannot be asked together, or an unknown mode.
    """

    def __init__(
        self,
        judges: Sequence[Model],
        rubrics: Rubrics,
        folder: Path,
        *,
        settings: RunSettings | None = None,
        mode: str = "sync",
    ) -> None:
        self.askings = PairAskings(tuple(judges), rubrics)
        self.folder, self.settings, self.mode = Path(folder), settings or RunSettings(), mode
        self._asking: tuple[np.ndarray, BackgroundRun[AskedPairs]] | None = None
        self._earlier: list[BackgroundRun[AskedPairs]] = []
        if problems := self._problems():
            raise ConfigError(f"annotators: {' '.join(problems)}")

    @property
    def names(self) -> list[str]:
        """Of the judges, in their order."""
        return [judge.name for judge in self.askings.judges]

    @property
    def identity(self) -> dict[str, Any]:
        """All that their votes depend on, as JSON types; no key, no address."""
        rubrics = {language: rubric.digest for language, rubric in self.askings.rubrics.items()}
        judges = [{"name": judge.name, **judge.identity} for judge in self.askings.judges]
        return {"judges": judges, "rubrics": rubrics, "mode": self.mode}

    def ask(self, index: Index, queue: np.ndarray, *, progress: bool = False, poll: Poll | None = None) -> AskedPairs:
        """Asks about pairs, and waits for the answers.

        It works in a thread of its own, so that the signal handlers of the trainer stay in force.

        Args:
            index: where the samples lie.
            queue: int64[Q], rising numbers of pairs in the index.
            progress: whether to show a bar.
            poll: called several times a second meanwhile; what it raises ends the asking. Answers so far are kept.

        Raises:
            ResumableError: if the log cannot be written.
            ConfigError: if its folder cannot be opened.
        """
        queue = np.asarray(queue, np.int64)
        return self._begin(index, queue, progress).result(poll)

    def start(self, index: Index, queue: np.ndarray) -> None:
        """Begins to ask about pairs beside what follows; nothing, if these are being asked about already.

        An asking about other pairs that is still under way goes on to its end first: what it paid for is not to be lost.

        Args:
            index, queue: as of `ask`.
        """
        queue = np.asarray(queue, np.int64)
        if self._asking is not None and np.array_equal(self._asking[0], queue):
            return
        self._set_aside()
        if len(queue):
            log.info("asking %s about %d pairs beside the training", ", ".join(self.names), len(queue))
            self._asking = queue, self._begin(index, queue, False)

    def collect(
        self, index: Index, queue: np.ndarray, begun: np.ndarray, *, progress: bool = False, poll: Poll | None = None
    ) -> AskedPairs:
        """Takes the answers about pairs that were asked about beside the training; waits for those under way.

        Where nothing is under way, as in a process that was resumed at the boundary, it asks now about all of them: the log has what
        was answered, and the figures are those of a run left alone. Votes that are missing then are asked for once more, as that process
        would ask for them.

        Args:
            queue: int64[Q], rising, the pairs that wait now.
            begun: int64[B], rising, those that waited when asking began. The others have no votes: they are asked about next.

        The other arguments, and what it raises, as of `ask`.
        """
        queue, begun = np.asarray(queue, np.int64), np.asarray(begun, np.int64)
        known = np.isin(queue, begun)
        if self._asking is not None and np.array_equal(self._asking[0], begun):
            (_, run), self._asking = self._asking, None
            asked = run.result(poll)
            if asked.figures["annotation_failed"]:  # a judge was down, and may be back: what it answered is in the log
                asked = self.ask(index, begun, progress=progress, poll=poll)
        else:
            self._set_aside()
            asked = self.ask(index, begun, progress=progress, poll=poll)
        votes, unreadable = np.full((len(queue), self.askings.votes), np.nan), [""] * len(queue)
        places = np.searchsorted(begun, queue[known])
        votes[known] = asked.votes[places]
        for row, place in zip(np.flatnonzero(known), places, strict=True):
            unreadable[row] = asked.unreadable[place]
        return AskedPairs(votes, unreadable, asked.figures, asked.account, known)

    def settle(
        self, index: Index, queue: np.ndarray, begun: np.ndarray, *, progress: bool = False, poll: Poll | None = None
    ) -> AskedPairs:
        """What a round is told about its queue, as the mode has it: `ask`, or `collect`, whose arguments these are."""
        if self.mode == "sync":
            return self.ask(index, queue, progress=progress, poll=poll)
        return self.collect(index, queue, begun, progress=progress, poll=poll)

    def stop(self) -> None:
        """Ends what is asked beside the training; answers so far are kept."""
        self._set_aside()
        while self._earlier:
            self._earlier.pop().cancel()

    def check(self) -> None:
        """Looks whether the judges can be asked, without asking.

        Raises:
            ConfigError: for a key that is not there.
        """
        for judge in self.askings.judges:
            if (check := getattr(judge, "check", None)) is not None:
                check()

    def probe(self, samples: Mapping[str, PreferenceSample], poll: Poll | None = None) -> CallAccount:
        """Shows every judge the first pair of some samples, as a round would; answers are kept for it.

        Args:
            samples: data set -> a sample of it.
            poll: as of `ask`.

        Raises:
            ConfigError: for a wrong key, address or model, or data that a judge cannot know.
            CurationError: for a judge that gave no answer that can be used; names judge, data set and reason.
        """
        calls: list[Call] = []
        for name, sample in samples.items():
            try:
                planned = self.askings.plan(sample, sample.pairs[0].chosen, sample.pairs[0].rejected)
            except RecordError as error:
                log.warning("data set %s: its first sample is not shown to the judges: %s", name, error)
                continue
            calls += planned[::ORDERS]  # the first one is enough
        return BackgroundRun(lambda: self._probe(calls)).result(poll)

    async def _probe(self, calls: Sequence[Call]) -> CallAccount:
        with await open_when_free(self.folder) as answers:
            account = await run_judges(self.askings, calls, answers, self.settings)
            silent = {call.model: call.record for call in calls if call.key not in answers}
        if silent and not account.not_asked[BUDGET]:
            told = ", ".join(f"{judge!r} about sample {record!r}" for judge, record in silent.items())
            raise CurationError(
                f"no answer of {told} that can be used.\n"
                + "\n".join(account.lines())
                + f"\n{self.folder} has what came."
                " Mend the judge, leave it out (curation.annotators.NAME.use=false), or start without asking"
                " (curation.annotation.probe=false): pairs then wait in the queue until it answers."
            )
        if silent:
            log.warning("%s; the judges were not looked at", account.stopped or "the budget is reached")
        return account

    def _begin(self, index: Index, queue: np.ndarray, progress: bool) -> BackgroundRun[AskedPairs]:
        return BackgroundRun(
            lambda: ask_about(self.askings, index, queue, self.folder, settings=self.settings, progress=progress)
        )

    def _set_aside(self) -> None:
        """What is under way is no longer waited for; while it has the log, the next asking waits for it."""
        self._earlier = [run for run in self._earlier if not run.is_done]
        if self._asking is not None:
            self._earlier.append(self._asking[1])
        self._asking = None

    def _problems(self) -> list[str]:
        names = [judge.name for judge in self.askings.judges]
        problems = [] if names else ["there are no judges."]
        if len(set(names)) != len(names):
            problems.append(f"judges need different names, found {names}.")
        problems += [
            f"{first.name!r} and {second.name!r} are one model asked in one way, whose answers are the same; keep one."
            for first, second in itertools.combinations(self.askings.judges, 2)
            if first.identity == second.identity
        ]
        if self.mode not in MODES:
            problems.append(f"mode={self.mode!r} is none of {', '.join(MODES)}.")
        return problems
