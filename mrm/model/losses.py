"""Preference losses: pure functions in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mrm.errors import ConfigError
from mrm.model.margins import MARGINS, scale_weight, shift_margin

TINY = 1e-6  # a quotient of two losses that are both nothing is 1


def bradley_terry(
    delta: Tensor,
    strength: Tensor,
    weight: Tensor,
    *,
    margin: str = "none",
    margin_scale: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The Bradley-Terry loss of each pair, times its weight.

    -log sigmoid(delta - m) with a `shift` margin, w * -log sigmoid(delta) with `scale`, smoothed by taking the label as
    wrong with probability `label_smoothing`.

    Args:
        delta: [E] reward of the chosen minus reward of the rejected response.
        strength: [E] in [0, 1], NaN where unknown: no shift and factor 1.
        weight: [E] factor on each pair.
        margin: `none`, `shift` or `scale`.
        margin_scale: see `mrm.model.margins`.
        label_smoothing: in [0, 0.5).

    Returns:
        [E] float32 losses; the caller sums and normalises.

    Raises:
        ConfigError: for an unknown margin.
    """
    if margin not in MARGINS:
        raise ConfigError(f"loss.margin={margin!r} is unknown; known: {', '.join(MARGINS)}.")
    delta, strength, weight = delta.float(), strength.float(), weight.float()
    if margin == "shift":
        delta = delta - shift_margin(strength, margin_scale)
    elif margin == "scale":
        weight = weight * scale_weight(strength, margin_scale)
    loss = -logsigmoid(delta)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * logsigmoid(-delta)
    return weight * loss


def pair_deltas(rewards: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """[E] differences from [S] rewards and [E] response indices."""
    assert rewards.ndim == 1, "rewards must be [S]: a trailing dimension would broadcast to [E, E]"
    return rewards[chosen] - rewards[rejected]


def shortcut_aware(
    delta: Tensor, strength: Tensor, weight: Tensor, *, text_delta: Tensor, sees: Tensor, **settings: Any
) -> tuple[Tensor, Tensor]:
    """Bradley-Terry weighted towards pairs that the text alone does not solve.

    A twin that sees no image is trained beside the model. A pair weighs 2 l_text / (l_text + l), with the plain losses of twin and
    model: 1 where both do as well, towards 2 where the image is needed, towards 0 where the text gives the winner away
    (the shortcut-failure coefficient of arXiv 2503.03122, times 2 so that the loss keeps its size).

    Args:
        delta, strength, weight: as for `bradley_terry`.
        text_delta: [E] as delta, of the twin.
        sees: [E] whether there is an image to see; without one the factor is 1, for the twin then sees as much.
        settings: of `bradley_terry`, for the model's loss; the twin's has no margin.

    Returns:
        [E] losses of the model, and [E] of the twin.
    """
    one = torch.ones_like(weight)
    own, text = (bradley_terry(values, strength, one) for values in (delta, text_delta))
    factor = ((2 * text + TINY) / (text + own + TINY)).detach()
    factor = torch.where(sees, factor, 1.0)
    return bradley_terry(delta, strength, weight * factor, **settings), weight.float() * text


LOSSES: dict[str, Callable[..., Any]] = {"bradley_terry": bradley_terry, "shortcut_aware": shortcut_aware}
TEXT_ONLY = ("shortcut_aware",)  # losses that need a twin without images
