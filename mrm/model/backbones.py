"""Loading a vision-language backbone without its language-model head.

One path for the packaged tiny Qwen3-VL, a local directory and a hub id. What is frozen, low-rank adapted or recomputed
is decided here; the reward head is `mrm.model.reward_model`'s.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel

from mrm.errors import ConfigError, suggest
from mrm.model.attention import by_part_of
from mrm.model.families import Family, get_family
from mrm.model.patch_embedding import embed_patches_by_product

log = logging.getLogger(__name__)

TINY = "tiny"
TINY_DIRECTORY = Path(__file__).resolve().parent.parent / "assets" / "tiny_qwen3_vl"
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_OF_A_LAYER = re.compile(r"^(?!.*mtp).*\.(layers?|blocks)\.\d+\.(?!.*inv_freq)")  # mtp: heads for speculation, not used
EXPERT_TARGETS = ("gate_proj", "up_proj", "down_proj")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation of the language model's linear layers."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def resolve(name_or_path: str | Path) -> str:
    """`tiny` means the packaged backbone; anything else is a directory or a hub id."""
    return str(TINY_DIRECTORY) if str(name_or_path) == TINY else str(name_or_path)


def check_backbone(name_or_path: str) -> None:
    """Looks whether a backbone that can only be a folder is there; a hub id is left to loading.

    Raises:
        ConfigError: for a folder that is missing or has no config.json.
    """
    path = resolve(name_or_path)
    if not Path(path).is_dir():
        if HUB_ID.fullmatch(path):
            return
        raise ConfigError(f"{name_or_path!r}: there is no folder {path}; give a folder, {TINY!r} or a hub id.")
    if not (Path(path) / "config.json").is_file():
        raise ConfigError(f"{name_or_path!r}: {path} has no config.json; is the checkpoint whole?")


def model_type(name_or_path: str | Path) -> str:
    """The `model_type` of a checkpoint, a key of `mrm.model.families.FAMILIES`.

    Raises:
        ConfigError: where there is no checkpoint, or one of an unknown family.
    """
    try:
        kind = AutoConfig.from_pretrained(resolve(name_or_path)).model_type
    except (OSError, ValueError, StrictDataclassError) as error:
        raise ConfigError(f"model.backbone={str(name_or_path)!r} cannot be loaded: {error}") from error
    get_family(kind)
    return kind


def load_backbone(
    name_or_path: str | Path,
    *,
    dtype: str = "float32",
    attention: str = "sdpa",
    freeze_vision: bool = True,
    freeze_projector: bool = True,
    freeze_language: bool = False,
    gradient_checkpointing: bool = False,
    lora: Lora | None = None,
) -> nn.Module:
    """Loads the base model of a checkpoint: vision tower and language model, no LM head, no logits.

    Args:
        name_or_path: `tiny`, a directory in the `from_pretrained` layout, or a hub id.
        dtype: of the weights, `float32` or `bfloat16`.
        attention: what transformers calls it; see `mrm.model.attention.plan_attention` for the choice.
        freeze_vision: keep the vision tower as it is (the published setting).
        freeze_projector: keep what leads from the vision tower to the language model (the published setting).
        freeze_language: keep the language model, its embeddings included; the head alone is trained then.
        gradient_checkpointing: recompute activations in the backward pass.
        lora: adapt the language model by low-rank matrices instead of training it in full.

    Raises:
        ConfigError: for an unknown family or dtype, low-rank targets that fit no layer, or weights that are missing or do
            not fit.
    """
    path = resolve(name_or_path)
    if dtype not in DTYPES:
        raise ConfigError(f"model.dtype={dtype!r} is unknown; known: {', '.join(DTYPES)}.")
    kind = model_type(name_or_path)
    family = get_family(kind)
    by_part = by_part_of(attention)
    try:
        model, report = AutoModel.from_pretrained(
            path, dtype=DTYPES[dtype], attn_implementation=by_part, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"model.backbone={str(name_or_path)!r}: the weights (*.safetensors) cannot be read: {error}; is the checkpoint whole? "
            "Copy it again."
        ) from error
    except RuntimeError as error:  # what `from_pretrained` raises for other shapes
        raise ConfigError(
            f"model.backbone={str(name_or_path)!r}: the weights cannot be loaded into the model of its config.json: {error} Copy the checkpoint again."
        ) from error
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ConfigError(
            f"model.backbone={str(name_or_path)!r}: {len(missing)} weights are missing or of another shape "
            f"(first: {missing[0]}); is the checkpoint whole, and does its config.json belong to it?"
        )
    left_over = sorted(key for key in map(str, report["unexpected_keys"]) if _OF_A_LAYER.search(key))
    if left_over:
        raise ConfigError(
            f"model.backbone={str(name_or_path)!r}: {len(left_over)} weights have no place in the model of its config.json (first: "
            f"{left_over[0]}), which has fewer layers; does it belong to the weights?"
        )
    embed_patches_by_product(model)
    freeze(model, family, vision=freeze_vision, projector=freeze_projector, language=freeze_language)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora is not None:
        model = _with_lora(model, lora, family)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    log.info("backbone %s: %s, %.2fM parameters, %.2fM trained", path, kind, _millions(model), trained / 1e6)
    return model


def freeze(model: nn.Module, family: Family, *, vision: bool, projector: bool, language: bool) -> None:
    """Keeps parts of a backbone as they are; what no part names (none, in the families known) is trained."""
    parts = ((family.vision, vision), (family.projector, projector), ((family.language,), language))
    modules = dict(model.named_modules())
    for names, frozen in parts:  # the projector may lie within the vision tower: it comes later and has the last word
        for name in names:
            if name in modules:
                modules[name].requires_grad_(not frozen)


def plain_backbone(model: Any) -> Any:
    """The backbone itself, without low-rank wrappers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _with_lora(model: nn.Module, lora: Lora, family: Family) -> nn.Module:
    from peft import LoraConfig, get_peft_model  # imported where used: it costs two seconds

    known = _linear_layers(model, family)
    unknown = [target for target in lora.targets if target not in known]
    if any(parameter.ndim == 3 and "experts" in name for name, parameter in model.named_parameters()):
        # The experts' weights are one tensor for all of them, which low-rank matrices of linear layers do not fit.
        if inside := [target for target in unknown if target in EXPERT_TARGETS]:
            log.warning("the experts are not adapted: %s are tensors of all experts, not layers", ", ".join(inside))
        unknown = [target for target in unknown if target not in EXPERT_TARGETS]
    if unknown:
        raise ConfigError(
            f"model.lora.targets: {', '.join(unknown)} fit no layer of the language model; its linear layers: {', '.join(known)}."
            f"{suggest(unknown[0], known)}"
        )
    names = "|".join(map(re.escape, lora.targets))
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=rf"{family.language}\..*\.({names})",  # the vision tower has layers of like names
    )
    return get_peft_model(model, config)  # type: ignore[arg-type]


def _linear_layers(model: nn.Module, family: Family) -> list[str]:
    language = model.get_submodule(family.language)
    return sorted({name.rpartition(".")[2] for name, part in language.named_modules() if isinstance(part, nn.Linear)})


def _millions(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6
