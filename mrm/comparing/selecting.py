"""Which runs are compared: those asked for, finished, and the newest of each configuration and seed. What is left out is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from mrm.comparing.records import FINISHED, RunRecord
from mrm.errors import ConfigError, suggest
from mrm.run_dirs import read_state, tracked_as


@dataclass(frozen=True)
class Chosen:
    """The runs that are compared, and what was left out.

    Args:
        runs: one a configuration and seed.
        unfinished: not finished, and left out.
        repeated: each older run of the same configuration and seed, with the one that counts.
        taken_unfinished: not finished, and taken since it was asked for.
    """

    runs: list[RunRecord]
    unfinished: list[RunRecord] = field(default_factory=list)
    repeated: list[tuple[RunRecord, RunRecord]] = field(default_factory=list)
    taken_unfinished: list[RunRecord] = field(default_factory=list)


def select(
    runs: Sequence[RunRecord],
    *,
    experiments: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> list[RunRecord]:
    """The runs asked for: those of the experiments (and of the sweeps, where any is named), and those named themselves; all by default.

    Args:
        runs: all.
        experiments: names, `*` and `?` standing for anything.
        sweeps: names of sweeps.
        ids: MLflow's ids or their beginnings, names of runs, or their folders.

    Raises:
        ConfigError: for a name that no run has, and where no run is both of an experiment and of a sweep that are named.
    """
    problems = []
    names = {run.experiment for run in runs}
    for pattern in experiments:
        if not any(fnmatchcase(name, pattern) for name in names):
            problems.append(_unknown("experiment", pattern, names))
    known = {run.sweep for run in runs if run.sweep}
    problems += [_unknown("sweep", sweep, known) for sweep in sweeps if sweep not in known]
    named = {}
    for one in ids:
        found = [run for run in runs if _is_named(run, one)]
        if len(found) == 1:
            named[found[0].run_id] = True
        elif found:
            problems.append(f"runs: {one!r} is {len(found)} runs; give more of the id: {_listed(found)}.")
        else:
            problems.append(_unknown("runs", one, {run.name for run in runs}))
    if problems:
        raise ConfigError("\n".join(problems))
    found = [
        run
        for run in runs
        if (not experiments or any(fnmatchcase(run.experiment, pattern) for pattern in experiments))
        and (not sweeps or run.sweep in sweeps)
    ]
    if experiments and sweeps and not found:
        counts = [
            f"experiment={one!r} is of {sum(fnmatchcase(run.experiment, one) for run in runs)} run(s)"
            for one in experiments
        ]
        counts += [f"sweep={one!r} of {sum(run.sweep == one for run in runs)}" for one in sweeps]
        raise ConfigError(
            f"there is no run to compare: {', '.join(counts)}, but none is of both an experiment and a sweep named; leave one of the keys out."
        )
    taken = {run.run_id for run in found} if experiments or sweeps or not ids else set()
    return [run for run in runs if run.run_id in taken or run.run_id in named]


def _is_named(run: RunRecord, name: str) -> bool:
    if name == run.name or len(name) >= 6 and run.run_id.startswith(name):
        return True
    folder = Path(name).expanduser()
    return "/" in name and folder.is_dir() and run.run_id in tracked_as(read_state(folder))


def _unknown(key: str, name: str, known: set[str]) -> str:
    some = sorted(known)[:30]
    return f"{key}={name!r}: no run is of it; there are {', '.join(some) or 'none'}.{suggest(name, known)}"


def _listed(runs: Iterable[RunRecord]) -> str:
    return ", ".join(run.told for run in runs)


def choose(runs: Sequence[RunRecord], *, unfinished: bool = False) -> Chosen:
    """The finished runs, the newest of each configuration and seed.

    Args:
        runs: asked for.
        unfinished: take those too that have not finished.

    Raises:
        ConfigError: where no run is left.
    """
    taken = [run for run in runs if unfinished or run.status == FINISHED]
    left = [run for run in runs if not unfinished and run.status != FINISHED]
    newest: dict[tuple[object, ...], RunRecord] = {}
    repeated = []
    for run in sorted(taken, key=lambda run: (run.status == FINISHED, run.started), reverse=True):
        key = (run.experiment, run.scale, run.seed, tuple(sorted(run.config.items())))
        if key in newest:
            repeated.append((run, newest[key]))
        else:
            newest[key] = run
    if not newest:
        why = f"none of {len(runs)} has finished ({_listed(left)}); unfinished=true takes them" if left else "none"
        raise ConfigError(f"there is no run to compare: {why}.")
    chosen = sorted(newest.values(), key=lambda run: run.started)
    return Chosen(chosen, left, repeated, [run for run in chosen if run.status != FINISHED])
