"""Tiny checkpoints with random weights of every family, in transformers' own configuration classes and layout."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, set_seed

from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.families import FAMILIES, qwen_image_processor

INTERNVL_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.08,  # wide enough that rewards differ
}
VISION_3 = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 16,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
    "initializer_range": 0.08,
}


def rope(sections: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections, **more}


def _qwen2_vl() -> tuple[dict[str, Any], dict[str, Any]]:
    text = {**TEXT, "rope_parameters": rope([2, 3, 3])}
    return text, {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14, "mlp_ratio": 2}


def _qwen2_5_vl() -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    windows = {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    return {**TEXT, "rope_parameters": rope([2, 3, 3])}, {**vision, **windows}


def _qwen3_vl() -> tuple[dict[str, Any], dict[str, Any]]:
    text = {**TEXT, "head_dim": 16, "rope_parameters": rope([4, 2, 2], mrope_interleaved=True)}
    return text, {**VISION_3, "deepstack_visual_indexes": [0]}


def _qwen3_vl_moe() -> tuple[dict[str, Any], dict[str, Any]]:
    text, vision = _qwen3_vl()
    return {**text, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}, vision


def _qwen3_5() -> tuple[dict[str, Any], dict[str, Any]]:
    attention = {"head_dim": 32, "rope_parameters": rope([4, 2, 2], mrope_interleaved=True, partial_rotary_factor=0.5)}
    state = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16}
    layers = {"num_hidden_layers": 4, "linear_value_head_dim": 16}  # three with a state, one with attention
    return {**TEXT, **attention, **state, **layers}, VISION_3


def _qwen3_5_moe() -> tuple[dict[str, Any], dict[str, Any]]:
    text, vision = _qwen3_5()
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    return {**text, **experts, "shared_expert_intermediate_size": 32}, vision


QWENS = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl_moe,
    "qwen3_5": _qwen3_5,
    "qwen3_5_moe": _qwen3_5_moe,
}
KINDS = (*QWENS, "internvl")
SHARING = tuple(kind for kind in KINDS if FAMILIES[kind].shares_prefix)


def make_checkpoint(kind: str, folder: Path) -> Path:
    """Writes a causal language model, tokenizer and image processor, as a published checkpoint has them."""
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY_DIRECTORY)
    config, processor = _internvl(tokenizer) if kind == "internvl" else _qwen(kind, tokenizer)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_encoder(folder: Path, **settings: Any) -> Encoder:
    return Encoder.from_pretrained(folder, **{"max_pixels": 96 * 96, **settings})


def _qwen(kind: str, tokenizer: Any) -> tuple[Any, Any]:
    from transformers import AutoConfig

    text, vision = QWENS[kind]()
    config = AutoConfig.for_model(
        kind,
        text_config={**text, "vocab_size": len(tokenizer), "tie_word_embeddings": False},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    size = vision["patch_size"]
    return config, qwen_image_processor()(patch_size=size, merge_size=2, min_pixels=size**2 * 4, max_pixels=96 * 96)


def _internvl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import InternVLConfig
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    tokenizer.add_special_tokens({"additional_special_tokens": ["<img>", "</img>", "<IMG_CONTEXT>"]})
    tokenizer.chat_template = INTERNVL_TEMPLATE
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(tokenizer)},
        vision_config={**vision, "image_size": [56, 56], "patch_size": [14, 14], "initializer_range": 0.08},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    return config, GotOcr2ImageProcessorPil(size={"height": 56, "width": 56})
