"""One run over a source: records are read here in order, their images checked in workers, and the results written in order.

What is written depends on the source and the recipe alone, not on the number of workers or on kills in between. Folders,
locks and what becomes of the finished shards are left to `prepare.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from operator import length_hint
from pathlib import Path
from typing import Any

from datamodules.contamination import QUESTION, Benchmarks, load_benchmarks
from datamodules.digests import digest, pair_digests, part_of
from datamodules.image_checks import ImageChecks, ImageReport, ImageTask
from datamodules.journal import Staging
from datamodules.ordered_pool import OrderedPool, available_cpus
from datamodules.prepare_config import parse_part, source_options
from datamodules.prepare_progress import RecordProgress
from datamodules.prepare_result import DUPLICATE, PrepareResult, UnreadableRecords
from datamodules.recipe import benchmark_paths
from datamodules.resizing import resizing_for
from datamodules.shard_tars import Members, ShardTars, duplicate_key, members_of
from datamodules.sources import get_source
from datamodules.sources.base import Item, Skipped
from mrm.construction.placements import Placements
from mrm.construction.reformulation import T2I_PROMPTS, T2IPreference, reformulate
from mrm.errors import ConfigError, RecordError, ResumableError
from mrm.preference import PreferenceSample


@dataclass(frozen=True)
class _Accepted:
    """A sample to write: its members, its pairs' digests, and what was done to it."""

    sample: PreferenceSample
    members: Members
    pairs: list[bytes]
    dropped: list[str]
    resized: int


class InputChangedError(ConfigError):
    """The source gives other records than when the run was interrupted that this one would go on with."""


class Preparation:
    """Writes a source's records into a staging folder, from where an earlier run of the same recipe left off.

    Args:
        settings: as `prepare_config.resolve` gives them.
        staging: the folder.
        target: where the shards will be in the end.
    """

    def __init__(self, settings: dict[str, Any], staging: Staging, target: Path) -> None:
        self._settings = settings
        self._staging = staging
        self._number, self._parts = parse_part(settings["part"])
        self._workers = settings["workers"] or available_cpus()
        self._benchmarks: Benchmarks | None = None
        last = staging.last
        self.result = PrepareResult(target) if last is None else PrepareResult.from_json(target, last.result)
        self.unreadable = UnreadableRecords() if last is None else UnreadableRecords(**last.unreadable)
        self._position, self._last_key = (0, "") if last is None else (last.position, last.last_key)
        used = None if last is None else last.placed
        self._placements = Placements(settings["t2i_wordings"], _side_seed(settings), used)
        max_bytes = int(settings["shard_mb"] * 2**20)
        self._tars = ShardTars(staging.directory, max_bytes=max_bytes, first=len(staging.shards))

    def run(self) -> None:
        """Reads, checks and writes all records that are not dealt with yet.

        Raises:
            ConfigError: for an input of another form, or one that changed since the run that this one goes on with.
            ResumableError: where a worker was killed or nothing can be written; the finished shards are kept.
        """
        if self._staging.last is not None and self._staging.last.complete:
            return
        checks = self._checks()
        settings = self._settings
        items = get_source(settings["source"])(settings["input"], **source_options(settings))
        title = f"prepare {settings['source']}{'' if settings['part'] is None else ' ' + settings['part']}"
        progress = RecordProgress(title, total=length_hint(items), start=self._position, show=settings["show_progress"])
        with OrderedPool(checks, self._workers) as pool, progress:
            stream = self._assigned(items)
            done = pool.map(stream, _task_of, size_of=lambda task: task.size, name_of=lambda item: _name(item[1]))
            for (position, item), report in done:
                self._settle(item, report)
                self._position, self._last_key = position, _name(item)
                progress.update(position, self.result.skipped.total())
            progress.end(self._position, self.result.skipped.total())
        assert self.result.read == self.result.written + self.result.skipped.total()
        self._commit(complete=True)

    def close(self) -> None:
        """Lets go of what is not finished."""
        self._tars.discard()

    def _checks(self) -> ImageChecks:
        settings = self._settings
        if settings["decontaminate"] is not None:
            self._benchmarks = load_benchmarks(
                benchmark_paths(settings),
                distance=settings["contaminated_distance"],
                question_chars=settings["contaminated_question_chars"],
                workers=self._workers,
            )
        budget = settings["max_pixels"]
        return ImageChecks(
            settings["max_image_pixels"],
            None if self._benchmarks is None else self._benchmarks.images,
            None if budget is None else resizing_for(settings["backbone"], budget),
        )

    def _assigned(self, items: Iterator[Item]) -> Iterator[tuple[int, Item]]:
        """The records of this part that are not dealt with, each with the number of records read with it.

        Raises:
            ConfigError: where the source does not give the records that it gave before.
        """
        begin, last_key = self._position, self._last_key  # both change while this runs
        position = 0
        for position, item in enumerate(items, start=1):
            if position > begin:
                if self._parts == 1 or part_of(item, self._parts) == self._number - 1:
                    yield position, _screen(item)
            elif position == begin and _name(item) != last_key:
                raise InputChangedError(
                    f"input: record {position} is {_name(item)!r} now and was {last_key!r} when the run was interrupted that this "
                    "one goes on with; the input has changed: run again to begin anew."
                )
        if position < begin:
            raise InputChangedError(
                f"input: {position} records now, {begin} were read before the run was interrupted that this one goes on with; "
                "the input has changed: run again to begin anew."
            )

    def _settle(self, item: Item, report: ImageReport) -> None:
        """Writes a record or counts it as skipped."""
        key = _name(item)
        try:
            made = self._accept(item, report)
        except RecordError as error:
            self.result.skip(error.reason, [key])
            self.unreadable.note(key, error)
            self._list(key, error.reason, str(error))
        else:
            self._write(made)
            for detail in made.dropped:
                self._list(key, "duplicate pair", detail)
            if isinstance(item, T2IPreference):  # only a written one uses its side up: the balance is exact
                self._placements.take(item.key)
        self.result.read += 1

    def _accept(self, item: Item, report: ImageReport) -> _Accepted:
        """What is to be written of a record; changes nothing.

        Raises:
            RecordError: for a record that was skipped, breaks a rule, is there already, or is a benchmark's.
        """
        if isinstance(item, Skipped):
            raise RecordError(item.reason, item.detail)
        if self._staging.seen.has_key(item.key):
            raise duplicate_key(item.key)
        if report.problem is not None:
            raise report.problem
        if self._benchmarks is not None and (found := self._benchmarks.find_question(item)) is not None:
            raise RecordError(QUESTION, f"sample {item.key!r}: {found}.")
        digests = pair_digests(item, report.digests) if self._settings["deduplicate"] else []
        item = _with_images(item, report.smaller)
        sample = self._reformulated(item) if isinstance(item, T2IPreference) else item
        sample, digests, dropped = self._without_duplicates(sample, digests)
        resized = sum(data is not None for data in report.smaller)
        return _Accepted(sample, members_of(sample), digests, dropped, resized)

    def _reformulated(self, preference: T2IPreference) -> PreferenceSample:
        placement = self._placements.look(preference.key)
        template = T2I_PROMPTS[placement.wording]
        return reformulate(preference, preferred_first=placement.preferred_first, template=template)

    def _without_duplicates(
        self, sample: PreferenceSample, digests: list[bytes]
    ) -> tuple[PreferenceSample, list[bytes], list[str]]:
        """The sample without pairs that are written already, the digests of those left, and what was left out.

        Raises:
            RecordError: "duplicate", naming the first sample with them, where no pair is left.
        """
        own: set[bytes] = set()
        firsts = []
        for made in digests:
            firsts.append(self._staging.seen.first_with(made) or (sample.key if made in own else None))
            own.add(made)
        if not any(firsts):
            return sample, digests, []
        if all(firsts):
            raise RecordError(
                DUPLICATE, f"sample {sample.key!r}: images, prompt and responses are those of sample {firsts[0]!r}."
            )
        dropped = [
            f"sample {sample.key!r}: pair {number} is one of sample {first!r}, and left out; its other pairs are written."
            for number, first in enumerate(firsts)
            if first is not None
        ]
        pairs = tuple(pair for pair, first in zip(sample.pairs, firsts, strict=True) if first is None)
        left = [made for made, first in zip(digests, firsts, strict=True) if first is None]
        return dataclasses.replace(sample, pairs=pairs), left, dropped

    def _write(self, made: _Accepted) -> None:
        key = made.sample.key
        if not self._tars.has_room(key, made.members):
            self._commit(complete=False)
        try:
            self._tars.write(key, made.members)
        except OSError as error:
            raise self._unwritable(error) from error
        self._staging.seen.add(key, made.pairs)
        self.result.written += 1
        self.result.pairs += len(made.sample.pairs)
        self.result.duplicate_pairs += len(made.dropped)
        self.result.resized += made.resized

    def _list(self, key: str, reason: str, detail: str) -> None:
        line = json.dumps({"key": key, "reason": reason, "detail": detail})
        self._staging.skipped.write(line.encode() + b"\n")

    def _commit(self, *, complete: bool) -> None:
        """Ends the open shard and enters it in the journal."""
        try:
            self._staging.commit(
                self._tars.close(),
                position=self._position,
                last_key=self._last_key,
                placed=list(self._placements.used),
                result=self.result.to_json(),
                unreadable=asdict(self.unreadable),
                complete=complete,
            )
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ResumableError:
        return ResumableError(
            f"output: {self._staging.path} cannot be written ({error}); {len(self._staging.shards)} finished shards are "
            "kept: make room and run the same again to go on behind them."
        )


