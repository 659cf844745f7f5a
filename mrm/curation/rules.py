"""What a round decides by: one set of rules for the pool, and what sources have of their own instead."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mrm.curation.policy import AGREEMENTS, CORRECT_MODES
from mrm.errors import ConfigError, suggest

AUTO = "auto"  # how a person writes a share that the estimated noise sets
STEPS_OF = {  # field -> the steps of a round that it has an effect on
    "correct_mode": ("correct",),
    "distrust_share": ("correct",),
    "down_weight": ("correct",),
    "admit_weight": ("correct",),
    "dead_zone": ("filter",),
    "agreement": ("correct", "filter"),
    "max_flipped": ("correct", "annotate"),
    "max_dropped": ("score", "correct", "annotate"),
}
MODE_OF = {"down_weight": "weight", "max_flipped": "flip"}  # field -> the mode of `correct` that it has an effect on
GUARDS = ("max_flipped", "max_dropped")  # these stop a round and change nothing of one that they let pass


@dataclass(frozen=True)
class Rules:
    """The rules for pairs; the defaults are the released method's.

    Args:
        correct_mode: what happens to the distrusted pairs: `flip`, `drop`, or `weight` (kept, at weight `down_weight`).
        distrust_share: the share of the negative pairs that is distrusted, most negative first, in [0, 1]; None: as many as the
            estimated noise makes expect (`mrm.curation.noise_estimate`).
        down_weight: in (0, 1), with `weight`.
        admit_weight: weight of the pairs that `correct` admits or flips until a filter confirms them, in (0, 1].
        dead_zone: score differences up to this are no agreement, at least 0; what the filter queues then is uncertain.
        agreement: of several score passes: `mean` decides by their mean; under `unanimous` a pair is distrusted only if every
            pass is against its label too, and kept by the filter only if every pass is for it.
        max_flipped, max_dropped: the largest shares of the pairs whose labels a round may turn, by scores or votes, and which it may
            drop, in [0, 1]. The default's are shares of the whole pool, a source's own are of that source's pairs.
    """

    correct_mode: str = "flip"
    distrust_share: float | None = 0.5
    down_weight: float = 0.5
    admit_weight: float = 1.0
    dead_zone: float = 0.0
    agreement: str = "mean"
    max_flipped: float = 0.5
    max_dropped: float = 0.5

    def problems(self) -> list[str]:
        """What cannot be: one sentence a field."""
        problems = []
        if self.correct_mode not in CORRECT_MODES:
            problems.append(f"correct_mode={self.correct_mode!r} is none of {', '.join(CORRECT_MODES)}.")
        if self.distrust_share is not None and not (_number(self.distrust_share) and 0 <= self.distrust_share <= 1):
            problems.append(f"distrust_share={self.distrust_share!r} must be in [0, 1], or {AUTO}.")
        if not (_number(self.admit_weight) and 0 < self.admit_weight <= 1):
            problems.append(f"admit_weight={self.admit_weight!r} must be in (0, 1].")
        if not (_number(self.down_weight) and 0 < self.down_weight < 1):
            problems.append(
                f"down_weight={self.down_weight!r} must be between 0 and 1; to remove pairs use correct_mode=drop."
            )
        if not (_number(self.dead_zone) and self.dead_zone >= 0):
            problems.append(f"dead_zone={self.dead_zone!r} must be a number of at least 0.")
        if self.agreement not in AGREEMENTS:
            problems.append(f"agreement={self.agreement!r} is none of {', '.join(AGREEMENTS)}.")
        for name in GUARDS:
            cap = getattr(self, name)
            if not (_number(cap) and 0 <= cap <= 1):
                problems.append(f"{name}={cap!r} must be in [0, 1].")
        return problems


@dataclass(frozen=True)
class SourceRules:
    """The rules of every source; make it with `by_source`.

    Args:
        default: for sources that have none of their own.
        sources: source -> its rules, the default's where it sets none.
        apart: sources that set a `distrust_share`. The negatives of each of them are ranked by themselves, and where its share
            is None its noise is estimated by itself; all other sources are ranked together.
    """

    default: Rules = Rules()
    sources: Mapping[str, Rules] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()

    def of(self, source: str) -> Rules:
        return self.sources.get(source, self.default)


def without_effect(given: Iterable[str], steps: Sequence[str], modes: Iterable[str]) -> dict[str, str]:
    """Settings that nothing in a round heeds.

    Args:
        given: names of fields of `Rules` that somebody set.
        steps: of the round.
        modes: of `correct`, wherever the settings hold.

    Returns:
        name -> what it would have an effect with, in words.
    """
    found, modes = {}, set(modes)
    for name in given:
        if not set(STEPS_OF[name]) & set(steps):
            found[name] = " or ".join(f"`{step}`" for step in STEPS_OF[name])
        elif name in MODE_OF and MODE_OF[name] not in modes and not (name in GUARDS and "annotate" in steps):
            found[name] = f"correct_mode={MODE_OF[name]}"
    return found


def without_guards(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A round's settings, or a source's own, without what only stops a round; a source that has nothing else goes, too."""
    kept = {name: value for name, value in settings.items() if name not in GUARDS}
    if "sources" in kept:
        sources = {source: without_guards(own) for source, own in kept["sources"].items()}
        kept["sources"] = {source: own for source, own in sources.items() if own}
    return kept


