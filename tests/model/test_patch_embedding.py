"""A convolution over patches that do not overlap is a matrix product."""

import copy

import pytest
import torch
from transformers import AutoModel

from mrm.model.backbones import TINY_DIRECTORY, load_backbone
from mrm.model.patch_embedding import embed_patches_by_product
from tests.model.checkpoints import KINDS, make_checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_patches_embedded_by_product_equal_the_convolution_and_its_gradient(kind, tmp_path):
    model = AutoModel.from_pretrained(make_checkpoint(kind, tmp_path))
    changed = copy.deepcopy(model)
    count = embed_patches_by_product(changed)
    assert count == (0 if kind == "internvl" else 1)  # InternVL takes whole images, and convolves them
    if not count:
        return
    torch.manual_seed(0)
    before, after = model.visual.patch_embed, changed.visual.patch_embed
    patches = torch.randn(12, before.proj.weight[0].numel())
    for module in (before, after):
        module(patches).square().sum().backward()
    torch.testing.assert_close(after(patches), before(patches), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.proj.weight.grad, before.proj.weight.grad, rtol=1e-4, atol=1e-4)
    assert model.state_dict().keys() == changed.state_dict().keys()


def test_loaded_backbone_embeds_patches_by_its_own_weights_after_a_copy():
    backbone = load_backbone("tiny")
    copied = copy.deepcopy(backbone)
    with torch.no_grad():
        copied.visual.patch_embed.proj.bias += 1
        patches = torch.randn(4, copied.visual.patch_embed.proj.weight[0].numel())
        moved = copied.visual.patch_embed(patches) - backbone.visual.patch_embed(patches)
        original = AutoModel.from_pretrained(TINY_DIRECTORY, dtype=torch.float32).visual.patch_embed(patches)
    torch.testing.assert_close(moved, torch.ones_like(moved))
    torch.testing.assert_close(backbone.visual.patch_embed(patches), original, rtol=1e-4, atol=1e-5)
