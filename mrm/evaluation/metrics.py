"""Accuracy over preference pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class PreferenceAccuracy(Metric):
    """Share of pairs whose chosen response scores strictly higher: a tie is wrong.

    Counts add up over batches and processes, so that uneven batches do not bend the mean.
    """

    full_state_update = False
    correct: Tensor
    ties: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("correct", "ties", "total"):
            self.add_state(name, default=torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, delta: Tensor) -> None:
        """Adds [E] reward differences, chosen minus rejected."""
        self.correct += (delta > 0).sum()
        self.ties += (delta == 0).sum()
        self.total += delta.numel()

    def compute(self) -> Tensor:
        """[] accuracy, NaN without pairs."""
        return self.correct / self.total
