"""Aligns runs by their configurations: a group is the runs that differ in nothing but the seed, named by what tells it from the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mrm.comparing.records import RunRecord

ABSENT = "–"  # a key that a group's configuration does not have
NAMED_KEYS = 3  # in a label; of more, only as many as tell the groups apart
VALUE_WIDTH = 40  # characters of a value in a label or a table
NAMES = ("experiment", "scale")  # told by name; what they set is in the table of differing keys


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Args:
        label: short, and no other group's.
        runs: seed -> the run, by rising seed.
        config: dotted key -> text, without the seed.
        telling: the keys that stand in labels, with this group's values.
    """

    label: str
    runs: Mapping[int, RunRecord]
    config: Mapping[str, str]
    telling: Mapping[str, str] = field(default_factory=dict)

    @property
    def experiment(self) -> str:
        return next(iter(self.runs.values())).experiment

    @property
    def scale(self) -> str:
        return next(iter(self.runs.values())).scale

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.runs)


@dataclass(frozen=True)
class Alignment:
    """Groups and what they differ in.

    Args:
        groups: in the order in which they are shown.
        differing: dotted key -> each group's value, `ABSENT` where it has none; keys that all share are not in it.
    """

    groups: tuple[Group, ...]
    differing: Mapping[str, tuple[str, ...]]


def align(runs: Sequence[RunRecord], order: Sequence[str] = ()) -> Alignment:
    """Groups runs.

    Args:
        runs: one a configuration and seed.
        order: names or patterns of experiments, in whose order the groups come; others by name.
    """
    members: dict[tuple[object, ...], dict[int, RunRecord]] = defaultdict(dict)
    for run in runs:
        members[run.experiment, run.scale, tuple(sorted(run.config.items()))][run.seed] = run
    found = [dict(sorted(by_seed.items())) for by_seed in members.values()]
    groups = [Group("", by_seed, next(iter(by_seed.values())).config) for by_seed in found]
    telling = telling_keys(groups)
    groups.sort(key=lambda group: _place(group, order, telling))
    names = _short_names(telling)
    scales = len({group.scale for group in groups}) > 1
    groups = [
        Group(
            _label(group, telling, names, scales),
            group.runs,
            group.config,
            {key: _value(group, key) for key in telling},
        )
        for group in groups
    ]
    return Alignment(tuple(_numbered(groups)), differing_keys(groups))


def differing_keys(groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """dotted key -> each group's value, of the keys that not all groups share."""
    keys = dict.fromkeys(key for group in groups for key in group.config)
    values = {key: tuple(_value(group, key) for group in groups) for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def telling_keys(groups: Sequence[Group], without: Iterable[str] = ()) -> list[str]:
    """The keys that differ between groups of one experiment and scale: what their names do not tell.

    Of more than `NAMED_KEYS`, each that tells groups apart which those before it do not.

    Args:
        groups: to be told apart.
        without: keys that are not looked at.
    """
    kinds: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in groups:
        kinds[group.experiment, group.scale].append(group)
    left_out = {*without, *NAMES}
    found = list(dict.fromkeys(key for kind in kinds.values() for key in differing_keys(kind) if key not in left_out))
    if len(found) <= NAMED_KEYS:
        return found
    needed: list[str] = []
    apart = _told_apart(kinds.values(), needed)
    for key in found:
        if (now := _told_apart(kinds.values(), [*needed, key])) > apart:
            needed.append(key)
            apart = now
    return needed


def _told_apart(kinds: Iterable[Sequence[Group]], keys: Sequence[str]) -> int:
    return sum(len({tuple(_value(group, key) for key in keys) for group in kind}) for kind in kinds)


def _value(group: Group, key: str) -> str:
    return group.config.get(key, ABSENT)


def _label(group: Group, telling: Sequence[str], names: Mapping[str, str], scales: bool) -> str:
    parts = [group.experiment, *([f"scale={group.scale}"] if scales else [])]
    parts += [f"{names[key]}={brief(_value(group, key))}" for key in telling if _value(group, key) != ABSENT]
    return ", ".join(parts)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last parts, as many as make it unlike the others."""
    names = {}
    for key in keys:
        parts = key.split(".")
        others = [other.split(".") for other in keys if other != key]
        length = next(n for n in range(1, len(parts) + 1) if all(other[-n:] != parts[-n:] for other in others))
        names[key] = ".".join(parts[-length:])
    return names


def _numbered(groups: Sequence[Group]) -> list[Group]:
    """Labels that are equal, since values are shortened or a key is absent in all but one, get a number."""
    seen: dict[str, int] = defaultdict(int)
    made = []
    for group in groups:
        seen[group.label] += 1
        label = group.label if seen[group.label] == 1 else f"{group.label} #{seen[group.label]}"
        made.append(Group(label, group.runs, group.config, group.telling))
    return made


def _place(group: Group, order: Sequence[str], telling: Sequence[str]) -> tuple[object, ...]:
    rank = next((i for i, pattern in enumerate(order) if fnmatchcase(group.experiment, pattern)), len(order))
    return rank, group.experiment, group.scale, [sortable(_value(group, key)) for key in telling]


def sortable(text: str) -> tuple[bool, float, str]:
    """A key that puts numbers in their order, before other texts."""
    number = as_number(text)
    return (True, 0.0, text) if number is None else (False, number, text)


def as_number(text: str) -> float | None:
    """A configuration's value as a number; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def brief(text: str, width: int = VALUE_WIDTH) -> str:
    """A value that fits into a label."""
    return text if len(text) <= width else text[: width - 1] + "…"
