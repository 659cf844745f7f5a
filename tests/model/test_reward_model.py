import json
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrm.errors import ConfigError, MrmError
from mrm.model.backbones import Lora, load_backbone
from mrm.model.encoding import EncodedSample
from mrm.model.packing import NO_EDGES, Unreadable, collate
from mrm.model.reward_model import RewardModel, load_reward_model
from tests.model.worlds import encoder, reward_model, rewards, sample


def separate(model, encoded):
    """Rewards of plain causal rows, prefix + one response each, by the backbone's own mask and positions."""
    found = []
    for ids in encoded.response_ids:
        row = torch.from_numpy(np.concatenate([encoded.prefix_ids, ids]))[None]
        image = (row == model.backbone.config.image_token_id).int()
        pixels = None if encoded.pixel_values is None else torch.from_numpy(encoded.pixel_values)
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


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = reward_model()
    made.head.layers[-1].weight.data.normal_()  # rewards of order one, so that a tolerance of 1e-4 means something
    return made


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


def test_save_pretrained_reloads_to_the_same_rewards(tmp_path, model):
    made = encoder(max_pixels=64 * 64)
    encoded = made.encode(sample("a", images=1, responses=3))
    model.save_pretrained(tmp_path, made)
    again, loaded = load_reward_model(tmp_path)
    assert loaded.max_pixels == 64 * 64
    torch.testing.assert_close(rewards(again, [encoded]), rewards(model, [encoded]), atol=0, rtol=0)


def test_save_pretrained_with_lora_merges_it(tmp_path):
    made = reward_model(lora=Lora(rank=2))
    for name, parameter in made.named_parameters():
        if "lora_B" in name:  # starts at zero: no effect to save
            parameter.data.normal_(std=0.1)
    encoded = encoder().encode(sample("a", images=1, responses=2))
    before = rewards(made, [encoded])
    made.save_pretrained(tmp_path, encoder())
    torch.testing.assert_close(rewards(load_reward_model(tmp_path)[0], [encoded]), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(rewards(made, [encoded]), before, atol=1e-5, rtol=0)


def test_save_pretrained_with_lora_leaves_the_weights_bit_equal(tmp_path):
    made = reward_model(lora=Lora(rank=2), dtype="bfloat16")
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.save_pretrained(tmp_path, encoder())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    saved = load_reward_model(tmp_path, dtype="bfloat16")[0].state_dict()
    name = "language_model.layers.0.self_attn.q_proj"
    layer = made.backbone.get_base_model().get_submodule(name)
    merged = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
    assert torch.equal(saved[f"backbone.{name}.weight"], merged.bfloat16())


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
        ({"attention": "magic"}, "sdpa, eager"),
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


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder, encoder())
    return folder


HALF = None  # what is left of a file whose copying broke off


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("reward_head.safetensors", HALF, r"reward_head\.safetensors: it cannot be read"),
        ("reward_model.json", "{", r"reward_model\.json: it has no readable `head`"),
        ("reward_model.json", "[]", r"reward_model\.json: it has no readable `head`"),
        ("reward_model.json", '{"head": "cubic"}', r"reward_model\.json: it has head='cubic', known are linear, mlp"),
        ("reward_model.json", '{"head": "linear"}', r"reward_head\.safetensors: it does not fit .*head='linear'"),
        ("model.safetensors", HALF, r"the weights \(\*\.safetensors\) cannot be read"),
        ("encoder.json", "{", r"encoder\.json is no readable JSON object"),
        ("encoder.json", "1", r"encoder\.json is no readable JSON object"),
        ("encoder.json", '{"max_pixel": 3}', r"encoder\.json: 'max_pixel' is unknown or of the wrong type"),
        ("encoder.json", '{"max_pixels": "3"}', r"encoder\.json: 'max_pixels' is unknown or of the wrong type"),
        ("tokenizer.json", HALF, r"tokenizer\.json.* missing or damaged"),
        ("preprocessor_config.json", HALF, r"preprocessor_config\.json.* missing or damaged"),
    ],
)
def test_load_reward_model_damaged_file_is_named(tmp_path, saved, name, content, message):
    folder = shutil.copytree(saved, tmp_path / "model")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content is HALF else content.encode())
    with pytest.raises(ConfigError, match=f"{message}(.|\n)*[Cc]opy"):
        load_reward_model(folder)


@pytest.mark.parametrize("name", ["reward_head.safetensors", "encoder.json", "tokenizer.json", "model.safetensors"])
def test_load_reward_model_missing_file_is_named(tmp_path, saved, name):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"{re.escape(name)}(.|\n)*[Cc]opy"):
        load_reward_model(folder)


def test_load_reward_model_weights_of_another_size_are_refused(tmp_path, saved):
    folder = shutil.copytree(saved, tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["hidden_size"] *= 2
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="cannot be loaded into the model of its config.json"):
        load_reward_model(folder)


@pytest.mark.parametrize("part", ["head", "backbone"])
def test_save_pretrained_of_weights_that_are_not_finite_writes_nothing(tmp_path, part):
    made = reward_model()
    next(getattr(made, part).parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(MrmError, match="has diverged: 1 of .* not finite.*Lower optim.lr"):
        made.save_pretrained(tmp_path / "model", encoder())
    assert not (tmp_path / "model").exists()


def test_load_reward_model_of_a_plain_backbone_says_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="reward_model.json"):
        load_reward_model(tmp_path)


def test_head_unknown_kind_names_the_known():
    with pytest.raises(ConfigError, match="linear, mlp"):
        RewardModel.from_pretrained("tiny", head="cubic")


def test_encoded_sample_counts_its_tokens():
    none = np.zeros((0, 3), int)
    item = EncodedSample("a", np.arange(5), np.zeros((3, 5), int), (np.arange(2), np.arange(3)), 5, None, none, 0)
    assert item.tokens == 10
    assert collate([(item, NO_EDGES)], row_tokens=None, pad_id=0).input_ids.shape == (1, 10)
