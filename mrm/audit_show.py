"""What happened to pairs, round by round, and accounts of rounds: `show` of `mrm.audit`.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from datamodules.ledger import Ledger, ledger_rounds, round_path
from datamodules.ledger_audit import (
    DECISIONS,
    SourceAccount,
    Step,
    accounts,
    find_ledgers,
    history,
    read_round,
    select,
)
from mrm.audit_config import ShowConfig
from mrm.audit_data import open_data, samples_of
from mrm.audit_lines import print_lines
from mrm.cli import open_console
from mrm.errors import ConfigError, MrmError, suggest
from mrm.pages import shorten
from mrm.preference import PreferenceSample

SUGGESTED = 1 << 16  # keys among which a near one is looked for


@dataclass(frozen=True)
class PairStory:
    """What became of a pair, round by round; the texts where they could be read, else why they could not."""

    key: str
    pair: int
    source: str
    strength: float
    steps: list[Step]
    prompt: str | None = None
    chosen: str | None = None  # as published
    rejected: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class Shown:
    """Accounts, where no pair was asked for; else the first of the pairs found."""

    accounts: list[SourceAccount] = field(default_factory=list)
    pairs: list[PairStory] = field(default_factory=list)
    found: int = 0
    problem: str = ""  # why there are no texts


def show(config: ShowConfig) -> Shown:
    """Accounts by round and source, or what happened to pairs.

    Raises:
        ConfigError: for a folder without ledgers, or a round, decision, source or key that is not there.
    """
    folder = find_ledgers(config.run)
    if config.limit < 0:
        raise ConfigError(f"limit={config.limit}: must be at least 0.")
    newest = read_round(folder, config.round)
    check_named(newest, config.decision, config.source)
    if config.pair is not None and config.key is None:
        raise ConfigError(f"pair={config.pair}: is a number within a sample; give the sample's key= too.")
    rounds = ledger_rounds(folder) if config.round is None else [config.round]
    if config.key is None and config.decision is None:
        told = [account for number in rounds for account in accounts(Ledger.read(round_path(folder, number)))]
        return Shown([account for account in told if config.source in (None, account.source)])
    fresh = config.round is not None and config.decision is not None
    found = select(
        newest, key=config.key, pair=config.pair, decision=config.decision, source=config.source, fresh=fresh
    )
    if config.key is not None and not found.any():
        raise ConfigError(_no_such_pair(newest, config))
    rows = np.flatnonzero(found)[: config.limit]
    steps = history((Ledger.read(round_path(folder, number)) for number in rounds), rows)
    problem = ""
    texts: dict[int, PreferenceSample | MrmError] = {}
    samples = np.zeros(0, np.int64)
    if config.texts and len(rows):
        try:
            pool = open_data(folder, newest, config.data)
            samples, texts = pool.pair_sample[rows], samples_of(pool, rows)
        except MrmError as error:
            if config.data is not None:
                raise
            problem = str(error)
    stories = [
        _story(newest, int(row), told, texts.get(int(samples[i])) if len(samples) else None)
        for i, (row, told) in enumerate(zip(rows, steps, strict=True))
    ]
    return Shown(pairs=stories, found=int(found.sum()), problem=problem)


def check_named(ledger: Ledger, decision: str | None, source: str | None) -> None:
    """Refuses a decision or source that is not there.

    Raises:
        ConfigError: naming those that are.
    """
    if decision is not None and decision not in DECISIONS:
        raise ConfigError(
            f"decision={decision!r}: there is no such decision; there are {', '.join(DECISIONS)}.{suggest(decision, DECISIONS)}"
        )
    known = sorted(pc.unique(pa.array(ledger.source, pa.string())).to_pylist())
    if source is not None and source not in known:
        raise ConfigError(
            f"source={source!r}: the ledger has no such source; it has {', '.join(known)}.{suggest(source, known)}"
        )


def _no_such_pair(ledger: Ledger, config: ShowConfig) -> str:
    pairs = ledger.pair[select(ledger, key=config.key)].tolist()
    if not pairs:
        near = suggest(str(config.key), ledger.key.tolist()) if len(ledger) <= SUGGESTED else ""
        return f"key={config.key!r}: the ledger has no such key.{near}"
    told = [f"{name}={getattr(config, name)!r}" for name in ("pair", "decision", "source", "round")]
    told = [text for text in told if not text.endswith("=None")]
    return f"key={config.key!r}: has the pairs {', '.join(map(str, pairs))}, but none with {', '.join(told)}."


def _story(ledger: Ledger, row: int, steps: list[Step], sample: PreferenceSample | MrmError | None) -> PairStory:
    number = int(ledger.pair[row])
    head = (str(ledger.key[row]), number, str(ledger.source[row]), float(ledger.strength[row]), steps)
    if isinstance(sample, PreferenceSample):
        pair = sample.pairs[number]
        return PairStory(
            *head, sample.prompt[-1].content, sample.responses[pair.chosen], sample.responses[pair.rejected]
        )
    return PairStory(*head, problem="" if sample is None else str(sample))


def print_show(config: ShowConfig) -> None:
    """Prints accounts or pairs."""
    shown, console = show(config), open_console()
    if shown.accounts:
        present = [name for name in DECISIONS if any(name in one.decisions for one in shown.accounts)]
        table = Table(title="Pairs by standing decision", title_justify="left")
        for name in ("round", "source", "pairs", *present, "in use", "turned", "decided in this round"):
            table.add_column(name, justify="left" if name == "source" else "right", overflow="fold")
        for one in shown.accounts:
            counts = [one.decisions.get(name, 0) for name in present]
            numbers = (one.pairs, *counts, one.active, one.flipped, one.decided)
            table.add_row(str(one.round), one.source, *(f"{number:,}" for number in numbers))
        console.print(table)
        return
    lines = [line for story in shown.pairs for line in _told(story)]
    if shown.found > len(shown.pairs):
        lines.append(f"{shown.found - len(shown.pairs)} of {shown.found} pairs are not shown; raise limit.")
    if not shown.found:
        lines.append("No pair.")
    if shown.problem:
        lines.append(f"Without texts: {shown.problem}")
    print_lines(console, lines)


def _told(story: PairStory) -> list[str]:
    strength = "unknown" if math.isnan(story.strength) else f"{story.strength:g}"
    lines = [f"{story.key}, pair {story.pair} ({story.source}, strength {strength})"]
    for name in ("prompt", "chosen", "rejected"):
        if (text := getattr(story, name)) is not None:
            lines.append(f"  {name + ':':<10}{' '.join(shorten(text).split())}")
    if story.problem:
        lines.append(f"  cannot be read: {story.problem}")
    for step in story.steps:
        use = "in use" if step.active else "not in use"
        label = "turned" if step.flipped else "as published"
        told = f"  round {step.round}: {step.decision}{'' if step.decided else ' (as before)'}, {use}, label {label}"
        told += f", weight {step.weight:g}" if step.active else ""
        if math.isfinite(step.chosen_score):
            told += f", scores {step.chosen_score:.4g} : {step.rejected_score:.4g}"
            told += f" (spread {step.spread:.3g})" if step.spread > 0 else ""
        told += f", votes for the published choice {step.vote_share:.0%}" if math.isfinite(step.vote_share) else ""
        lines.append(told + (f": {step.reason}" if step.reason else ""))
    return lines
