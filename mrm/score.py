"""`python -m mrm.score model=DIR input=pairs.jsonl output=scores.jsonl`: rewards of responses, with a saved model.

The input is this project's plain format (see `datamodules.sources.jsonl`), a line a prompt with its responses; a preference
among them may be left out: {"prompt": ..., "responses": [...]}. The output has a line a prompt: {"key", "rewards": [one a
response]}, and "chosen" and "rejected", the rewards of the pair, where there is exactly one. Lines that cannot be used are
counted and named; OUTPUT.skipped.jsonl lists them: {"key", "record": its number in the input from 1, blank lines not counted,
"reason", "detail"}. The output appears under its name only when it is whole; until then, and where it is given up, it is
OUTPUT.partial.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import length_hint
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
from omegaconf import MISSING
from rich.console import Console

from datamodules.sources.base import Skipped
from mrm.cli import settings_command
from mrm.devices import device_problems
from mrm.errors import ConfigError, RecordError, UnreadableSamplesError
from mrm.model.encoding import Encodable, EncodedSample, Encoder
from mrm.model.packing import NO_EDGES, check_fits, collate
from mrm.model.reward_model import RewardModel
from mrm.preference import Pair
from mrm.progress import shown
from mrm.score_input import Candidates, read_candidates
from mrm.scoring_model import load_scoring_model

NAMED = 5  # bad lines told one by one for each reason; the file of skipped ones has them all

log = logging.getLogger(__name__)


@dataclass
class ScoreConfig:
    """What the command takes."""

    model: str = MISSING  # the `model` folder of a run
    input: str = MISSING  # pairs or responses as JSON Lines, the plain format
    output: str = MISSING  # FILE, a line a line of the input
    batch_size: int = 16  # samples a forward pass
    row_tokens: int | None = None  # of a packed row; null takes the model's own
    max_pixels: int | None = None  # null takes the model's own resolution
    device: str = "auto"  # auto | cpu | cuda
    dtype: str = "float32"  # float32 | bfloat16
    attention: str = "auto"  # auto | tree | sdpa | flex_attention | eager | flash_attention_2 | flash_attention_3
    max_bad: float = 0.01  # share of bad lines that stops the scoring; 1 never does
    progress: bool = True  # a bar


class Scorable(Encodable, Protocol):
    """A prompt with responses, and the preferences among them, as a sample or a line of the input has them."""

    @property
    def pairs(self) -> tuple[Pair, ...]: ...


@dataclass
class ScoreResult:
    """What became of the lines: read = scored + all bad."""

    read: int = 0
    scored: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)  # reason -> what was wrong with the first line of it

    def note(self, key: str, reason: str, detail: str) -> None:
        """Counts a bad line; the first few of each reason keep their name."""
        self.bad[reason] += 1
        self.details.setdefault(reason, detail)
        if self.bad[reason] <= NAMED:
            self.named.setdefault(reason, []).append(key)


@dataclass
class BadLines:
    """Notes the lines that cannot be used, in the result and in the file that lists them."""

    result: ScoreResult
    file: TextIO

    def add(self, record: int, key: str, reason: str, detail: str) -> None:
        self.result.note(key, reason, detail)
        self.file.write(json.dumps({"key": key, "record": record, "reason": reason, "detail": detail}) + "\n")


def score(config: ScoreConfig) -> ScoreResult:
    """Scores a file.

    Raises:
        ConfigError: for a model, input or setting that cannot be used.
        UnreadableSamplesError: for more bad lines than `max_bad` allows; the scores are in OUTPUT.partial.

    The bad lines are listed in OUTPUT.skipped.jsonl, which is there only if there are any.
    """
    _check(config)
    items = read_candidates(Path(config.input))
    result = ScoreResult()
    output, partial, _ = _files(config)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("w")
    except OSError as error:
        raise ConfigError(f"output={config.output!r}: cannot be written: {error}.") from error
    try:
        with file:
            model, encoder, device = load_scoring_model(config)
            with _bad_lines(result, config) as bad:
                for batch in _batches(
                    shown(items, "score", total=length_hint(items) or None, show=config.progress),
                    encoder,
                    config,
                    model.layout,
                    bad,
                ):
                    samples = [(sample, encoded) for _, sample, encoded in batch]
                    lines = score_batch(model, encoder, samples, row_tokens=config.row_tokens, device=device)
                    for (record, _, _), line in zip(batch, lines, strict=True):
                        _write(file, line, record, bad)
        _check_bad(result, config)
        partial.replace(output)
    finally:
        if not result.scored:
            partial.unlink(missing_ok=True)
    return result


def _files(config: ScoreConfig) -> tuple[Path, Path, Path]:
    """The output, what it is called until it is whole, and the list of bad lines."""
    output = Path(config.output)
    return output, Path(f"{output}.partial"), Path(f"{output}.skipped.jsonl")


@contextmanager
def _bad_lines(result: ScoreResult, config: ScoreConfig) -> Iterator[BadLines]:
    _, _, path = _files(config)
    try:
        with path.open("w") as file:
            yield BadLines(result, file)
    finally:
        if not result.bad:
            path.unlink(missing_ok=True)


def _write(file: TextIO, line: dict[str, Any], record: int, bad: BadLines) -> None:
    if not all(map(math.isfinite, line["rewards"])):
        detail = f"the rewards are {line['rewards']}: the model has diverged, or dtype is too narrow for it."
        bad.add(record, line["key"], "reward not finite", detail)
        return
    file.write(json.dumps(line, allow_nan=False) + "\n")
    bad.result.scored += 1


@torch.inference_mode()
def score_batch(
    model: RewardModel,
    encoder: Encoder,
    batch: Sequence[tuple[Scorable, EncodedSample]],
    *,
    row_tokens: int | None,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Rewards of all responses of some samples, as lines of the output."""
    items = [(encoded, NO_EDGES) for _, encoded in batch]
    packed = collate(items, row_tokens=row_tokens, pad_id=encoder.pad_id, layout=model.layout)
    rewards = iter(model(packed.to(device)).tolist())
    lines = []
    for sample, _ in batch:
        own = [next(rewards) for _ in sample.responses]
        line: dict[str, Any] = {"key": sample.key, "rewards": own}
        if len(sample.pairs) == 1:
            line |= {"chosen": own[sample.pairs[0].chosen], "rejected": own[sample.pairs[0].rejected]}
        lines.append(line)
    return lines


