import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrm.errors import ConfigError
from mrm.model.backbones import Lora, load_backbone
from mrm.model.encoding import EncodedSample
from mrm.model.packing import NO_EDGES, Unreadable, collate
from mrm.model.reward_model import RewardModel
from tests.model.worlds import encoder, pixels_of, reward_model, rewards, sample


def separate(model, encoded):
    """Rewards of plain causal rows, prefix + one response each, by the backbone's own mask and positions."""
    found = []
    for ids in encoded.response_ids:
        row = torch.from_numpy(np.concatenate([encoded.prefix_ids, ids]))[None]
        image = (row == model.backbone.config.image_token_id).int()
        pixels = None if encoded.pixel_values is None else pixels_of(encoded)
        grid = None if encoded.pixel_values is None else torch.from_numpy(encoded.image_grid_thw)
        hidden = model.backbone(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            pixel_values=pixels,
            image_grid_thw=grid,
            mm_token_type_ids=image,
        ).last_hidden_state
        found.append(model.head(hidden[:, -1]))
    return torch.cat(found).detach()


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("responses", [2, 4])
def test_rewards_of_a_packed_row_equal_separate_rows(model, images, responses):
    encoded = encoder().encode(sample("a", images=images, responses=responses))
    packed = rewards(model, [encoded])
    assert packed.std() > 0.01
    torch.testing.assert_close(packed, separate(model, encoded), atol=1e-4, rtol=0)


def test_rewards_by_eager_attention_equal_those_by_sdpa(model):
    eager = reward_model(attention="eager")
    eager.load_state_dict(model.state_dict())
    encoded = [encoder().encode(sample(f"s{i}", images=i, responses=3)) for i in range(3)]
    torch.testing.assert_close(rewards(eager, encoded, 400), rewards(model, encoded, 400), atol=1e-4, rtol=0)


@settings(max_examples=8, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(0, 2), st.integers(2, 4)), min_size=2, max_size=5),
    budget=st.sampled_from([None, 300, 600]),
)
def test_rewards_do_not_depend_on_the_batch(model, shapes, budget):
    made = encoder()
    encoded = [made.encode(sample(f"s{i}", images=n, responses=k)) for i, (n, k) in enumerate(shapes)]
    alone = torch.cat([rewards(model, [item]) for item in encoded])
    torch.testing.assert_close(rewards(model, encoded, budget), alone, atol=1e-4, rtol=0)


def test_rewards_of_an_empty_batch_are_none_and_differentiable(model):
    batch = collate([Unreadable("x", "s", "gone")], row_tokens=None, pad_id=0, normalizer=1.0)
    found = model(batch)
    assert found.shape == (0,)
    found.sum().backward()


def test_head_of_bfloat16_backbone_computes_in_float32():
    made = reward_model(dtype="bfloat16", head="linear")
    found = rewards(made, [encoder().encode(sample("a", images=1, responses=2))])
    assert found.dtype == torch.float32
    assert made.head.layers[0].weight.dtype == torch.float32


def test_backbone_freezes_vision_and_trains_language():
    made = reward_model()
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert not any(".visual." in name for name in trained)
    assert any(".language_model." in name for name in trained)
    assert not any("lm_head" in name for name, _ in made.named_parameters())


def test_backbone_with_lora_trains_adapters_of_the_language_model_only():
    made = RewardModel.from_pretrained("tiny", lora=Lora(rank=2))
    trained = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    assert not any("visual" in name for name in trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float8"}, "float32, bfloat16"),
        ({"lora": Lora(targets=("nothing",))}, "nothing"),
    ],
)
def test_load_backbone_wrong_setting_names_the_choices(arguments, message):
    with pytest.raises(ConfigError, match=message):
        load_backbone("tiny", **arguments)


def test_load_backbone_unknown_family_names_the_known(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ConfigError, match="qwen3_vl"):
        load_backbone(tmp_path)


def test_load_backbone_missing_directory_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_backbone(tmp_path / "nothing")


def test_head_unknown_kind_names_the_known():
    with pytest.raises(ConfigError, match="linear, mlp"):
        RewardModel.from_pretrained("tiny", head="cubic")


def test_encoded_sample_counts_its_tokens():
    none = np.zeros((0, 3), int)
    item = EncodedSample("a", np.arange(5), np.zeros((3, 5), int), (np.arange(2), np.arange(3)), 5, None, none, 0)
    assert item.tokens == 10
    assert collate([(item, NO_EDGES)], row_tokens=None, pad_id=0).input_ids.shape == (1, 10)
