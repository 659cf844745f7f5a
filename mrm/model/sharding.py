"""Weights sharded over the processes of a data-parallel group (FSDP2): each holds a slice of every weight.

A layer's weights are gathered when it runs and let go behind it; gradients and AdamW's moments exist in slices only. The
decoder layers and vision blocks are the units; what lies outside of them is gathered with the whole. The head is a unit
of its own, so that it stays float32 where the rest computes in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from mrm.errors import ConfigError
from mrm.model.backbones import plain_backbone
from mrm.model.reward_model import RewardModel


def shard_model(model: RewardModel, mesh: Any, *, compute: torch.dtype | None = None) -> None:
    """Shards a model in place; all ranks must call, with equal weights.

    Args:
        model: the whole model, on any device.
        mesh: one-dimensional device mesh.
        compute: dtype that gathered weights of the backbone are cast to; None leaves them. Gradients are summed in float32.

    Raises:
        ConfigError: for a backbone whose layers are not known.
    """
    policy = (
        MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32) if compute else MixedPrecisionPolicy()
    )
    plain = plain_backbone(model.backbone)
    units = {name for part in plain.modules() for name in (getattr(part, "_no_split_modules", None) or ())}
    layers = [part for part in plain.modules() if type(part).__name__ in units]
    if not layers:
        raise ConfigError(
            f"trainer.strategy=fsdp2: transformers names no layers of a {plain.config.model_type} to shard by; use ddp."
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    for head in (model.head, model.text_head):
        if head is not None:
            fully_shard(head, mesh=mesh)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "forward_text")


def like(value: Tensor, target: Tensor) -> Tensor:
    """A whole value laid out as a weight is: sharded where that is."""
    if isinstance(target, DTensor):
        return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    return value
