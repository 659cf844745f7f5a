"""The score passes of a round: who scores the pool, how often, and what is taken from training instead.

Each pass gives every pair a score of its own; the policy takes their mean, and their spread as the uncertainty.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from callbacks.pool_scoring import PoolScores, Scorer, own_scorer, pair_scores, score_pool
from callbacks.round_inputs import PairScores
from callbacks.training_scores import TrainingScores
from datamodules.distinct import response_starts
from datamodules.index import Index
from mrm.curation.trajectories import area_under_margin
from mrm.errors import ConfigError
from mrm.model.saving import load_reward_model

KINDS = ("current", "recorded", "trajectory", "dropout", "model")
FROM_TRAINING = ("recorded", "trajectory")


@dataclass(frozen=True)
class ScorePass:
    """One way to score the pool.

    Args:
        kind: `current`, the model in training as it stands; `recorded`, the scores that the epoch before the round computed anyway,
            those nearest to zero scored anew; `trajectory`, the mean of all scores that training computed for a pair (its
            area under the margin); `dropout`, the model with dropout, `count` times; `model`, a saved one.
        count: passes of `dropout`.
        path: the folder of `model`.
        fresh_share: of `recorded`: the share of the recorded pairs, those nearest to zero, that are scored anew, in [0, 1].
    """

    kind: str = "current"
    count: int = 1
    path: str | None = None
    fresh_share: float = 0.25


def score_pass(spec: ScorePass | Mapping[str, Any]) -> ScorePass:
    """A pass from its mapping form.

    Raises:
        ConfigError: for an unknown field.
    """
    if isinstance(spec, ScorePass):
        return spec
    known = [field.name for field in dataclasses.fields(ScorePass)]
    if unknown := sorted(set(spec) - set(known)):
        raise ConfigError(f"a score pass has the fields {', '.join(known)}; unknown: {', '.join(unknown)}.")
    return ScorePass(**spec)


def pass_problems(passes: Sequence[ScorePass]) -> list[str]:
    """What is wrong with the passes of a round, in words."""
    problems = [] if passes else ["there is no score pass; `current` is the usual one."]
    for number, spec in enumerate(passes):
        where, standard = f"pass {number} ({spec.kind})", ScorePass(spec.kind)
        if spec.kind not in KINDS:
            problems.append(f"pass {number}: kind={spec.kind!r} is none of {', '.join(KINDS)}.")
            continue
        for name, kind in (("count", "dropout"), ("path", "model"), ("fresh_share", "recorded")):
            if spec.kind != kind and getattr(spec, name) != getattr(standard, name):
                problems.append(f"{where}: {name} has an effect with kind {kind} only.")
        if spec.count < 1:
            problems.append(f"{where}: count={spec.count} must be at least 1.")
        if not 0 <= spec.fresh_share <= 1:
            problems.append(f"{where}: fresh_share={spec.fresh_share} must be in [0, 1].")
        if spec.kind == "model" and not spec.path:
            problems.append(f"{where}: path must name the `model` folder of a finished run.")
    if len(set(passes)) < len(passes):
        problems.append("two score passes are the same; of `dropout` take a larger count.")
    return problems


def score_pairs(
    passes: Sequence[ScorePass],
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    datamodule: Any,
    needed: np.ndarray,
    recorded: TrainingScores,
) -> PairScores:
    """Runs the passes; called by all ranks together.

    Args:
        passes: checked by `pass_problems`.
        trainer, pl_module, datamodule: of the run.
        needed: bool[P], the pairs to score.
        recorded: what training computed; settled.

    Returns:
        Scores [S, P] in the published orientation, NaN where a pair is not needed or its sample unreadable.

    Raises:
        CurationError, UnreadableSamplesError: see `score_pool`.
    """
    index: Index = datamodule.index
    fresh = [_rows_to_score(spec, index, needed, recorded) for spec in passes]
    run = functools.partial(score_pool, trainer, datamodule=datamodule)
    own = run(
        own_scorer(trainer, pl_module), rows=_union(s for s, spec in zip(fresh, passes, strict=True) if _is_own(spec))
    )
    results: list[PoolScores] = []
    for spec, own_rows in zip(passes, fresh, strict=True):
        if spec.kind == "current":
            results.append(own)
        elif spec.kind in FROM_TRAINING:
            results.append(_with_recorded(spec, own, recorded, _responses(index, own_rows)))
        elif spec.kind == "dropout":
            rows = _rows(index, needed)
            results += [run(_dropout_scorer(trainer, pl_module, number), rows=rows) for number in range(spec.count)]
        else:
            results.append(
                run(_saved_scorer(trainer, pl_module, datamodule, str(spec.path)), rows=_rows(index, needed))
            )
    chosen, rejected, reasons = zip(*(pair_scores(result, index, needed) for result in results), strict=True)
    why = reasons[0]
    for other in reasons[1:]:
        why = np.where(why == "", other, why)
    return PairScores(np.stack(chosen), np.stack(rejected), why)


def _is_own(spec: ScorePass) -> bool:
    return spec.kind == "current" or spec.kind in FROM_TRAINING


def _rows(index: Index, pairs: np.ndarray) -> np.ndarray:
    return np.unique(index.pair_sample[pairs]).astype(np.int64)


def _union(parts: Any) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))


def _rows_to_score(spec: ScorePass, index: Index, needed: np.ndarray, recorded: TrainingScores) -> np.ndarray:
    """int64: the rows that the model in training has to score for a pass."""
    if spec.kind not in FROM_TRAINING:
        return _rows(index, needed) if spec.kind == "current" else np.zeros(0, np.int64)
    margin = _margin(index, recorded.newest if spec.kind == "recorded" else recorded.total)
    known = needed & np.isfinite(margin)
    if spec.kind == "trajectory":
        first = response_starts(index)[index.pair_sample]
        known &= (recorded.times[first + index.pair_chosen] > 0) & (recorded.times[first + index.pair_rejected] > 0)
        return _rows(index, needed & ~known)
    return _rows(index, (needed & ~known) | nearest_to_zero(np.where(known, margin, np.nan), spec.fresh_share))


def nearest_to_zero(margin: np.ndarray, share: float) -> np.ndarray:
    """bool[P]: the ceil(share * n) of the n pairs with a margin whose margins are nearest to zero; of equal ones the first."""
    known = np.flatnonzero(np.isfinite(margin))
    taken = known[np.argsort(np.abs(margin[known]), kind="stable")[: math.ceil(round(share * len(known), 6))]]
    selected = np.zeros(len(margin), bool)
    selected[taken] = True
    return selected


def _margin(index: Index, values: np.ndarray) -> np.ndarray:
    first = response_starts(index)[index.pair_sample]
    return values[first + index.pair_chosen] - values[first + index.pair_rejected]


def _responses(index: Index, rows: np.ndarray) -> np.ndarray:
    """bool [R]: the responses of these rows."""
    asked = np.zeros(len(index), bool)
    asked[rows] = True
    return np.repeat(asked, index.n_responses)


def _with_recorded(spec: ScorePass, own: PoolScores, recorded: TrainingScores, fresh: np.ndarray) -> PoolScores:
    """The model's own scores where the pass asked for them (`fresh`, bool [R]), training's elsewhere.

    Of a trajectory, a response that training has seen keeps its mean.
    """
    if spec.kind == "recorded":
        values, known = recorded.newest, np.isfinite(recorded.newest)
    else:
        values, known = (
            area_under_margin(recorded.total, recorded.times),
            (recorded.times > 0) & np.isfinite(recorded.total),
        )
        fresh = fresh & ~known
    rewards = np.where(fresh, own.rewards, np.where(known, values, np.nan)).astype(np.float32)
    return PoolScores(rewards, np.where(fresh, own.scored, known), own.unreadable)


def _dropout_scorer(trainer: pl.Trainer, pl_module: pl.LightningModule, number: int) -> Scorer:
    drops = tuple(part for part in pl_module.modules() if isinstance(part, torch.nn.Dropout) and part.p > 0)
    if not drops:
        raise ConfigError(
            "a score pass of kind `dropout` needs a model with dropout: set model.lora.dropout, or take another kind."
        )
    plain = own_scorer(trainer, pl_module)
    torch.manual_seed(1_000_003 * (number + 1) + trainer.global_rank)  # within `isolate_rng`
    return dataclasses.replace(plain, training=drops)


def _saved_scorer(trainer: pl.Trainer, pl_module: pl.LightningModule, datamodule: Any, path: str) -> Scorer:
    model, encoder = load_reward_model(path, device=pl_module.device.type, row_tokens=datamodule.row_tokens)
    model = model.to(pl_module.device)

    def predict(batch: Any) -> torch.Tensor:
        with trainer.precision_plugin.forward_context():
            return model(batch)

    return Scorer((model,), predict, encoder, model.layout)
