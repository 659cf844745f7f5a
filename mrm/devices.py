"""The `device` setting of commands that run a model on one device: auto, cpu or cuda."""

from __future__ import annotations

import torch


def pick_device(name: str = "auto") -> torch.device:
    """The device of a checked setting; `auto` is a GPU where there is one."""
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if name == "auto" else name)


def device_problems(name: str) -> list[str]:
    """What is wrong with a setting."""
    if name not in ("auto", "cpu", "cuda"):
        return [f"device={name!r}: must be one of auto, cpu, cuda."]
    if name == "cuda" and not torch.cuda.is_available():
        return ["device='cuda': torch finds no CUDA device here; choose cpu or auto."]
    return []