def _batches(
    items: Iterable[Any], encoder: Encoder, config: ScoreConfig, layout: str, bad: BadLines
) -> Iterator[list[tuple[int, Candidates, EncodedSample]]]:
    """Readable samples with their numbers in batches, in the input's order; the others are noted."""
    batch: list[tuple[int, Candidates, EncodedSample]] = []
    seen: dict[str, int] = {}
    for record, item in enumerate(items, start=1):
        bad.result.read = record
        if isinstance(item, Skipped):
            bad.add(record, item.key, item.reason, item.detail)
            continue
        if item.key in seen:
            detail = f"record {record} has the key {item.key!r} of record {seen[item.key]}; keys must differ."
            bad.add(record, item.key, "duplicate key", detail)
            continue
        seen[item.key] = record
        try:
            encoded = encoder.encode(item)
            check_fits(encoded, config.row_tokens, layout)
            batch.append((record, item, encoded))
        except RecordError as error:
            bad.add(record, item.key, error.reason, str(error))
        if len(batch) == config.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _check(config: ScoreConfig) -> None:
    problems = []
    if config.batch_size < 1:
        problems.append(f"batch_size={config.batch_size}: must be at least 1.")
    if config.row_tokens is not None and config.row_tokens < 1:
        problems.append(f"row_tokens={config.row_tokens}: must be at least 1, or null.")
    if config.max_pixels is not None and config.max_pixels < 1:
        problems.append(f"max_pixels={config.max_pixels}: must be at least 1, or null.")
    problems += device_problems(config.device)
    if not 0 <= config.max_bad <= 1:
        problems.append(f"max_bad={config.max_bad}: must be in [0, 1].")
    if not (config.model and Path(config.model).is_dir()):
        problems.append(f"model={config.model!r}: there is no such folder; give the `model` folder of a finished run.")
    if not Path(config.input).is_file():
        problems.append(f"input={config.input!r}: there is no such file.")
    elif Path(config.input).resolve() in [path.resolve() for path in _files(config)]:
        problems.append(f"output={config.output!r}: would write over the input; choose another name.")
    if Path(config.output).is_dir():
        problems.append(f"output={config.output!r}: is a folder; name a file in it.")
    if problems:
        raise ConfigError("\n".join(problems))


def _check_bad(result: ScoreResult, config: ScoreConfig) -> None:
    _, partial, skipped = _files(config)
    if not result.scored:
        listed = f" All are listed in {skipped}." if result.bad else ""
        raise ConfigError(
            f"input={config.input!r}: none of its {result.read} lines could be used: {told(result)}.{listed}"
        )
    if result.bad.total() > config.max_bad * result.read:
        raise UnreadableSamplesError(
            f"{result.bad.total()} of {result.read} lines could not be used, more than max_bad={config.max_bad:g}: "
            f"{told(result)}. Mend them, all are listed in {skipped}, or raise max_bad to go on without them. "
            f"The {result.scored} scores of the others are in {partial}."
        )


def told(result: ScoreResult) -> str:
    """The bad lines: how many for each reason, the first few by name, and what was wrong with the first."""
    parts = []
    for reason, number in result.bad.most_common():
        more = ", ..." if number > NAMED else ""
        named = f"{', '.join(result.named[reason])}{more}"
        parts.append(f"{number} x {reason} ({named}; the first: {result.details[reason].rstrip('.')})")
    return "; ".join(parts) or "the input is empty"


def run(config: ScoreConfig) -> None:
    """Scores a file and says what became of it."""
    result = score(config)
    bad = f" Not used, and listed in {_files(config)[2]}: {told(result)}." if result.bad else ""
    Console().print(
        f"{result.scored} of {result.read} lines scored: {config.output}.{bad}", markup=False, soft_wrap=True
    )


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    settings_command(ScoreConfig, run, __doc__, words)


if __name__ == "__main__":
    main()
