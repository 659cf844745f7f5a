"""The reward model: a vision-language backbone and a scalar head, in plain torch.

A packed batch goes in, one reward a response comes out. The backbone runs in its own precision; the head computes in
float32. Training is left to `mrm.model.reward_module`, saving and loading to `mrm.model.saving`.

Dimensions: B rows, L tokens, H hidden size, S responses.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mrm.errors import ConfigError
from mrm.model.attention import attention_inputs, plan_attention
from mrm.model.backbones import load_backbone, model_type, plain_backbone
from mrm.model.families import get_family
from mrm.model.packing import RewardBatch

log = logging.getLogger(__name__)

HEADS = ("linear", "mlp")


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
            return (
                self.layers(hidden_SH.float()).squeeze(-1).clone()
            )  # no view: FSDP2 hangs its hooks on what is returned


def hidden_states(backbone: Any, batch: RewardBatch) -> Tensor:
    """[B, L, H] last hidden states of a packed batch, each sample's as if it were alone."""
    config = plain_backbone(backbone).config
    told = attention_inputs(config.get_text_config()._attn_implementation, backbone.dtype, batch)
    seen = get_family(config.model_type).inputs(told.pop("position_ids"), batch.pixels, batch.image_grid_thw)
    return backbone(input_ids=batch.input_ids, use_cache=False, **told, **seen).last_hidden_state


class RewardModel(nn.Module):
    """Backbone and head.

    Args:
        backbone: a base model of a family in `mrm.model.families`, maybe in low-rank wrappers.
        head: hidden states to rewards.
        layout: of the batches that it takes, one of `mrm.model.packing.LAYOUTS`.
        base: the pretrained backbone's name or folder, to which low-rank matrices saved alone belong.
        text_head: of a twin that is trained beside the model on text alone; it is never saved with a model.
    """

    def __init__(
        self,
        backbone: Any,
        head: RewardHead,
        layout: str = "shared",
        base: str = "",
        text_head: RewardHead | None = None,
    ) -> None:
        super().__init__()
        self.base = base
        self.backbone = backbone
        self.head = head
        self.text_head = text_head
        self.layout = layout

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        head: str = "mlp",
        attention: str = "auto",
        device: str = "cpu",
        row_tokens: int | None = None,
        text_twin: bool = False,
        **backbone: Any,
    ) -> RewardModel:
        """A new head on a pretrained backbone.

        Args:
            name_or_path: see `load_backbone`, where `backbone` goes too.
            head: one of HEADS.
            attention: one of `mrm.model.attention.ATTENTION`.
            device: type of the device that it will run on, and
            row_tokens: tokens of a row: by these `attention=auto` chooses.
            text_twin: whether to make a second head, see `forward_text`.
        """
        plan = plan_attention(attention, get_family(model_type(name_or_path)), device=device, row_tokens=row_tokens)
        log.info("attention %s, layout %s: %s", plan.implementation, plan.layout, plan.why)
        model = load_backbone(name_or_path, attention=plan.implementation, **backbone)
        width = plain_backbone(model).config.get_text_config().hidden_size
        own = RewardHead(width, head)  # first: the same seed makes the same head with a twin and without
        return cls(model, own, plan.layout, str(name_or_path), RewardHead(width, head) if text_twin else None)

    def forward(self, batch: RewardBatch) -> Tensor:
        """Scores every response of a packed batch.

        Returns:
            [S] float32 rewards, in the order of the batch's samples and their responses.

        Raises:
            ValueError: for a batch of another layout than this model's attention can take.
        """
        return self.head(self._scored(batch))

    def forward_text(self, batch: RewardBatch) -> Tensor:
        """[S] rewards by the twin's head, of a batch without images; the backbone learns nothing from them."""
        assert self.text_head is not None, "the model was made without a twin"
        with torch.no_grad():
            hidden_SH = self._scored(batch)
        return self.text_head(hidden_SH)

    def _scored(self, batch: RewardBatch) -> Tensor:
        """[S, H] hidden states of the end tokens."""
        if batch.layout != self.layout:
            raise ValueError(f"the batch has layout={batch.layout!r}, this model's attention takes {self.layout!r}")
        return hidden_states(self.backbone, batch)[batch.score_row, batch.score_column]
