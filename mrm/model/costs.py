"""What a step costs: floating-point operations by arithmetic, memory by counting.

Operations are those that the model needs (two for a multiplication and an addition, nothing for masks, padding or
recomputation), as model FLOPs utilisation counts them (arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mrm.model.families import Family


def attended(prefix: int, responses: Sequence[int]) -> int:
    """Pairs of tokens of which one looks at the other, in a prefix with responses behind it, itself included."""
    return prefix * (prefix + 1) // 2 + sum(n * prefix + n * (n + 1) // 2 for n in responses)


def language_flops(language: Any, tokens: int, looks: int) -> float:
    """Operations of a language model's forward pass, without LM head.

    Args:
        language: a decoder with `layers`, as in transformers.
        tokens: all of them.
        looks: sum of `attended` over the sequences.
    """
    config = language.config
    per_token = sum(_matrix(name, p, config) for name, p in language.layers.named_parameters())
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    attending = sum(kind != "linear_attention" for kind in kinds)
    return 2.0 * per_token * tokens + 4.0 * width * looks * attending


def _matrix(name: str, parameter: Tensor, config: Any) -> float:
    if parameter.ndim == 3 and "experts" in name:  # all experts in one tensor; a token goes through a few
        return parameter.numel() * config.num_experts_per_tok / len(parameter)
    return parameter.numel() if parameter.ndim == 2 else 0


def vision_flops(backbone: Any, family: Family, patches: int, looks: int, tokens: int) -> float:
    """Operations of a vision tower's and projector's forward pass.

    Args:
        backbone: the base model.
        family: its family.
        patches: of all images.
        looks: pairs of patches that look at each other: the sum of the images' squares.
        tokens: image tokens.
    """
    count = {"tower": 0, "projector": 0}
    names: set[str] = set()
    for part, paths in (("projector", family.projector), ("tower", family.vision)):
        for name, parameter in backbone.named_parameters():
            if name.startswith(paths) and name not in names:
                names.add(name)
                table = "pos_embed" in name or "position_embedding" in name  # looked up, not multiplied
                count[part] += parameter.numel() if parameter.ndim >= 2 and not table else 0
    config = backbone.config.vision_config
    depth = getattr(config, "depth", None) or config.num_hidden_layers
    width = getattr(config, "embed_dim", None) or config.hidden_size
    full = getattr(config, "fullatt_block_indexes", None)  # Qwen2.5-VL: the other layers look within windows
    whole = depth if full is None else len(full)
    within = 0 if full is None else min(looks, patches * (config.window_size // config.patch_size) ** 2)
    seen = looks * whole + within * (depth - whole)
    return 2.0 * (count["tower"] * patches + count["projector"] * tokens) + 4.0 * width * seen


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors made within, on any device, and the most that lived at once.

    Attributes:
        now: bytes alive.
        peak: most bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, out)
        return out

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        number = storage._cdata
        if number not in self._known:
            size = storage.nbytes()
            self._known.add(number)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, number, size)
        return tensor

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.now -= size


def state_bytes(model: nn.Module, slices: int = 1) -> dict[str, int]:
    """Bytes that a process holds in training whatever the batch: weights, their gradients, AdamW's two moments.

    Args:
        model: trained weights count as float32, in which the recipes hold them; frozen ones in their own dtype.
        slices: processes over which all of it is sharded.
    """
    trained = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    whole = {"weights": trained + frozen, "gradients": trained, "moments": 2 * trained}
    return {name: -(-size // slices) for name, size in whole.items()}


def dense_rate(device: torch.device, dtype: torch.dtype, size: int = 0, rounds: int = 5) -> float:
    """Operations a second of large matrix products on a device: what utilisation is measured against."""
    size = size or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(rounds + 1):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def wait(device: torch.device) -> None:
    """Until a device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
