"""Where a command's scores come from: the saved model that its settings name, or a file.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from mrm.devices import pick_device
from mrm.model.encoding import Encoder
from mrm.model.reward_model import RewardModel
from mrm.model.saving import load_reward_model

SCORING = ("batch_size", "row_tokens", "max_pixels", "frames", "device", "dtype", "attention", "workers")


class ScoringSettings(Protocol):
    """What the configuration of each such command has, checked. `model` is the `model` folder of a run."""

    model: Any
    max_pixels: int | None
    row_tokens: int | None
    device: str
    dtype: str
    attention: str


def source_problems(model: str | None, scores: str | None) -> list[str]:
    """What is wrong with where scores come from: a model or a file, one of both."""
    problems = []
    if (model is None) == (scores is None):
        problems.append(f"model, scores: give one of both; found model={model!r} and scores={scores!r}.")
    if model is not None and not (model and Path(model).is_dir()):  # an empty name is the current folder
        problems.append(f"model={model!r}: there is no such folder; give the `model` folder of a finished run.")
    if scores is not None and not Path(scores).is_file():
        problems.append(f"scores={scores!r}: there is no such file.")
    return problems


def without_model(config: Any, names: Sequence[str] = SCORING) -> list[str]:
    """Settings of scoring that are not the defaults although no model scores: one sentence each.

    Args:
        config: a dataclass with `model` and some of `names`.
        names: of the settings.
    """
    if config.model is not None:
        return []
    usual = {field.name: field.default for field in dataclasses.fields(config)}
    return [
        f"{name}={getattr(config, name)}: has an effect only with model=; leave it out."
        for name in names
        if name in usual and getattr(config, name) != usual[name]
    ]


def load_scoring_model(config: ScoringSettings) -> tuple[RewardModel, Encoder, torch.device]:
    """The model on its device, in evaluation mode, its encoder, and the device.

    Raises:
        ConfigError: for a folder that holds no reward model, or settings that do not fit it.
    """
    assert config.model is not None, "checked"
    device = pick_device(config.device)
    model, encoder = load_reward_model(
        config.model,
        max_pixels=config.max_pixels,
        dtype=config.dtype,
        attention=config.attention,
        device=device.type,
        row_tokens=config.row_tokens,
    )
    return model.to(device).eval(), encoder, device
