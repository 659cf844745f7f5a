import json
import re
import shutil

import pytest
import torch

from mrm.errors import ConfigError, MrmError
from mrm.model.backbones import Lora
from mrm.model.saving import load_reward_model, save_reward_model
from tests.model.worlds import encoder, reward_model, rewards, sample


def test_save_reward_model_reloads_to_the_same_rewards(tmp_path, model):
    made = encoder(max_pixels=64 * 64)
    encoded = made.encode(sample("a", images=1, responses=3))
    save_reward_model(model, tmp_path, made)
    again, loaded = load_reward_model(tmp_path)
    assert loaded.max_pixels == 64 * 64
    torch.testing.assert_close(rewards(again, [encoded]), rewards(model, [encoded]), atol=0, rtol=0)


def test_save_reward_model_with_lora_merges_it(tmp_path):
    made = reward_model(lora=Lora(rank=2))
    for name, parameter in made.named_parameters():
        if "lora_B" in name:  # starts at zero: no effect to save
            parameter.data.normal_(std=0.1)
    encoded = encoder().encode(sample("a", images=1, responses=2))
    before = rewards(made, [encoded])
    save_reward_model(made, tmp_path, encoder())
    torch.testing.assert_close(rewards(load_reward_model(tmp_path)[0], [encoded]), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(rewards(made, [encoded]), before, atol=1e-5, rtol=0)


def test_save_reward_model_with_lora_leaves_the_weights_bit_equal(tmp_path):
    made = reward_model(lora=Lora(rank=2), dtype="bfloat16")
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    save_reward_model(made, tmp_path, encoder())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    saved = load_reward_model(tmp_path, dtype="bfloat16")[0].state_dict()
    name = "language_model.layers.0.self_attn.q_proj"
    layer = made.backbone.get_base_model().get_submodule(name)
    merged = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
    assert torch.equal(saved[f"backbone.{name}.weight"], merged.bfloat16())


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("saved")
    save_reward_model(model, folder, encoder())
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
def test_save_reward_model_of_weights_that_are_not_finite_writes_nothing(tmp_path, part):
    made = reward_model()
    next(getattr(made, part).parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(MrmError, match="has diverged: 1 of .* not finite.*Lower optim.lr"):
        save_reward_model(made, tmp_path / "model", encoder())
    assert not (tmp_path / "model").exists()


def test_load_reward_model_of_a_plain_backbone_says_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="reward_model.json"):
        load_reward_model(tmp_path)
