"""Strength-aware margins of the Bradley-Terry loss: pure functions of a pair's strength.

A pair of unknown strength (NaN) has no shift and weight 1, so that it trains as in the plain loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

MARGINS = ("none", "shift", "scale")


def shift_margin(strength: Tensor, scale: float) -> Tensor:
    """How much better the chosen response must score (Llama 2): `scale * s`, 0 where unknown.

    Args:
        strength: [E] in [0, 1], NaN where unknown.
        scale: the margin at strength 1, in units of reward.
    """
    return torch.nan_to_num(strength, nan=0.0) * scale


def scale_weight(strength: Tensor, scale: float) -> Tensor:
    """The factor on a pair's loss (scaled Bradley-Terry, HelpSteer2-Preference): from 1 - scale/2 to 1 + scale/2.

    Linear in strength with weight 1 at strength 0.5, and 1 where unknown: the loss keeps its size.

    Args:
        strength: [E] in [0, 1], NaN where unknown.
        scale: the difference between the factors at strengths 1 and 0, in [0, 2].
    """
    return 1 + (torch.nan_to_num(strength, nan=0.5) - 0.5) * scale
