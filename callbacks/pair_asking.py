"""One asking: queued pairs are read, put to the judges in both orders, and their votes read from the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datamodules.index import Index
from datamodules.reading import read_sample
from mrm.construction.annotating import PairAskings, votes_of
from mrm.construction.calling.answer_log import AnswerLog
from mrm.construction.calling.call_account import CallAccount
from mrm.construction.calling.calls import Call
from mrm.construction.calling.log_lines import LoggedAnswer
from mrm.construction.calling.run_progress import CallProgress
from mrm.construction.calling.run_settings import RunSettings
from mrm.construction.calling.runner import run_calls
from mrm.construction.calling.shared_log import open_when_free
from mrm.construction.judging import acceptor
from mrm.construction.rubrics import Rubric
from mrm.errors import ConfigError, RecordError, ShardError
from mrm.preference import PreferenceSample

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AskedPairs:
    """What came of putting Q pairs to J judges.

    Args:
        votes: float64[Q, 2J], each vote's share for the published choice (1, 0, or 0.5 for a tie); NaN where no answer came.
        unreadable: Q texts, why a pair could not be shown, "" where it could.
        figures: `annotation_calls`, the votes expected of the pairs that could be shown; `annotation_failed`, those that are
            missing; `annotation_tokens` and `annotation_cost`, of the answers behind the others, whenever they were paid for. The same
            whether answers were asked for now or found.
        account: of the calls of this asking.
        asked: bool[Q], which of the pairs were asked about; None: all.
    """

    votes: np.ndarray
    unreadable: list[str]
    figures: dict[str, float]
    account: CallAccount
    asked: np.ndarray | None = None


async def ask_about(
    askings: PairAskings, index: Index, queue: np.ndarray, folder: Path, *, settings: RunSettings, progress: bool
) -> AskedPairs:
    """Asks about pairs what the log does not answer yet, and reads the votes.

    Args:
        askings: who is asked, and how.
        index: where the samples lie.
        queue: int64[Q], rising numbers of pairs in the index.
        folder: of the log.
        settings: of the run of calls.
        progress: whether to show a bar.

    Raises:
        ResumableError: if the log cannot be written.
        ConfigError: if its folder cannot be opened.
    """
    plan = _Plan(askings, index, queue)
    if not len(queue):
        return plan.outcome(lambda key: None, CallAccount())
    with await open_when_free(folder) as answers:
        calls = plan.calls()
        with CallProgress("Asking the judges", total=len(queue) * askings.votes, show=progress) as shown:
            account = await _asked(askings, calls, answers, settings, _Watch(shown))
        for _ in calls:  # what was not taken any more may have been answered before
            pass
        asked = plan.outcome(answers.get, account)
    missing = asked.figures["annotation_failed"]
    tell = log.warning if missing else log.info
    tell("judges asked about %d pairs, %d votes missing: %s", len(queue), missing, "; ".join(account.lines()))
    return asked


async def run_judges(
    askings: PairAskings, calls: Iterable[Call], answers: AnswerLog, settings: RunSettings, watch: _Watch | None = None
) -> CallAccount:
    """Has the judges' calls answered; what it raises, as of `run_calls`."""
    models = {judge.name: judge for judge in askings.judges}
    accept = acceptor(askings.rubrics)
    return await run_calls(calls, models, answers, accept=accept, settings=settings, progress=watch)


async def _asked(
    askings: PairAskings, calls: Iterator[Call], answers: AnswerLog, settings: RunSettings, watch: _Watch
) -> CallAccount:
    """The account; of a judge that refuses too, which is a matter of its votes and not of the training."""
    try:
        return await run_judges(askings, calls, answers, settings, watch)
    except ConfigError as error:  # a key taken back, no credit left: before the training, they were looked at
        log.error("a judge cannot be asked: %s\nIts pairs wait for it.", error)
        watch.account.stopped = str(error)
        return watch.account


@dataclass
class _Plan:
    """The calls about a queue, made as they are asked for, and their keys, by which the answers are found."""

    askings: PairAskings
    index: Index
    queue: np.ndarray
    keys: list[list[str]] = field(init=False)
    rubrics: list[Rubric | None] = field(init=False)
    unreadable: list[str] = field(init=False)

    def __post_init__(self) -> None:
        pairs = len(self.queue)
        self.keys, self.rubrics, self.unreadable = [[] for _ in range(pairs)], [None] * pairs, [""] * pairs

    def calls(self) -> Iterator[Call]:
        """All of them, pair by pair; each sample is read once."""
        samples, starts = np.unique(
            self.index.pair_sample[self.queue], return_index=True
        )  # its pairs stand side by side
        places_of = np.split(np.arange(len(self.queue)), starts[1:])
        for row, places in zip(samples.tolist(), places_of, strict=True):
            try:
                sample = read_sample(self.index, row)
                planned = [self._planned(sample, int(self.queue[place])) for place in places]
            except (RecordError, ShardError) as error:
                log.warning("not shown to the judges: %s", error)
                for place in places:
                    self.unreadable[place] = getattr(error, "reason", "the sample cannot be read")
                continue
            for place, calls in zip(places, planned, strict=True):
                self.keys[place] = [call.key for call in calls]
                self.rubrics[place] = self.askings.rubric(sample)
                yield from calls

    def _planned(self, sample: PreferenceSample, pair: int) -> list[Call]:
        return self.askings.plan(sample, int(self.index.pair_chosen[pair]), int(self.index.pair_rejected[pair]))

    def outcome(self, answer: Callable[[str], LoggedAnswer | None], account: CallAccount) -> AskedPairs:
        """The votes, once all calls were taken.

        Args:
            answer: gives a call's logged answer, or None.
            account: of the asking.
        """
        votes = np.full((len(self.queue), self.askings.votes), np.nan)
        taken: dict[str, tuple[int, float]] = {}
        for place, (keys, rubric) in enumerate(zip(self.keys, self.rubrics, strict=True)):
            if rubric is None:
                continue
            answers = [answer(key) for key in keys]
            votes[place] = votes_of(answers, rubric)
            taken |= {
                each.key: (each.answer.input_tokens + each.answer.output_tokens, each.cost or 0.0)
                for each in answers
                if each is not None
            }
        shown = votes[[rubric is not None for rubric in self.rubrics]]
        figures = {
            "annotation_calls": shown.size,
            "annotation_failed": int(np.isnan(shown).sum()),
            "annotation_tokens": sum(tokens for tokens, _ in taken.values()),
            "annotation_cost": sum(cost for _, cost in taken.values()),
        }
        return AskedPairs(votes, self.unreadable, figures, account)


class _Watch:
    """Keeps hold of a run's account, which the run does not give back where it ends in an error; shows it as well."""

    def __init__(self, shown: CallProgress) -> None:
        self.account = CallAccount()
        self._shown = shown

    def update(self, account: CallAccount, under_way: int) -> None:
        """See `Watcher.update`."""
        self.account = account
        self._shown.update(account, under_way)
