"""A comparison as a whole: figures of all groups, their differences, and what a person must know to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrm.comparing.courses import ROUND_NAMES, rounds_of
from mrm.comparing.differences import Difference, Verdict, differences, references, without_common_seed
from mrm.comparing.grouping import Alignment, Group, align
from mrm.comparing.measures import (
    ACCURACY,
    SPEED,
    SPENT,
    Figure,
    Measure,
    group_figures,
    measures_of,
    not_measured,
    run_values,
    shared_sets,
)
from mrm.comparing.samples import SampleTest, draws_for, sample_tests
from mrm.comparing.selecting import Chosen
from mrm.comparing.sources import RunSource
from mrm.errors import ConfigError, suggest
from mrm.evaluation.intervals import LEVEL, Interval
from mrm.evaluation.sample_scores import SCORES_FILE
from mrm.run_totals import STARTS


@dataclass(frozen=True)
class Comparison:
    """What is shown.

    Args:
        chosen: the runs, and those left out.
        alignment: groups and differing keys.
        measures: what is shown, in order.
        figures: label -> measure -> figure.
        rounds: run id -> round of curation -> its figures.
        references: label -> reference.
        differences: from the references.
        notes: what a person must know: left out, repeated, of other data or code.
        lacking: what was not measured.
        level: of the intervals.
    """

    chosen: Chosen
    alignment: Alignment
    measures: tuple[Measure, ...]
    figures: Mapping[str, Mapping[str, Figure]]
    rounds: Mapping[str, Mapping[int, Mapping[str, float]]]
    references: Mapping[str, Group]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    lacking: tuple[str, ...]
    level: float

    def findings(self) -> list[str]:
        """A sentence a group: what is beyond noise, and what is not told from it."""
        told = []
        for label, reference in self.references.items():
            own = [one for one in self.differences if one.group == label]
            beyond = [f"{one.measure.title} {_amount(one)}" for one in own if one.beyond_noise]
            within = [one.measure.title for one in own if one.beyond_noise is False]
            unknown = [one.measure.title for one in own if one.beyond_noise is None]
            parts = [f"beyond noise: {', '.join(beyond)}" if beyond else "nothing is beyond noise"]
            parts += [f"not told from noise: {', '.join(within)}"] if within else []
            parts += [f"without a test: {', '.join(unknown)}"] if unknown else []
            told += [f"{label} against {reference.label}: {'; '.join(parts)}."] if own else []
        return told

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.alignment.groups


def compare_runs(
    store: RunSource,
    chosen: Chosen,
    *,
    order: Sequence[str] = (),
    reference: str | None = None,
    only: Sequence[str] = (),
    level: float = LEVEL,
    strangers: Sequence[str] = (),
) -> Comparison:
    """Compares runs.

    Args:
        store: where they come from.
        chosen: the runs.
        order: of the experiments.
        reference: as of `references`.
        only: measures to show; all by default.
        level: of the intervals.
        strangers: names of runs that are not of this framework, to be told.

    Raises:
        ConfigError: for a reference or a measure that is not there.
    """
    alignment = align(chosen.runs, order)
    groups = alignment.groups
    all_measures = measures_of(chosen.runs)
    measures = pick_measures(all_measures, only, "measures") if only else all_measures
    shared = shared_sets(chosen.runs)
    histories = {run.run_id: store.history(run, [SPEED, *ROUND_NAMES, *SPENT]) for run in chosen.runs}
    values = {run.run_id: run_values(run, shared, histories[run.run_id]) for run in chosen.runs}
    rounds = {run_id: rounds_of(history) for run_id, history in histories.items()}
    figures = {group.label: group_figures(group, all_measures, values, level) for group in groups}
    pairs, unpaired = references(groups, reference)
    draws = draws_for(len(pairs) * len(measures), level)
    own = {group.label: group for group in groups}
    samples = {
        label: sample_tests(own[label], one, shared, store.scores, draws=draws, level=level)
        for label, one in pairs.items()
    }
    made = differences(pairs, measures, figures, samples, level)
    lonely = [f"No seed in common with its reference: {label}." for label in without_common_seed(pairs, groups)]
    return Comparison(
        chosen,
        alignment,
        tuple(measures),
        figures,
        rounds,
        pairs,
        tuple(made),
        (*left_out_notes(chosen, strangers), *provenance_notes(groups), *unpaired, *lonely),
        (*not_measured(groups, measures, figures), *_without_samples(made)),
        level,
    )


def _amount(one: Difference) -> str:
    estimate = one.over_seeds.test.interval.estimate
    told = f"{abs(estimate):.{one.measure.digits}f} {'higher' if estimate > 0 else 'lower'}"
    return f"{told} ({one.basis})" if one.basis else told


def _without_samples(made: Sequence[Difference]) -> list[str]:
    """Differences of accuracies that no test over samples is of."""
    lacking = dict.fromkeys(one.group for one in made if one.measure.kind == ACCURACY and one.samples is None)
    return [f"the same samples: of {'; '.join(lacking)} (runs without {SCORES_FILE} within reach)"] if lacking else []


def pick_measures(measures: Sequence[Measure], names: Sequence[str], key: str) -> list[Measure]:
    """The measures of these names, in their order; a test set's `test_` may be left out.

    Raises:
        ConfigError: for a name that none has.
    """
    known = {measure.key: measure for measure in measures}
    short = {measure.key.removeprefix("test_"): measure for measure in measures}
    unknown = [name for name in names if name not in known and name not in short]
    if unknown:
        raise ConfigError(
            f"{key}={unknown[0]!r}: is no figure of these runs; there are {', '.join(known)}.{suggest(unknown[0], known)}"
        )
    return [known.get(name) or short[name] for name in names]


def left_out_notes(chosen: Chosen, strangers: Sequence[str] = ()) -> list[str]:
    """What became of runs that are not in the figures."""
    notes = []
    if strangers:
        notes.append(f"{len(strangers)} run(s) without this framework's tags, left out: {', '.join(strangers)}.")
    if chosen.unfinished:
        told = ", ".join(f"{run.told} {_state(run.status)}" for run in chosen.unfinished)
        notes.append(f"{len(chosen.unfinished)} run(s) not finished, left out: {told}.")
    if chosen.taken_unfinished:
        told = ", ".join(f"{run.told} {_state(run.status)}" for run in chosen.taken_unfinished)
        notes.append(f"{len(chosen.taken_unfinished)} run(s) not finished, taken as far as they are: {told}.")
    if chosen.repeated:
        told = ", ".join(f"{old.told} (newer: {new.told})" for old, new in chosen.repeated)
        notes.append(f"{len(chosen.repeated)} older run(s) of the same configuration and seed, left out: {told}.")
    return notes


def _state(status: str) -> str:
    return {"RUNNING": "running or killed", "FAILED": "failed", "KILLED": "interrupted"}.get(status, status.lower())


def provenance_notes(groups: Sequence[Group]) -> list[str]:
    """Differences that no configuration tells: of the data behind one configuration, of the code, of values that are cut."""
    notes = []
    runs = [run for group in groups for run in group.runs.values()]
    for group in groups:
        if len({run.data for run in group.runs.values() if run.data}) > 1:
            digests = ", ".join(f"seed {seed} {run.data[:8] or 'not logged'}" for seed, run in group.runs.items())
            notes.append(f"{group.label}: its runs trained on different data by their digests ({digests}).")
    commits = {run.commit for run in runs if run.commit}
    if len(commits) > 1:
        told = ", ".join(sorted({commit[:8] + ("-dirty" if commit.endswith("-dirty") else "") for commit in commits}))
        notes.append(f"The runs are of {len(commits)} states of the code: {told}.")
    if resumed := [run.told for run in runs if run.metrics.get(STARTS, 1) > 1]:
        notes.append(
            f"{len(resumed)} run(s) went on after a stop, whose seconds and memory are those of the last start: {', '.join(resumed)}."
        )
    cut = sorted({key for run in runs for key in run.cut})
    if cut:
        notes.append(f"MLflow holds only the beginning of {', '.join(cut)}: differences behind it are not seen.")
    sets = shared_sets(runs)
    tested = {
        name for group in groups for run in group.runs.values() for name in run.metrics if name.startswith("test/")
    }
    if len(tested) > len(sets):
        notes.append(
            f"Not all runs have the same test sets; means are over those that all have: {', '.join(sets) or 'none'}."
        )
    return notes


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All figures as JSON types."""
    return {
        "level": comparison.level,
        "notes": list(comparison.notes),
        "not_measured": list(comparison.lacking),
        "findings": comparison.findings(),
        "differing": {key: list(values) for key, values in comparison.alignment.differing.items()},
        "groups": [
            {
                "label": group.label,
                "experiment": group.experiment,
                "scale": group.scale,
                "telling": dict(group.telling),
                "runs": [
                    {"seed": seed, "run_id": run.run_id, "name": run.name, "commit": run.commit, "status": run.status}
                    for seed, run in group.runs.items()
                ],
                "rounds": {
                    str(seed): {str(number): dict(figures) for number, figures in comparison.rounds[run.run_id].items()}
                    for seed, run in group.runs.items()
                },
                "figures": {
                    measure.key: _figure_json(comparison.figures[group.label][measure.key])
                    for measure in comparison.measures
                },
            }
            for group in comparison.groups
        ],
        "differences": [_difference_json(one) for one in comparison.differences],
    }


