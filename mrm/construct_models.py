"""The models of a construction, and all else that decides its outcome, built from its configuration."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mrm.construct_config import REWRITER, ConstructConfig, ModelSpec, rewriter_of, used
from mrm.construction.agreement import AgreementRule
from mrm.construction.calling.budget import Price
from mrm.construction.calling.callables import CallableModel
from mrm.construction.calling.calls import Model
from mrm.construction.calling.servers import OpenAIServer
from mrm.construction.diversity import Embed
from mrm.construction.embedded import ShapeWorldResponder, ShapeWorldRewriter, ShapeWorldScorer
from mrm.construction.recipe import Recipe
from mrm.construction.responding import Responder
from mrm.construction.rubrics import load_rubrics
from mrm.errors import ConfigError

OPENAI_URL = "https://api.openai.com/v1"
EMBEDDED = {"responder": ShapeWorldResponder, "judge": ShapeWorldScorer, "rewriter": ShapeWorldRewriter}
JUDGED = ("listwise", "pointwise", "verify")  # the stages that ask judges


def build_recipe(config: ConstructConfig) -> Recipe:
    """The configuration's parts, built.

    Raises:
        ConfigError: for a model, embedder or rubric that cannot be, and for two models that are one.
    """
    responders, judges, rewriter = used(config.responders), used(config.judges), rewriter_of(config)
    rubrics = load_rubrics(config.language, config.rubrics)
    rule = AgreementRule(
        modes=config.agreement.modes,
        judges=config.agreement.judges,
        least_difference=config.agreement.least_difference,
    )
    recipe = Recipe(
        [Responder(build_model("responder", n, spec, config.seed), spec.samples) for n, spec in responders.items()],
        [build_model("judge", name, spec, config.seed) for name, spec in judges.items()],
        rubrics,
        rule,
        rewriter=None if rewriter is None else build_model("rewriter", REWRITER, rewriter, config.seed),
        seed=config.seed,
        listwise_repeats=config.listwise_repeats,
        keep_responses=config.keep_responses,
        embed=None if config.embedder is None else _embed(config.embedder),
        embedder=config.embedder,
        rewrite_tolerance=config.rewrite_tolerance,
        style_mode=config.style.mode,
        style_target=config.style.target,
    )
    _check_distinct(recipe)
    return recipe


def build_model(role: str, name: str, spec: ModelSpec, seed: int) -> Model:
    """A model by its specification.

    Args:
        role: responder, judge or rewriter.
        name: its name.
        spec: what it is.
        seed: of an embedded model's draws.

    Raises:
        ConfigError: if it cannot be built; names the key.
    """
    if spec.kind == "shapeworld":
        try:
            return EMBEDDED[role](name, seed=seed, **spec.options)
        except TypeError as error:
            raise ConfigError(f"{role} {name!r}, options: {error}.") from error
    if spec.kind == "callable":
        target = spec.target or ""
        function = functools.partial(_imported(f"model {name!r}, target={target!r}", target), **spec.options)
        price = Price(spec.price_input or 0.0, spec.price_output or 0.0)
        identity = {"target": target, **spec.options}
        return CallableModel(name, function, identity=identity, concurrency=spec.concurrency, price=price)
    standard = "OPENAI_API_KEY" if spec.base_url is None else None
    return OpenAIServer(
        name,
        model=spec.model or "",
        base_url=spec.base_url or OPENAI_URL,
        api=spec.api,
        key_env=standard if spec.key_env == "auto" else spec.key_env,
        json_schema=spec.json_schema,
        temperature=spec.temperature,
        top_p=spec.top_p,
        max_tokens=spec.max_tokens,
        timeout_s=spec.timeout_s,
        concurrency=spec.concurrency,
        max_image_pixels=spec.max_image_pixels,
        image_detail=spec.image_detail,
        price=None if spec.price_input is None else Price(spec.price_input, spec.price_output or 0.0),
        extra_body=spec.extra_body,
    )


def _imported(what: str, target: str) -> Any:
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what}: {error}; it must be importable from here.") from error


def _embed(target: str) -> Embed:
    """The function that the configuration names, whose faults are told under its name."""
    function = _imported(f"embedder={target!r}", target)

    def embed(texts: Sequence[str]) -> npt.ArrayLike:
        try:
            vectors = np.asarray(function(list(texts)), np.float64)
        except Exception as error:  # of a function of the user's own
            raise ConfigError(f"embedder {target!r}: {type(error).__name__}: {error}.") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ConfigError(
                f"embedder {target!r}: gave an array of shape {vectors.shape} for {len(texts)} texts; it must be "
                f"[{len(texts)}, numbers], all finite."
            )
        return vectors

    return embed


def _check_distinct(recipe: Recipe) -> None:
    responders, judges = [each.model for each in recipe.responders], list(recipe.judges)
    for role, models in (("responders", responders), ("judges", judges)):
        for first, second in itertools.combinations(models, 2):
            if first.identity == second.identity:
                raise ConfigError(
                    f"{role}: {first.name!r} and {second.name!r} are one model asked in one way, whose answers are the same; keep one"
                    + (", with more samples." if role == "responders" else ".")
                )


def models_asked(recipe: Recipe, stages: Sequence[str]) -> dict[str, Model]:
    """The models that some stages ask, by name: nobody needs the key of another."""
    asked: list[Model] = [each.model for each in recipe.responders] if "respond" in stages else []
    if set(JUDGED) & set(stages) - set(recipe.skipped):
        asked += recipe.judges
    if recipe.rewriter is not None and "rewrite" in stages:
        asked.append(recipe.rewriter)
    return {model.name: model for model in asked}
