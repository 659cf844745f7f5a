"""A measure over a numeric key of the configuration: a line for each group of the remaining differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mrm.comparing.grouping import Alignment, Group, as_number, brief, telling_keys
from mrm.comparing.measures import Figure
from mrm.errors import ConfigError, suggest


@dataclass(frozen=True)
class Line:
    """Groups that differ in the axis' key alone.

    Args:
        label: of what else tells them.
        points: (value of the key, group) by rising value.
    """

    label: str
    points: tuple[tuple[float, Group], ...]


@dataclass(frozen=True)
class Axis:
    """The lines over a key.

    Args:
        key: dotted.
        lines: in the order of the groups.
        also: keys that vary along a line with it: what it shows may be theirs.
        level: groups that do not have the key, or not in use: they are the same whatever it is.
        left_out: labels of groups whose value is no number.
    """

    key: str
    lines: tuple[Line, ...]
    level: tuple[Group, ...]
    also: tuple[str, ...]
    left_out: tuple[str, ...]


def lines_over(alignment: Alignment, key: str) -> Axis:
    """Sorts groups into lines.

    Args:
        alignment: of the runs.
        key: dotted, or the end of a dotted key that only one key has.

    Raises:
        ConfigError: for a key that no configuration has, several have the end of, or that is a number nowhere.
    """
    groups = alignment.groups
    full = _full_key(groups, key)
    placed = {group.label: as_number(group.config.get(full, "")) for group in groups}
    on = [group for group in groups if placed[group.label] is not None]
    if not on:
        raise ConfigError(f"x={full}: no group has a number there; choose a key with numbers, or leave x out.")
    bound = [other for other in telling_keys(on) if other != full and _follows(on, other, full)]
    rest = [other for other in telling_keys(on, without=[full, *bound])]
    found: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in on:
        found[(group.experiment, group.scale, *(group.config.get(other, "") for other in rest))].append(group)
    scales = len({group.scale for group in on}) > 1
    lines = []
    for (experiment, scale, *values), members in found.items():
        parts = [experiment, *([f"scale={scale}"] if scales else [])]
        parts += [
            f"{other.rpartition('.')[2]}={brief(value)}" for other, value in zip(rest, values, strict=True) if value
        ]
        points = sorted(((placed[group.label], group) for group in members), key=lambda point: point[0] or 0.0)
        lines.append(Line(", ".join(parts), tuple((x, group) for x, group in points if x is not None)))
    level = tuple(group for group in groups if full not in group.config)
    left_out = tuple(group.label for group in groups if placed[group.label] is None and group not in level)
    return Axis(full, tuple(lines), level, tuple(bound), left_out)


def _full_key(groups: Sequence[Group], key: str) -> str:
    known = dict.fromkeys(name for group in groups for name in group.config)
    if key in known:
        return key
    ends = [name for name in known if name.endswith(f".{key}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(f"x={key}: is the end of {', '.join(ends)}; give one of these.")
    raise ConfigError(f"x={key}: no configuration has this key.{suggest(key, known)}")


def _follows(groups: Sequence[Group], key: str, leader: str) -> bool:
    """Whether `key` varies within an experiment, and there is told by `leader`."""
    values: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for group in groups:
        values[group.experiment, group.scale, group.config.get(leader, "")].add(group.config.get(key, ""))
    return all(len(found) == 1 for found in values.values())


def axis_values(
    axis: Axis, measure: str, figures: Mapping[str, Mapping[str, Figure]]
) -> dict[str, list[dict[str, object]]]:
    """line -> its points as plain values: x (None: whatever it is), n, mean, low, high, group."""
    told: dict[str, list[dict[str, object]]] = {}
    lines: list[tuple[str, Sequence[tuple[float | None, Group]]]] = [(line.label, line.points) for line in axis.lines]
    for label, points_of in [*lines, *((group.label, [(None, group)]) for group in axis.level)]:
        points: list[dict[str, object]] = []
        for x, group in points_of:
            interval = figures[group.label][measure].interval
            if interval is not None:
                points.append(
                    {
                        **{"x": x, "group": group.label, "n": interval.n, "mean": interval.estimate},
                        **{"low": interval.low, "high": interval.high},
                    }
                )
        told[label] = points
    return told
