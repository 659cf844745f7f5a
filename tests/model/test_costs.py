"""Costs: arithmetic against what torch counts, and a peak that knows no vocabulary."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from mrm.bench import SMALL, Shape, make_sample
from mrm.model.backbones import freeze
from mrm.model.costs import PeakMemory, attended, language_flops, state_bytes, vision_flops
from mrm.model.families import FAMILIES
from mrm.model.packing import NO_EDGES, collate
from mrm.model.reward_model import RewardHead, RewardModel
from tests.model.checkpoints import make_checkpoint, make_encoder
from tests.model.worlds import sample


def test_attended_counts_each_look_once():
    # a prefix of 2: 1 + 2 looks; a response of 1 looks at 2 + 1, one of 2 at (2 + 1) + (2 + 2)
    assert attended(2, [1, 2]) == 3 + 3 + 7


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
def test_flops_are_those_that_torch_counts(tmp_path, kind):
    folder = make_checkpoint(kind, tmp_path)
    backbone = AutoModel.from_pretrained(folder, attn_implementation="eager")  # whose products torch counts one by one
    item = make_encoder(folder).encode(sample("a", images=1, responses=2))
    batch = collate([(item, NO_EDGES)], row_tokens=None, pad_id=0)
    model = RewardModel(backbone, RewardHead(64, "linear"))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(batch)
    tokens = batch.input_ids.numel()
    patches, seen = len(item.pixel_values), int((item.prefix_ids == backbone.config.image_token_id).sum())
    # eager attention computes all of the row's L x L looks, those that the mask forbids too
    language = language_flops(backbone.language_model, tokens, tokens**2)
    vision = vision_flops(backbone, FAMILIES[kind], patches, patches**2, seen)
    assert language + vision == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_peak_memory_counts_what_lives_at_once():
    with PeakMemory() as memory:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1
        del a
        c = b.view(10, 100)  # no bytes of its own
        d = c * 2
    assert memory.peak == 8000
    assert memory.now == 8000
    del b, c, d
    assert memory.now == 0


def peak_of_a_step(vocabulary, train_embeddings):
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen3_vl", **SMALL)
    config.text_config.vocab_size = vocabulary
    backbone = AutoModel.from_config(config)
    freeze(backbone, FAMILIES["qwen3_vl"], vision=True, projector=True, language=False)
    backbone.language_model.embed_tokens.requires_grad_(train_embeddings)
    model = RewardModel(backbone, RewardHead(256))
    item = make_sample(Shape(0, 0, 40, 60, 2), FAMILIES["qwen3_vl"], config, np.random.default_rng(0))
    batch = collate([(item, NO_EDGES)], row_tokens=None, pad_id=0)
    with PeakMemory() as memory:
        model(batch).sum().backward()
    return memory.peak, state_bytes(model)["weights"]


def test_peak_of_a_step_does_not_grow_with_the_vocabulary():
    small, small_weights = peak_of_a_step(4096, train_embeddings=False)
    large, large_weights = peak_of_a_step(151_936, train_embeddings=False)
    assert large_weights - small_weights == (151_936 - 4096) * 256 * 4
    assert large == small


def test_peak_of_a_step_that_trains_embeddings_grows_by_their_gradient_alone():
    small, _ = peak_of_a_step(4096, train_embeddings=True)
    large, _ = peak_of_a_step(151_936, train_embeddings=True)
    assert (
        large - small <= (151_936 - 4096) * 256 * 4
    )  # logits of the 160 tokens would be 97 MB each time they are held
