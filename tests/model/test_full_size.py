"""The published models' shapes, on meta tensors: what is frozen, adapted and held, without a byte of weights.

Sizes are from the models' published config.json (Qwen/Qwen3-VL-8B-Instruct, Qwen/Qwen2.5-VL-7B-Instruct).
"""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from mrm.model.backbones import Lora, _with_lora, freeze
from mrm.model.costs import state_bytes
from mrm.model.families import FAMILIES
from mrm.model.reward_model import RewardHead, RewardModel

QWEN3_VL_8B = {
    "text_config": {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "patch_size": 16,
        "out_hidden_size": 4096,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}
QWEN2_5_VL_7B = {
    "text_config": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "patch_size": 14,
        "out_hidden_size": 3584,
    },
}
# By hand, in weights. Qwen3-VL-8B: 151,936 x 4,096 embeddings; a layer 4,096 x (4,096 + 2 x 1,024) + 4,096² + 3 x 4,096 x 12,288
# and norms of 2 x 4,096 + 2 x 128; the last norm of 4,096.
LANGUAGE = {
    "qwen3_vl": 151_936 * 4096 + 36 * (4096 * 6144 + 4096**2 + 3 * 4096 * 12_288 + 2 * 4096 + 2 * 128) + 4096,
    # biases of queries, keys and values, no norms of heads
    "qwen2_5_vl": 152_064 * 3584 + 28 * (3584 * 4608 + 4608 + 3584**2 + 3 * 3584 * 18_944 + 2 * 3584) + 3584,
}
MODELS = [("qwen3_vl", QWEN3_VL_8B), ("qwen2_5_vl", QWEN2_5_VL_7B)]


def backbone(kind, settings, dtype=torch.float32):
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(kind, **settings), dtype=dtype)
    freeze(model, FAMILIES[kind], vision=True, projector=True, language=False)
    return model


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_full_fine_tuning_trains_language_model_and_head_alone(kind, settings):
    model = RewardModel(backbone(kind, settings), RewardHead(settings["text_config"]["hidden_size"], "linear"))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == LANGUAGE[kind] + settings["text_config"]["hidden_size"]
    held = state_bytes(model)
    assert held["gradients"] == 4 * trained
    assert held["moments"] == 8 * trained
    everything = sum(held.values()) / 8 / 1e9  # in slices over 8 GPUs
    assert 13 < everything < 18  # "about 16 GB", docs/scaling.md


@pytest.mark.parametrize(("kind", "settings"), MODELS)
def test_low_rank_matrices_sit_on_every_linear_layer_of_the_language_model(kind, settings):
    model = _with_lora(backbone(kind, settings, torch.bfloat16), Lora(rank=16), FAMILIES[kind])
    text = settings["text_config"]
    width, inner = text["hidden_size"], text["intermediate_size"]
    heads = text.get("head_dim", width // text["num_attention_heads"])
    queries, keys = text["num_attention_heads"] * heads, text["num_key_value_heads"] * heads
    # rank x (in + out) of q, k, v, o, gate, up, down
    layer = 16 * ((width + queries) + 2 * (width + keys) + (queries + width) + 3 * (width + inner))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == text["num_hidden_layers"] * layer
    assert all("language_model" in name and "lora_" in name for name in trained)
