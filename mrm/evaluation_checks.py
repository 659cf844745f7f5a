"""What is wrong with the settings of evaluation while training; a part of `mrm.config_checks`."""

from __future__ import annotations

import math

from datamodules.dataset_spec import TRAINED
from mrm.config import BestConfig, EarlyStoppingConfig, EvaluationConfig, RunConfig
from mrm.errors import suggest
from mrm.evaluation.course import metric_names

Problems = list[str]


def evaluated_sets(config: RunConfig) -> tuple[list[str], list[str]]:
    """Names of the sets of role `val` and of role `test` that are evaluated while training."""
    roles = {name: dataset.role for name, dataset in config.data.datasets.items() if dataset.use}
    named = config.evaluation.sets
    if named is None:
        named = [name for name, role in roles.items() if role == "val"]
    return [name for name in named if roles.get(name) == "val"], [name for name in named if roles.get(name) == "test"]


def first_counting_epoch(config: RunConfig) -> int:
    """The first epoch whose evaluations may stop the training: behind the last round of curation."""
    rounds = [spec.after_epoch for spec in config.curation.schedule] if config.curation.enabled else []
    return max(rounds, default=-1) + 1


def evaluation_problems(config: RunConfig) -> Problems:
    """What is wrong, with what is allowed."""
    evaluation, problems = config.evaluation, _sets_problems(config)
    for name in ("every_n_steps", "every_n_epochs"):
        value = getattr(evaluation, name)
        if value is not None and value < 1:
            problems.append(f"evaluation.{name}={value}: must be at least 1, or null.")
    val, test = evaluated_sets(config)
    epochs, most = evaluation.every_n_epochs, config.trainer.max_epochs
    if (val or test) and evaluation.every_n_steps is None and epochs is not None and epochs > most:
        problems.append(
            f"evaluation.every_n_epochs={epochs}: nothing is ever evaluated, trainer.max_epochs={most}; give at most so many, or every_n_steps."
        )
    if (val or test) and evaluation.every_n_steps is None and evaluation.every_n_epochs is None:
        problems.append("evaluation.every_n_epochs=None: nothing is ever evaluated; give it, or every_n_steps.")
    if not (val or test) and evaluation != EvaluationConfig(sets=evaluation.sets):
        problems.append(
            "evaluation: has no effect, there is nothing to evaluate; give a data set role=val, of other samples than those that are trained"
            " and tested on."
        )
        return problems
    problems += _metric_problems("early_stopping", evaluation.early_stopping, EarlyStoppingConfig(), val, test)
    problems += _metric_problems("best", evaluation.best, BestConfig(), val, test)
    problems += _stopping_problems(config)
    if evaluation.best.keep < 1:
        problems.append(f"evaluation.best.keep={evaluation.best.keep}: must be at least 1.")
    return problems


def _sets_problems(config: RunConfig) -> Problems:
    named = config.evaluation.sets
    if named is None:
        return []
    used = {name: dataset.role for name, dataset in config.data.datasets.items() if dataset.use}
    held_out = [name for name, role in used.items() if role not in TRAINED]
    problems = []
    for name in named:
        if used.get(name) in TRAINED:
            problems.append(
                f"evaluation.sets: {name} has role={used[name]}, it is trained on; name sets of role val (or test, to be shown only)."
            )
        elif name not in used:
            known = ", ".join(held_out) or "none"
            problems.append(
                f"evaluation.sets: there is no data set {name!r} in use; known: {known}.{suggest(name, held_out)}"
            )
    if len(set(named)) != len(named):
        problems.append(f"evaluation.sets={named}: names a set twice.")
    problems += [
        f"data.datasets.{name}: has role=val, but evaluation.sets does not name it; name it there, or set its use=false."
        for name, role in used.items()
        if role == "val" and name not in named
    ]
    return problems


def _metric_problems(
    part: str,
    given: EarlyStoppingConfig | BestConfig,
    default: EarlyStoppingConfig | BestConfig,
    val: list[str],
    test: list[str],
) -> Problems:
    path = f"evaluation.{part}"
    if given.metric is None:
        return (
            []
            if given == default
            else [f"{path}: has no effect with {path}.metric=null; give a metric, val/accuracy is usual."]
        )
    known = metric_names(val)
    if given.metric in known:
        return []
    if given.metric in metric_names(test) or not val:
        return [
            f"{path}.metric={given.metric!r}: by a test set nothing may be chosen, or its figure in the end would be too good; give a data set"
            f" role=val, of other samples. Known here: {', '.join(known) or 'none'}."
        ]
    return [f"{path}.metric={given.metric!r}: must be one of {', '.join(known)}.{suggest(given.metric, known)}"]


def _stopping_problems(config: RunConfig) -> Problems:
    """With `every_n_steps`, only the training's start knows how many steps there are: `PeriodicEvaluation` refuses a patience there."""
    stopping, path = config.evaluation.early_stopping, "evaluation.early_stopping"
    problems = []
    if stopping.patience < 1:
        problems.append(f"{path}.patience={stopping.patience}: must be at least 1.")
    if not 0 <= stopping.min_delta < math.inf:
        problems.append(f"{path}.min_delta={stopping.min_delta}: must be at least 0.")
    every = config.evaluation.every_n_epochs
    if problems or stopping.metric is None or config.evaluation.every_n_steps is not None or not every or every < 1:
        return problems
    first, epochs = first_counting_epoch(config), config.trainer.max_epochs
    ends = [epoch for epoch in range(first, epochs) if (epoch + 1) % every == 0]
    if len(ends) <= stopping.patience or ends[stopping.patience] == epochs - 1:
        behind = f" behind the last round of curation, after epoch {first - 1}," if first else ""
        problems.append(
            f"{path}.patience={stopping.patience}: can never stop this run: of {epochs} epochs,{behind} {len(ends)} end with an evaluation that"
            " counts, and the first of them has nothing to improve on. Evaluate more often (evaluation.every_n_steps), train for more epochs, or"
            " lower the patience."
        )
    return problems