def _side_seed(settings: dict[str, Any]) -> int:
    """The seed of the sides; parts draw sides of their own, so that what is over in each is not on one side."""
    if settings["part"] is None:
        return settings["seed"]
    return int.from_bytes(digest(str(settings["seed"]).encode(), settings["part"].encode())[:8], "little")


def _screen(item: Item) -> Item:
    """The item, or the reason why it can be no sample whichever side its preferred image stands on."""
    if isinstance(item, T2IPreference):
        try:
            reformulate(item, preferred_first=True)
        except RecordError as error:
            return Skipped(_name(item), error.reason, str(error))
    return item


def _task_of(entry: tuple[int, Item]) -> ImageTask:
    item = entry[1]
    if isinstance(item, Skipped):
        return ImageTask(_name(item), ())
    images = (item.preferred, item.other) if isinstance(item, T2IPreference) else item.images
    return ImageTask(item.key, images)


def _with_images(item: PreferenceSample | T2IPreference, smaller: tuple[bytes | None, ...]):
    """The item with some images written anew.

    Raises:
        RecordError: where that breaks a rule: two images may be the same once they are small.
    """
    if not any(smaller):
        return item
    if isinstance(item, T2IPreference):
        return dataclasses.replace(item, preferred=smaller[0] or item.preferred, other=smaller[1] or item.other)
    images = tuple(new or old for new, old in zip(smaller, item.images, strict=True))
    return dataclasses.replace(item, images=images)


def _name(item: Item) -> str:
    """A record's key as it can be printed: one from data may not be a text that can be encoded."""
    return str(item.key).encode("utf-8", "backslashreplace").decode()
