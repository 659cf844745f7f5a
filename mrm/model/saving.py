"""Saved reward models: `from_pretrained` layout with the head, the encoder and the settings beside it.

Two forms. `merged`: the whole backbone, low-rank matrices merged into it; needs nothing else. `adapter`: the matrices
alone, in peft's own layout under `adapter/`; small, and loaded onto the backbone that they were trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mrm.errors import ConfigError, MrmError, ResumableError
from mrm.model.backbones import plain_backbone, resolve
from mrm.model.encoding import ENCODER_FILE, Encoder
from mrm.model.reward_model import HEADS, RewardHead, RewardModel

FORMS = ("merged", "adapter")
HEAD_FILE = "reward_head.safetensors"
MODEL_FILE = "reward_model.json"
ADAPTER = "adapter"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def save_reward_model(
    model: RewardModel, directory: str | Path, encoder: Encoder, *, form: str = "merged", write: bool = True
) -> None:
    """Writes a reward model: backbone or adapter, head, tokenizer, image processor, settings.

    Args:
        model: its weights may be sharded over ranks; all ranks must call then.
        directory: where to.
        encoder: the one to score with.
        form: one of FORMS.
        write: whether this rank writes; the others only give their shards.

    Raises:
        ConfigError: for `adapter` without low-rank matrices.
        MrmError: for weights that are not finite; nothing is written then.
        ResumableError: where a file cannot be written.
    """
    if form not in FORMS:
        raise ConfigError(f"model.save={form!r} is unknown; known: {', '.join(FORMS)}.")
    plain = plain_backbone(model.backbone)
    if form == "adapter" and plain is model.backbone:
        raise ConfigError("model.save='adapter': the backbone has no low-rank matrices; set model.lora.enabled=true.")
    state = _adapter_state(model.backbone, write) if form == "adapter" else _plain_state(plain, write)
    head = {name: gathered(value, keep=write).contiguous() for name, value in model.head.state_dict().items()}
    if not write:
        return
    check_finite({**state, **head})
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"head": model.head.kind, "format": 1}
        if form == "adapter":
            settings["base"] = model.base
            plain.config.save_pretrained(directory)
            model.backbone.save_pretrained(directory / ADAPTER, state_dict=state)
        else:
            plain.save_pretrained(directory, state_dict=state)
        save_file(head, directory / HEAD_FILE)
        (directory / MODEL_FILE).write_text(json.dumps(settings, indent=2) + "\n")
        encoder.save_pretrained(directory)
    except (OSError, SafetensorError) as error:
        raise ResumableError(
            f"{directory}: the model cannot be written: {error}. Make room, or mend what is wrong with the disk, and start again (a"
            " run: with resume=auto); until then what lies there is no whole model."
        ) from error


def gathered(tensor: Tensor, *, keep: bool = True) -> Tensor:
    """A weight as a whole, on the CPU; of a sharded one, gathered from all ranks, which must all ask.

    Without `keep` it is gathered for the others' sake, and nothing of it is returned.
    """
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().cpu() if keep else torch.empty(0)


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a weight."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuses weights that a diverged training leaves behind.

    Raises:
        MrmError: where a weight is NaN or infinite, naming the first.
    """
    spoilt = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if spoilt:
        raise MrmError(
            f"the training has diverged: {len(spoilt)} of {len(state)} weight tensors are not finite (first: {spoilt[0]}), so "
            "they are not saved. Lower optim.lr and optim.head_lr, or look for what is wrong with the data, and start a new run."
        )


def load_reward_model(
    directory: str | Path, *, max_pixels: int | None = None, dtype: str = "float32", **settings: Any
) -> tuple[RewardModel, Encoder]:
    """Loads what `save_reward_model` wrote, ready to score.

    Args:
        directory: a saved reward model.
        max_pixels: resolution; None takes the one that was saved.
        settings: of `RewardModel.from_pretrained`: attention, device, row_tokens.

    Raises:
        ConfigError: where the directory holds no reward model, a file of it is missing or damaged, or the backbone of an
            adapter is not to be had.
    """
    directory = Path(resolve(directory))
    if not (directory / MODEL_FILE).is_file():
        raise ConfigError(
            f"model={str(directory)!r} is no saved reward model: it has no {MODEL_FILE}. "
            "Give the `model` folder of a finished run."
        )
    head, base = _model_settings(directory / MODEL_FILE)
    needed = [HEAD_FILE, ENCODER_FILE]
    if base is not None:
        needed += [f"{ADAPTER}/{name}" for name in ADAPTER_FILES]
    for name in needed:
        if not (directory / name).is_file():
            raise _damaged(directory / name, "it is missing")
    settings = {"head": head, "dtype": dtype, **settings}
    if base is None:
        model = RewardModel.from_pretrained(directory, **settings)
    else:
        model = _with_adapter(base, directory, settings)
    _load_head(model.head, directory)
    encoder = Encoder.from_pretrained(directory)
    return model.eval(), encoder.with_resolution(max_pixels) if max_pixels else encoder


def _with_adapter(base: str, directory: Path, settings: dict[str, Any]) -> RewardModel:
    from peft import PeftModel  # imported where used: it costs two seconds

    try:
        model = RewardModel.from_pretrained(base, **settings)
    except ConfigError as error:
        raise ConfigError(
            f"model: {directory} holds low-rank matrices for the backbone {base!r}, which cannot be loaded: {error} Put it "
            f"there, or correct `base` in {directory / MODEL_FILE}."
        ) from error
    try:
        model.backbone = PeftModel.from_pretrained(model.backbone, directory / ADAPTER)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _damaged(
            directory / ADAPTER, f"its matrices cannot be put onto the backbone {base!r}: {error}"
        ) from error
    return model


def _model_settings(path: Path) -> tuple[str, str | None]:
    """The head's kind, and the base of an adapter."""
    try:
        settings = json.loads(path.read_text())
        kind, base = settings["head"], settings.get("base")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"it has no readable `head`: {error!r}") from error
    if kind not in HEADS:
        raise _damaged(path, f"it has head={kind!r}, known are {', '.join(HEADS)}")
    if base is not None and not isinstance(base, str):
        raise _damaged(path, f"it has base={base!r}, it must be a folder or a hub id")
    return kind, base


def _load_head(head: RewardHead, directory: Path) -> None:
    path = directory / HEAD_FILE
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"it cannot be read: {error}") from error
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise _damaged(path, f"it does not fit the backbone and the head={head.kind!r} of {MODEL_FILE}") from error


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"model: {path}: {why}. Copy the whole `model` folder of the run again.")


def _adapter_state(backbone: Any, keep: bool) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    return {name: gathered(value, keep=keep) for name, value in get_peft_model_state_dict(backbone).items()}


def _plain_state(model: nn.Module, keep: bool) -> dict[str, Tensor]:
    """The weights under their own names, low-rank weights merged into copies.

    Merging in place and back again would leave the model's own weights changed by rounding.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        if "lora_" not in name:
            state[name.replace(".base_layer.", ".")] = gathered(tensor, keep=keep)
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            weight = state[f"{name}.weight"]
            with torch.no_grad():
                deltas = [gathered(layer.get_delta_weight(name), keep=keep).float() for name in layer.active_adapters]
            state[f"{name}.weight"] = (weight.float() + sum(deltas)).to(weight.dtype)
    return state
