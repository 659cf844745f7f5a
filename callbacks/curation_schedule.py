"""The schedule of curation: which round runs at which boundary, and what is checked before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np

from callbacks.annotating import Annotators
from callbacks.score_passes import ScorePass
from mrm.curation.policy import MISSING_VOTES
from mrm.curation.rules import STEPS_OF, Rules, parse_share, source_problems, without_effect
from mrm.errors import ConfigError

STEPS = ("score", "correct", "filter", "annotate")
RESTARTS = ("warm", "cold", "head")


@dataclass(frozen=True)
class RoundSpec:
    """One round of curation.

    Args:
        after_epoch: the 0-based epoch at whose end it runs.
        steps: of `score`, `correct`, `filter`, `annotate`, in this order.
        correct_mode, down_weight, max_flipped, max_dropped: see `mrm.curation.rules.Rules`.
        admit_weight: weight of the pairs that `correct` admits or flips, until a `filter` confirms them, in (0, 1]. A pool
            half of whose noise is left teaches a model to agree with the other half; 1 is the released method.
        distrust_share, dead_zone, agreement: see `mrm.curation.rules.Rules`; a `distrust_share` of None is set by the estimated
            noise, `auto` where a person writes it.
        missing: what becomes of a queued pair that not all votes arrived for: `wait`, or `drop` as released.
        sources: source -> fields of `Rules` that it has of its own. The negatives of a source with a `distrust_share` are ranked by
            themselves.
    """

    after_epoch: int
    steps: tuple[str, ...]
    correct_mode: str = "flip"
    down_weight: float = 0.5
    admit_weight: float = 1.0
    distrust_share: float | None = 0.5
    dead_zone: float = 0.0
    agreement: str = "mean"
    missing: str = "wait"
    max_flipped: float = 0.5
    max_dropped: float = 0.5
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """The rules of the pool, for sources that have none of their own."""
        return Rules(**{name: getattr(self, name) for name in STEPS_OF})


def round_spec(spec: RoundSpec | Mapping[str, Any]) -> RoundSpec:
    """A round from its mapping form.

    Raises:
        ConfigError: for an unknown or missing field.
    """
    if isinstance(spec, RoundSpec):
        return dataclasses.replace(spec, steps=tuple(spec.steps))
    known = [field.name for field in dataclasses.fields(RoundSpec)]
    wrong, missing = sorted(set(spec) - set(known)), [name for name in known[:2] if name not in spec]
    if wrong or missing:
        raise ConfigError(
            f"a curation round has the fields {', '.join(known)}; unknown: {wrong or 'none'}, missing: {missing or 'none'}."
        )
    given = {**spec, "steps": tuple(spec["steps"])}
    if "distrust_share" in given:
        given["distrust_share"] = parse_share(given["distrust_share"])
    return RoundSpec(**given)


def check_settings(
    schedule: Sequence[RoundSpec], annotators: Annotators | None, restart: str, min_active_share: float, *, passes: int
) -> None:
    """Checks what can be checked without a trainer.

    Args:
        schedule, annotators, restart, min_active_share: of `IterativeCuration`.
        passes: score passes of a round.

    Raises:
        ConfigError: listing every problem.
    """
    problems = []
    epochs = [spec.after_epoch for spec in schedule]
    if any(epoch < 0 for epoch in epochs) or epochs != sorted(set(epochs)):
        problems.append(f"after_epoch must rise from round to round and not be negative, found {epochs}.")
    for number, spec in enumerate(schedule, start=1):
        problems += [f"round {number}: {problem}" for problem in _spec_problems(spec)]
        if passes == 1 and "unanimous" in _values(spec, "agreement"):
            problems.append(
                f"round {number}: agreement=unanimous has an effect only with several score passes; there is one."
            )
        if "annotate" in spec.steps:
            if annotators is None:
                problems.append(f"round {number}: `annotate` needs annotators, none are given.")
            if (
                annotators is not None
                and annotators.mode == "async"
                and spec.missing == "drop"
                and "filter" in spec.steps
            ):
                problems.append(
                    f"round {number}: with judges asked beside the training (async), missing=drop would drop unasked what this round's"
                    " `filter` queues; set missing=wait, or let the filter stand in a round before."
                )
            if not any("filter" in earlier.steps for earlier in schedule[:number]):
                problems.append(
                    f"round {number}: `annotate` has nothing to do: no `filter` step before it queues pairs."
                )
            elif annotators is not None and annotators.mode == "async":
                if not any("filter" in earlier.steps for earlier in schedule[: number - 1]):
                    problems.append(
                        f"round {number}: `annotate` has nothing to take: judges are asked beside the training (mode=async) about what an"
                        " earlier round queued, and none before it filters. Give it an epoch more, or choose mode=sync."
                    )
    if restart not in RESTARTS:
        problems.append(f"restart={restart!r} is none of {', '.join(RESTARTS)}.")
    if not 0 <= min_active_share <= 1:
        problems.append(f"min_active_share={min_active_share!r} must be in [0, 1].")
    _raise(problems)


def check_run(
    schedule: Sequence[RoundSpec], restart: str, trainer: pl.Trainer, datamodule: Any, passes: Sequence[ScorePass]
) -> None:
    """Checks a schedule and its score passes against the run that they are part of.

    Raises:
        ConfigError: listing every problem.
    """
    problems = []
    if datamodule.ledger_dir is None:
        problems.append("there is no ledger_dir: give the datamodule a directory for the ledgers.")
    if not datamodule.trusted.any():
        problems.append(
            "there is no trusted data: the first scoring model must learn from pairs that need no curation; give a data set the role `trusted`."
        )
    if datamodule.trusted.all():
        problems.append("there is no open data to curate: give a data set the role `open`, or an empty schedule.")
    if trainer.reload_dataloaders_every_n_epochs != 1:
        problems.append(
            f"Trainer(reload_dataloaders_every_n_epochs={trainer.reload_dataloaders_every_n_epochs}) would train on the old pool: set it to 1."
        )
    index = datamodule.index
    known = [index.source_names[number] for number in np.unique(index.source[~datamodule.trusted])]
    for number, spec in enumerate(schedule, start=1):
        problems += [f"round {number}: {p}" for p in source_problems(spec.rules, spec.sources, known)]
    problems += [
        f"a score pass has path={spec.path}: there is no such folder; give the `model` folder of a finished run."
        for spec in passes
        if spec.path is not None and not Path(spec.path).is_dir()
    ]
    last = (trainer.max_epochs or -1) - 1
    if last >= 0 and not trainer.fast_dev_run:
        late = [spec.after_epoch for spec in schedule if spec.after_epoch > last]
        if late:
            problems.append(
                f"rounds after epoch {late} never run: max_epochs={trainer.max_epochs}, so the last epoch is {last}."
            )
        if restart != "warm" and any(spec.after_epoch == last for spec in schedule):
            problems.append(f"a {restart} restart after the last epoch ({last}) would throw the trained model away.")
    _raise(problems)


def _spec_problems(spec: RoundSpec) -> list[str]:
    problems = []
    unknown = [step for step in spec.steps if step not in STEPS]
    if unknown or not spec.steps:
        problems.append(f"unknown step(s) {unknown} in {list(spec.steps)}; the steps are {', '.join(STEPS)}.")
    elif list(spec.steps) != [step for step in STEPS if step in spec.steps]:
        problems.append(f"steps {list(spec.steps)} must each stand once and in the order {', '.join(STEPS)}.")
    if {"correct", "filter"} & set(spec.steps) and "score" not in spec.steps:
        problems.append("`correct` and `filter` decide by this round's scores: put `score` before them.")
    problems += spec.rules.problems()
    if spec.missing not in MISSING_VOTES:
        problems.append(f"missing={spec.missing!r} is none of {', '.join(MISSING_VOTES)}.")
    problems += source_problems(spec.rules, spec.sources, None)
    if not problems and {"correct", "filter"} <= set(spec.steps) and "weight" in _values(spec, "correct_mode"):
        problems.append(
            "correct_mode=weight has no effect in a round that filters, too: the filter queues every pair that was distrusted. Let"
            " a later round filter, or take another mode."
        )
    if not problems:
        problems += _effect_problems(spec)
    return problems


def _effect_problems(spec: RoundSpec) -> list[str]:
    """Settings of a round, or of its sources, that are not the defaults and that nothing heeds: one sentence each."""
    usual = RoundSpec(spec.after_epoch, spec.steps)
    changed = [name for name in STEPS_OF if getattr(spec, name) != getattr(usual, name)]
    found = {
        f"{name}={getattr(spec, name)}": need
        for name, need in without_effect(changed, spec.steps, _values(spec, "correct_mode")).items()
    }
    if spec.missing != usual.missing and "annotate" not in spec.steps:
        found[f"missing={spec.missing}"] = "`annotate`"
    for source, own in spec.sources.items():
        modes = [own.get("correct_mode", spec.correct_mode)]
        needs = without_effect([name for name in own if name in STEPS_OF], spec.steps, modes)
        found |= {f"sources.{source}.{name}": need for name, need in needs.items()}
    return [f"{what}: has an effect only with {need}." for what, need in found.items()]


def _values(spec: RoundSpec, name: str) -> set[Any]:
    """What a setting is in the pool, or in any source that has its own."""
    owns = [own for own in spec.sources.values() if isinstance(own, Mapping) and name in own]
    return {getattr(spec, name), *(own[name] for own in owns)}


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError("curation cannot be run as configured:\n- " + "\n- ".join(problems))