def parse_share(value: Any) -> Any:
    """A share as a person writes it, `auto` or a number, as `Rules` has it; what is neither stays for `problems` to name."""
    return None if value == AUTO else value


def by_source(default: Rules, overrides: Mapping[str, Mapping[str, Any]], known: Iterable[str] | None) -> SourceRules:
    """Resolves what sources have of their own.

    Args:
        default: the rules of the pool.
        overrides: source -> field -> value; a `distrust_share` may be `auto`.
        known: the sources that the pool has; None: not known yet.

    Raises:
        ConfigError: listing every problem.
    """
    problems = [*default.problems(), *source_problems(default, overrides, known)]
    if problems:
        raise ConfigError("the rules of curation cannot be:\n- " + "\n- ".join(problems))
    return SourceRules(
        default,
        {source: _override(default, given) for source, given in overrides.items()},
        frozenset(source for source, given in overrides.items() if "distrust_share" in given),
    )


def source_problems(
    default: Rules, overrides: Mapping[str, Mapping[str, Any]], known: Iterable[str] | None
) -> list[str]:
    """What is wrong with the sources' own rules, one sentence each; arguments as of `by_source`."""
    problems = []
    names = None if known is None else sorted(known)
    for source, given in overrides.items():
        if names is not None and source not in names:
            problems.append(
                f"sources.{source}: the open pool has no such source; its sources are {', '.join(names) or 'none'}."
                f"{suggest(source, names)}"
            )
        if not isinstance(given, Mapping) or not given:
            problems.append(f"sources.{source}: must be fields with values, of {', '.join(STEPS_OF)}; found {given!r}.")
            continue
        unknown = [str(name) for name in given if name not in STEPS_OF]
        problems += [
            f"sources.{source}.{name}: there is no such rule; the rules are {', '.join(STEPS_OF)}.{suggest(name, STEPS_OF)}"
            for name in unknown
        ]
        empty = [str(name) for name, value in given.items() if value is None]
        if empty:  # in a round's own settings that is the default; here it could mean the pool's, or `auto`
            problems.append(f"sources.{source}: {', '.join(empty)} without a value; give one or leave it out.")
        if not unknown and not empty:
            already = default.problems()
            found = _override(default, given).problems()
            problems += [f"sources.{source}: {problem}" for problem in found if problem not in already]
    return problems


def _override(default: Rules, given: Mapping[str, Any]) -> Rules:
    values = {name: parse_share(value) if name == "distrust_share" else value for name, value in given.items()}
    return dataclasses.replace(default, **values)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