def _figure_json(figure: Figure) -> dict[str, Any] | None:
    if figure.interval is None:
        return None
    return {**_interval_json(figure.interval), "seeds": {str(seed): value for seed, value in figure.values.items()}}


def _interval_json(interval: Interval) -> dict[str, Any]:
    return {
        **{"n": interval.n, "mean": interval.estimate, "low": interval.low, "high": interval.high},
        "spread": interval.spread,
    }


def _difference_json(one: Difference) -> dict[str, Any]:
    return {
        "group": one.group,
        "reference": one.reference,
        "measure": one.measure.key,
        "beyond_noise": one.beyond_noise,
        "told": one.text,
        "over_seeds": {**_verdict_json(one.over_seeds), "seeds": list(one.seeds)},
        "over_samples": None
        if one.samples is None or one.over_samples is None
        else _samples_json(one.samples, one.over_samples),
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        **_interval_json(verdict.test.interval),
        "p": verdict.test.p,
        "p_holm": verdict.adjusted,
        "interval_excludes_0": verdict.alone,
        "unknown": verdict.test.unknown or None,
    }


def _samples_json(samples: SampleTest, verdict: Verdict) -> dict[str, Any]:
    return {
        **_verdict_json(verdict),
        "pairs": samples.pairs,
        "unshared_pairs": samples.unshared,
        "seeds": list(samples.seeds),
        "mcnemar": {
            str(seed): {
                "only_group": test.only_first,
                "only_reference": test.only_second,
                "mid_p": test.mid,
                "p": test.exact,
            }
            for seed, test in samples.mcnemar.items()
        },
    }
