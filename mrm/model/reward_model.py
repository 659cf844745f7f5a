"""The reward model: a vision-language backbone and a scalar head, in plain torch.

A packed batch goes in, one reward a response comes out. The backbone runs in its own precision; the head computes in
float32. Training is left to `mrm.model.reward_module`.

Dimensions: B rows, L tokens, H hidden size, S responses.
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

from mrm.errors import ConfigError, MrmError
from mrm.model.backbones import load_backbone, plain_backbone, resolve
from mrm.model.encoding import ENCODER_FILE, Encoder
from mrm.model.packing import RewardBatch, attention_mask

HEADS = ("linear", "mlp")
HEAD_FILE = "reward_head.safetensors"
MODEL_FILE = "reward_model.json"


class RewardHead(nn.Module):
    """Hidden state to reward, in float32.

    Args:
        hidden_size: H.
        kind: `linear`, or `mlp` for two layers with SiLU between (BaseReward: the better one).

    The last layer starts at a standard deviation of 1 / (H + 1), so that first rewards are near zero and pairs undecided. It
    has no bias: differences of rewards cannot tell it, and Adam would walk it about on rounding errors.
    """

    def __init__(self, hidden_size: int, kind: str = "mlp") -> None:
        super().__init__()
        if kind not in HEADS:
            raise ConfigError(f"model.head={kind!r} is unknown; known: {', '.join(HEADS)}.")
        self.kind = kind
        out = nn.Linear(hidden_size, 1, bias=False)
        nn.init.normal_(out.weight, std=1 / (hidden_size + 1))
        hidden = [nn.Linear(hidden_size, hidden_size), nn.SiLU()] if kind == "mlp" else []
        self.layers = nn.Sequential(*hidden, out).float()

    def forward(self, hidden_SH: Tensor) -> Tensor:
        """[S, H] hidden states to [S] float32 rewards."""
        with torch.autocast(hidden_SH.device.type, enabled=False):
            return self.layers(hidden_SH.float()).squeeze(-1)


def hidden_states(backbone: Any, batch: RewardBatch) -> Tensor:
    """[B, L, H] last hidden states of a packed batch, each sample's as if it were alone."""
    mask = attention_mask(batch.sample_ids, batch.segment_ids)
    if plain_backbone(backbone).config._attn_implementation == "eager":  # adds its mask to the scores
        mask = torch.zeros_like(mask, dtype=backbone.dtype).masked_fill(~mask, float("-inf"))
    return backbone(
        input_ids=batch.input_ids,
        attention_mask=mask,
        position_ids=batch.position_ids,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        use_cache=False,
    ).last_hidden_state


class RewardModel(nn.Module):
    """Backbone and head.

    Args:
        backbone: a base model that takes packed rows (4-D mask, explicit M-RoPE positions).
        head: hidden states to rewards.
    """

    def __init__(self, backbone: Any, head: RewardHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, head: str = "mlp", **backbone: Any) -> RewardModel:
        """A new head on a pretrained backbone; `backbone` goes to `load_backbone`."""
        model = load_backbone(name_or_path, **backbone)
        return cls(model, RewardHead(plain_backbone(model).config.get_text_config().hidden_size, head))

    def forward(self, batch: RewardBatch) -> Tensor:
        """Scores every response of a packed batch.

        Returns:
            [S] float32 rewards, in the order of the batch's samples and their responses.
        """
        hidden_BLH = hidden_states(self.backbone, batch)
        return self.head(hidden_BLH[batch.score_row, batch.score_column])

    def save_pretrained(self, directory: str | Path, encoder: Encoder) -> None:
        """Writes the whole model: backbone (low-rank weights merged), head, tokenizer, image processor, settings.

        Raises:
            MrmError: for weights that are not finite; nothing is written then.
        """
        directory = Path(directory)
        plain = plain_backbone(self.backbone)
        state, head = _plain_state(plain), self.head.state_dict()
        check_finite({**state, **head})
        directory.mkdir(parents=True, exist_ok=True)
        plain.save_pretrained(directory, state_dict=state)
        save_file({k: v.contiguous().cpu() for k, v in head.items()}, directory / HEAD_FILE)
        (directory / MODEL_FILE).write_text(json.dumps({"head": self.head.kind, "format": 1}, indent=2) + "\n")
        encoder.save_pretrained(directory)


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
    directory: str | Path, *, max_pixels: int | None = None, dtype: str = "float32", attention: str = "sdpa"
) -> tuple[RewardModel, Encoder]:
    """Loads what `save_pretrained` wrote, ready to score.

    Args:
        directory: a saved reward model.
        max_pixels: resolution; None takes the one that was saved.

    Raises:
        ConfigError: where the directory holds no reward model, or a file of it is missing or damaged.
    """
    directory = Path(resolve(directory))
    if not (directory / MODEL_FILE).is_file():
        raise ConfigError(
            f"model={str(directory)!r} is no saved reward model: it has no {MODEL_FILE}. "
            "Give the `model` folder of a finished run."
        )
    for name in (HEAD_FILE, ENCODER_FILE):
        if not (directory / name).is_file():
            raise _damaged(directory / name, "it is missing")
    model = RewardModel.from_pretrained(directory, head=_head_kind(directory), dtype=dtype, attention=attention)
    _load_head(model.head, directory)
    encoder = Encoder.from_pretrained(directory)
    return model.eval(), encoder.with_resolution(max_pixels) if max_pixels else encoder


def _head_kind(directory: Path) -> str:
    path = directory / MODEL_FILE
    try:
        kind = json.loads(path.read_text())["head"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"it has no readable `head`: {error!r}") from error
    if kind not in HEADS:
        raise _damaged(path, f"it has head={kind!r}, known are {', '.join(HEADS)}")
    return kind


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


def _plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights under their own names, low-rank weights merged into copies.

    Merging in place and back again would leave the model's own weights changed by rounding.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        if "lora_" not in name:
            state[name.replace(".base_layer.", ".")] = tensor
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            weight = state[f"{name}.weight"]
            delta = sum(layer.get_delta_weight(adapter).float() for adapter in layer.active_adapters)
            state[f"{name}.weight"] = (weight.float() + delta).to(weight.dtype).cpu()
    return state
