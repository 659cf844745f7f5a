"""Differences from a reference: over the same seeds, with a test that accounts for how many differences are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mrm.comparing.grouping import Group
from mrm.comparing.measures import COST, Figure, Measure
from mrm.errors import ConfigError, suggest
from mrm.evaluation.intervals import LEVEL
from mrm.evaluation.paired import PairedTest, holm, paired_t

NONE = "none"


@dataclass(frozen=True)
class Verdict:
    """A test of one difference among many.

    Args:
        test: of this difference alone.
        adjusted: its p-value after Holm's correction; None where it has none.
        level: of the interval.
    """

    test: PairedTest
    adjusted: float | None = None
    level: float = LEVEL

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the interval of this difference alone excludes 0; None where it has none."""
        return self.test.interval.excludes_zero

    @property
    def holds(self) -> bool | None:
        """Whether it stands among all that were looked at; None where it has no p-value."""
        return None if self.adjusted is None else self.adjusted < 1 - self.level

    @property
    def text(self) -> str:
        """One word or few, for a table."""
        if self.holds:
            return "yes"
        if self.adjusted is None and self.beyond_noise is None:
            return f"not told: {self.test.unknown}"
        return "alone, not among all" if self.beyond_noise else "no"


@dataclass(frozen=True)
class Difference:
    """A group's figure minus the reference's.

    Args:
        group, reference: labels.
        measure: what differs.
        seeds: that both have.
        over_seeds: the test over these.
    """

    group: str
    reference: str
    measure: Measure
    seeds: tuple[int, ...]
    over_seeds: Verdict


def references(groups: Sequence[Group], name: str | None) -> tuple[dict[str, Group], list[str]]:
    """Each group's reference.

    Args:
        groups: all.
        name: label or experiment of the reference; None takes the first group, `none` nothing. Where several groups are of that
            experiment, a group's reference is the one whose other telling keys are its own.

    Returns:
        label -> reference, and what a person must know: the groups that have none.

    Raises:
        ConfigError: for a name that no group has.
    """
    if name == NONE or len(groups) < 2:
        return {}, []
    found = [groups[0]] if name is None else [group for group in groups if group.label == name]
    found = found or [group for group in groups if group.experiment == name]
    if not found:
        known = [group.label for group in groups]
        raise ConfigError(
            f"reference={name!r}: is no group; there are {'; '.join(known)}. Give one, or an experiment, or none."
            f"{suggest(str(name), known)}"
        )
    others = [group for group in groups if group not in found]
    if len(found) == 1:
        return {group.label: found[0] for group in others}, []
    pairs, alone = {}, []
    for group in others:
        alike = [one for one in found if one.telling == group.telling and one.scale == group.scale]
        if len(alike) == 1:
            pairs[group.label] = alike[0]
        else:
            alone.append(group.label)
    notes = [f"No reference is configured like {'; '.join(alone)}: compared with none."] if alone else []
    return pairs, notes


def differences(
    pairs: Mapping[str, Group],
    measures: Sequence[Measure],
    figures: Mapping[str, Mapping[str, Figure]],
    level: float = LEVEL,
) -> list[Difference]:
    """All differences that can be had, corrected together.

    Args:
        pairs: label -> reference.
        measures: those of cost are left out: they are told, not tested.
        figures: label -> measure -> figure.
        level: of the intervals; 1 - level is what the corrected p-values are held against.
    """
    made = []
    for label, reference in pairs.items():
        for measure in measures:
            own, other = (figures[name][measure.key].values for name in (label, reference.label))
            seeds = tuple(seed for seed in own if seed in other)
            if measure.kind == COST or not own or not other:
                continue
            if not seeds:
                continue
            test = paired_t([own[seed] for seed in seeds], [other[seed] for seed in seeds], level)
            made.append(Difference(label, reference.label, measure, seeds, Verdict(test, None, level)))
    adjusted = corrected([difference.over_seeds for difference in made])
    return [replace(difference, over_seeds=verdict) for difference, verdict in zip(made, adjusted, strict=True)]


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with Holm's correction over all of them that have a p-value."""
    tested = [verdict for verdict in verdicts if verdict.test.p is not None]
    adjusted = iter(holm([verdict.test.p for verdict in tested if verdict.test.p is not None]).tolist())
    return [verdict if verdict.test.p is None else replace(verdict, adjusted=next(adjusted)) for verdict in verdicts]


def without_common_seed(pairs: Mapping[str, Group], groups: Sequence[Group]) -> list[str]:
    """Labels of the groups that share no seed with their reference."""
    seeds = {group.label: set(group.seeds) for group in groups}
    return [label for label, reference in pairs.items() if not seeds[label] & set(reference.seeds)]
