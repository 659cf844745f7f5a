"""Preference losses: pure functions in float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from mrm.errors import ConfigError
from mrm.model.margins import MARGINS, scale_weight, shift_margin


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


LOSSES = {"bradley_terry": bradley_terry}
