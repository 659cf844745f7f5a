"""Differences from a reference: over the same seeds and the same samples, with tests that account for how many are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mrm.comparing.grouping import Group
from mrm.comparing.measures import ACCURACY, COST, Figure, Measure
from mrm.comparing.samples import SampleTest
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
    def alone(self) -> bool | None:
        """Whether the interval of this difference alone excludes 0; None where it has none."""
        return self.test.interval.excludes_zero

    @property
    def holds(self) -> bool | None:
        """Whether it stands among all that were looked at; None where it has no p-value."""
        return None if self.adjusted is None else self.adjusted < 1 - self.level


@dataclass(frozen=True)
class Difference:
    """A group's figure minus the reference's.

    Args:
        group, reference: labels.
        measure: what differs.
        seeds: that both have.
        over_seeds: the test over these: what another training would change.
        samples: the test over samples, where the runs kept what they scored: what other test data would change.
        over_samples: the same among all that were looked at.
    """

    group: str
    reference: str
    measure: Measure
    seeds: tuple[int, ...]
    over_seeds: Verdict
    samples: SampleTest | None = None
    over_samples: Verdict | None = None

    @property
    def beyond_noise(self) -> bool | None:
        """Whether it stands by every test that there is of it; None without any."""
        held = [
            verdict.holds for verdict in (self.over_seeds, self.over_samples) if verdict and verdict.holds is not None
        ]
        return all(held) if held else None

    @property
    def basis(self) -> str:
        """`by seeds` or `by samples`, of an accuracy that only one of both tests is of; else nothing."""
        verdicts = {"seeds": self.over_seeds, "samples": self.over_samples}
        told = [name for name, one in verdicts.items() if one is not None and one.holds is not None]
        return f"by {told[0]}" if len(told) == 1 and self.measure.kind == ACCURACY else ""

    @property
    def text(self) -> str:
        """The same in few words, with what it rests on."""
        verdicts = {"seeds": self.over_seeds, "samples": self.over_samples}
        told = {name: one for name, one in verdicts.items() if one is not None and one.holds is not None}
        if not told:
            return f"not told: {self.over_seeds.test.unknown}"
        held = [name for name, one in told.items() if one.holds]
        if held:
            if len(held) < len(told):
                return f"over {held[0]} only"
            return f"yes, {self.basis}" if self.basis else "yes"
        return "alone, not among all" if any(one.alone for one in told.values()) else "no"


def references(groups: Sequence[Group], name: str | None) -> tuple[dict[str, Group], list[str]]:
    """Each group's reference.

    Args:
        groups: all.
        name: label or experiment of the reference; None takes the first group's experiment, `none` nothing. Where several groups are of that
            experiment, a group's reference is the one whose other telling keys are its own; where all are, it is the first of them.

    Returns:
        label -> reference, and what a person must know: the groups that have none.

    Raises:
        ConfigError: for a name that no group has.
    """
    if name == NONE or len(groups) < 2:
        return {}, []
    name = groups[0].experiment if name is None else name
    found = [group for group in groups if group.label == name]
    found = found or [group for group in groups if group.experiment == name]
    if not found:
        known = [group.label for group in groups]
        raise ConfigError(
            f"reference={name!r}: is no group; there are {'; '.join(known)}. Give one, or an experiment, or none."
            f"{suggest(str(name), known)}"
        )
    if len(found) == len(groups):  # of one experiment, so that the first is what the others differ from
        found = found[:1]
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
    among = "; ".join(group.label for group in found)
    return pairs, [
        *notes,
        f"References, not compared with one another: {among}. reference=LABEL compares all with one.",
    ]


def differences(
    pairs: Mapping[str, Group],
    measures: Sequence[Measure],
    figures: Mapping[str, Mapping[str, Figure]],
    samples: Mapping[str, Mapping[str, SampleTest]] | None = None,
    level: float = LEVEL,
) -> list[Difference]:
    """All differences that can be had, corrected together.

    Args:
        pairs: label -> reference.
        measures: those of cost are left out: they are told, not tested.
        figures: label -> measure -> figure.
        samples: label -> measure -> test over samples; what has none is not in it.
        level: of the intervals; 1 - level is what the corrected p-values are held against.
    """
    made = []
    for label, reference in pairs.items():
        for measure in measures:
            own, other = (figures[name][measure.key].values for name in (label, reference.label))
            seeds = tuple(seed for seed in own if seed in other)
            if measure.kind == COST or not seeds:
                continue
            test = paired_t([own[seed] for seed in seeds], [other[seed] for seed in seeds], level)
            found = (samples or {}).get(label, {}).get(measure.key)
            over_samples = Verdict(found.test, None, level) if found else None
            made.append(
                Difference(label, reference.label, measure, seeds, Verdict(test, None, level), found, over_samples)
            )
    seeds_told = corrected([one.over_seeds for one in made])
    samples_told = iter(corrected([one.over_samples for one in made if one.over_samples is not None]))
    return [
        replace(one, over_seeds=verdict, over_samples=next(samples_told) if one.over_samples is not None else None)
        for one, verdict in zip(made, seeds_told, strict=True)
    ]


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with Holm's correction over all of them that have a p-value."""
    p_values = [verdict.test.p for verdict in verdicts if verdict.test.p is not None]
    adjusted = iter(holm(p_values).tolist())
    return [verdict if verdict.test.p is None else replace(verdict, adjusted=next(adjusted)) for verdict in verdicts]


def without_common_seed(pairs: Mapping[str, Group], groups: Sequence[Group]) -> list[str]:
    """Labels of the groups that share no seed with their reference."""
    seeds = {group.label: set(group.seeds) for group in groups}
    return [label for label, reference in pairs.items() if not seeds[label] & set(reference.seeds)]
