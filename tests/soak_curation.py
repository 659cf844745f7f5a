"""Does to curated runs what machines do to them, and checks that each ends as a run that was left alone:

    python -m tests.soak_curation kills=20
    python -m tests.soak_curation scenarios=disk,rank
    python -m tests.soak_curation kills=2 folder=/tmp/soak    # what the runs write is kept there

Scenarios:

- kills: so many runs of two rounds (score, correct, filter; score, filter, annotate) are killed by SIGKILL at random moments, spread
  over the phases: scoring, deciding, writing the ledger, annotating, checkpointing, the first batches after a round, saving, and
  any moment. Every third is killed once more after it was resumed. Judges are asked over HTTP on loopback. Each run ends with the
  ledgers, weights and results of an undisturbed one, byte by byte, and no answer that was in the log is asked for again. Four variants
  share the kills: judges asked at the boundary (`sync`) and beside the training (`async`), scores that training computed
  (`recorded`), and a cold restart (`cold`).
- disk: the disk is full (a small tmpfs where it may be mounted) when a ledger, a checkpoint, an answer or the model is written. The run
  ends with one message that names the file, nothing is half there, and with room again it goes on to the same end.
- rank: of two processes one is killed while it scores. The other ends by itself, and the resumed run ends as an undisturbed one.
- annotator: the judges are down for a whole round, by answering 500 or by not listening. Training goes on; the queued pairs wait for
  the round after, or, with `missing: drop` in the schedule, are dropped by name.

Prints a line a scenario, PASS or FAIL; ends with status 1 if any failed.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrm.errors import ConfigError
from tests.construction.fault_server import FaultServer
from tests.soak.annotator import OUTAGES, Outage, judges_down
from tests.soak.disk import WRITES, full_disk
from tests.soak.kills import killed_runs
from tests.soak.rank import RANKS, dead_rank
from tests.soak.runs import VARIANTS, Runs, Sizes

SCENARIOS = ("kills", "disk", "rank", "annotator")


@dataclass
class SoakConfig:
    """Settings of `python -m tests.soak_curation`."""

    kills: int = 20  # runs that are killed
    variants: str = ",".join(VARIANTS)  # of the run, that share the kills
    scenarios: str = ",".join(SCENARIOS)
    seed: int = 0
    trusted: int = 12  # samples
    opened: int = 32
    latency_s: float = 0.02  # of the judges
    fresh: bool = False  # an interpreter of its own for each run, not a fork of one that has imported everything
    folder: str | None = None  # for all that runs write; null = a temporary one


Scenario = tuple[str, Callable[[], object]]


def scenarios(config: SoakConfig, runs: Runs, server: FaultServer) -> Iterator[Scenario]:
    """(name, what to do) in order; what is done returns its report, or raises an AssertionError."""
    chosen = _listed("scenarios", config.scenarios, SCENARIOS)
    if "kills" in chosen:
        for variant, kills, first in shares(config.kills, _listed("variants", config.variants, VARIANTS)):
            task = functools.partial(
                killed_runs, runs, server, kills=kills, seed=config.seed, variant=variant, first=first
            )
            yield f"kills, {variant}", task
    if "disk" in chosen:
        yield "full disk", functools.partial(full_disk, runs, [write.name for write in WRITES])
    if "rank" in chosen:
        yield "dead rank", functools.partial(dead_rank, runs, list(range(RANKS)))
    if "annotator" in chosen:
        for outage in (*(Outage(kind) for kind in OUTAGES), Outage("500", mode="async"), Outage("500", missing="drop")):
            yield "judges down", functools.partial(judges_down, runs, outage)


def shares(kills: int, variants: Sequence[str]) -> list[tuple[str, int, int]]:
    """(variant, its kills, those of the variants before it), as even as it goes, without those that get none."""
    counts = [kills // len(variants) + (place < kills % len(variants)) for place in range(len(variants))]
    before = [sum(counts[:place]) for place in range(len(variants))]
    return [share for share in zip(variants, counts, before, strict=True) if share[1]]


def _listed(key: str, words: str, known: Iterable[str]) -> list[str]:
    chosen = [name.strip() for name in words.split(",")]
    if unknown := sorted(set(chosen) - set(known)):
        raise ConfigError(f"{key}={','.join(unknown)}: unknown; known: {', '.join(known)}.")
    return chosen


def soak(config: SoakConfig, folder: Path) -> int:
    """Runs the scenarios, prints a line each, and gives the number that failed."""
    failed = 0
    with (
        FaultServer(latency_s=config.latency_s) as server,
        Runs(folder, server.url, Sizes(config.trusted, config.opened), fresh=config.fresh) as runs,
    ):
        for name, scenario in scenarios(config, runs, server):
            began = time.monotonic()
            try:
                print(f"PASS  {name}: {scenario()}", flush=True)
            except Exception as error:  # the others are to be tried all the same
                failed += 1
                kind = "" if isinstance(error, AssertionError) else traceback.format_exc()
                print(f"FAIL  {name} after {time.monotonic() - began:.0f} s: {error}\n{kind}", flush=True)
        print(runs.told(), flush=True)
    return failed


def main(config: SoakConfig) -> None:
    """Ends the process with status 1 if anything failed."""
    if config.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            failed = soak(config, Path(folder))
    else:
        Path(config.folder).mkdir(parents=True)
        failed = soak(config, Path(config.folder).resolve())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    from mrm.cli import settings_command  # here: the processes of the runs import this module too

    settings_command(SoakConfig, main, __doc__)
