"""Every family, on tiny random checkpoints: what it encodes, scores, trains and saves equals what transformers does."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoModel

from mrm.errors import ConfigError
from mrm.images import decode_image
from mrm.model.attention import FLEX
from mrm.model.backbones import Lora, load_backbone
from mrm.model.encoding import SYSTEM_PROMPTS, EncodedSample
from mrm.model.families import FAMILIES, get_family
from mrm.model.packing import LAYOUTS, NO_EDGES, collate
from mrm.model.reward_model import RewardModel
from mrm.model.saving import load_reward_model, save_reward_model
from tests.model.checkpoints import KINDS, SHARING, make_checkpoint, make_encoder
from tests.model.worlds import pixels_of, sample

TOLERANCE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = make_checkpoint(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


def reward_model(folder, **settings):
    torch.manual_seed(0)
    model = RewardModel.from_pretrained(folder, **settings).eval()
    model.head.layers[-1].weight.data.normal_()  # rewards of order one, so that a tolerance of 1e-4 means something
    return model


def rewards(model, encoder, encoded, row_tokens=None, layout=None):
    model.layout = layout = layout or model.layout
    items = [(item, NO_EDGES) for item in encoded]
    batch = collate(items, row_tokens=row_tokens, pad_id=encoder.pad_id, layout=layout, filler=encoder.filler)
    with torch.inference_mode():
        return model(batch)


def mixed(encoder):
    """Samples of no, one and two images and two to four responses."""
    shapes = [(1, 2), (0, 3), (2, 2), (1, 4), (0, 2)]
    return [encoder.encode(sample(f"s{n}", images=images, responses=k)) for n, (images, k) in enumerate(shapes)]


def by_transformers(model, encoder, encoded, padding):
    """Rewards with the family's own padding, mask and positions: a row a response, and nothing of this project's layout."""
    found = []
    for item in encoded:
        rows = [np.concatenate([item.prefix_ids, ids]) for ids in item.response_ids]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), encoder.pad_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            place = slice(longest - len(row), longest) if padding == "left" else slice(0, len(row))
            ids[number, place] = torch.from_numpy(row)
            mask[number, place] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        if item.pixel_values is not None:
            inputs["pixel_values"] = torch.cat([pixels_of(item)] * len(rows))
            if model.backbone.config.model_type != "internvl":
                inputs["image_grid_thw"] = torch.from_numpy(np.concatenate([item.image_grid_thw] * len(rows)))
                inputs["mm_token_type_ids"] = ((ids == encoder.image_token_id) & (mask == 1)).int()
        with torch.inference_mode():
            hidden = model.backbone(**inputs).last_hidden_state
        last = torch.tensor([longest - 1 if padding == "left" else len(row) - 1 for row in rows])
        found.append(model.head(hidden[torch.arange(len(rows)), last]))
    return torch.cat(found).detach()


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_rewards_equal_those_of_transformers_own_padded_rows(checkpoints, kind, padding):
    folder = checkpoints(kind)
    model, encoder = reward_model(folder), make_encoder(folder)
    encoded = mixed(encoder)
    found = rewards(model, encoder, encoded, 600 if model.layout == "shared" else None)
    assert found.std() > 0.01
    torch.testing.assert_close(found, by_transformers(model, encoder, encoded, padding), **TOLERANCE)


@pytest.mark.parametrize("kind", SHARING)
def test_rewards_are_the_same_in_every_layout(checkpoints, kind):
    folder = checkpoints(kind)
    model, encoder = reward_model(folder), make_encoder(folder)
    encoded = mixed(encoder)
    shared = rewards(model, encoder, encoded, 600)
    for layout in ("sequences", "rows"):
        torch.testing.assert_close(rewards(model, encoder, encoded, layout=layout), shared, **TOLERANCE)


@pytest.mark.parametrize("kind", SHARING)
def test_rewards_by_flex_attention_equal_those_by_a_dense_mask(checkpoints, kind):
    folder = checkpoints(kind)
    dense, encoder = reward_model(folder, attention="sdpa"), make_encoder(folder)
    flex = RewardModel(load_backbone(folder, attention=FLEX), dense.head).eval()
    encoded = mixed(encoder)
    expected = rewards(dense, encoder, encoded, 600)
    with torch.compiler.set_stance("force_eager"):  # a compiler is not everywhere; what is computed is the same
        for layout in LAYOUTS:
            torch.testing.assert_close(rewards(flex, encoder, encoded, 600, layout), expected, **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_in_bfloat16_are_near_those_in_float32(checkpoints, kind):
    folder = checkpoints(kind)
    encoder = make_encoder(folder)
    encoded = mixed(encoder)
    whole, half = (rewards(reward_model(folder, dtype=dtype), encoder, encoded) for dtype in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    # bfloat16 has 8 bits: a hidden state of order 1 is off by some 1e-2 after the layers, and the rewards are of order 1.
    assert (half - whole).abs().max() < 0.15 * whole.abs().max().clamp(min=1)


@pytest.mark.parametrize("kind", SHARING)
def test_rewards_in_bfloat16_do_not_depend_on_the_batch(checkpoints, kind):
    folder = checkpoints(kind)
    model, encoder = reward_model(folder, dtype="bfloat16"), make_encoder(folder)
    encoded = mixed(encoder)
    alone = torch.cat([rewards(model, encoder, [item]) for item in encoded])
    found = rewards(model, encoder, encoded, 600)
    assert (found - alone).abs().max() < 0.1 * alone.abs().max().clamp(min=1)


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_do_not_depend_on_the_pad_token(checkpoints, kind):
    folder = checkpoints(kind)
    model, encoder = reward_model(folder), make_encoder(folder)
    encoded = mixed(encoder)
    expected = rewards(model, encoder, encoded)
    encoder.pad_id = encoder.end_token_id  # as in tokenizers whose padding is the end token
    torch.testing.assert_close(rewards(model, encoder, encoded), expected, **TOLERANCE)


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "internvl"])
def test_positions_equal_the_backbones_own(checkpoints, kind, images):
    folder = checkpoints(kind)
    encoder = make_encoder(folder)
    item = encoder.encode(sample("a", images=images, responses=2))
    ids = torch.from_numpy(item.prefix_ids)[None]
    kinds = (ids == encoder.image_token_id).int()
    grid = torch.from_numpy(item.image_grid_thw) if images else None
    backbone = AutoModel.from_pretrained(folder)
    expected, _ = backbone.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
    assert item.prefix_positions.tolist() == expected[:, 0].tolist()
    assert item.response_start == expected.max() + 1


PROCESSORS = {
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
    "internvl": "InternVLProcessor",
}


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("kind", PROCESSORS)
def test_prefix_equals_that_of_the_familys_own_processor(checkpoints, kind, images):
    encoder = make_encoder(checkpoints(kind), max_pixels=4 * 56 * 56)
    item = sample("a", images=images, responses=2)
    encoded = encoder.encode(item)
    own = getattr(transformers, PROCESSORS[kind])
    if not hasattr(own, "replace_image_token"):
        pytest.skip("this version of transformers expands image tokens elsewhere")
    # The processors cannot be made without torchvision; what they do to text and images needs none.
    processor = object.__new__(own)
    processor.image_processor, processor.image_token = encoder.image_processor, encoder.kind.image_token
    processor.start_image_token, processor.end_image_token = encoder.kind.around_image
    processor.image_seq_length = encoder.tile_tokens
    parts = item.prompt[0].content.split("<image>")
    content = [{"type": "text", "text": parts[0]}] if parts[0] else []
    for part in parts[1:]:
        content += [{"type": "image"}, {"type": "text", "text": part}]
    chat = [{"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPTS["en"]}]}]
    chat.append({"role": "user", "content": content})
    text = encoder.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    pieces = text.split(encoder.kind.image_token)
    text = pieces[0]
    if images:
        features = encoder.image_processor([decode_image(data, name="") for data in item.images], return_tensors="np")
        assert np.array_equal(features["pixel_values"], pixels_of(encoded))  # to the last bit
        for number, piece in enumerate(pieces[1:]):
            text += processor.replace_image_token(features, number) + piece
    assert encoder.tokenizer(text)["input_ids"] == encoded.prefix_ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(256, 256), (61, 133)])
def test_bytes_normalized_on_the_device_equal_the_processors_floats(checkpoints, kind, size):
    encoder = make_encoder(checkpoints(kind), max_pixels=256 * 256)
    ramp = np.arange(256, dtype=np.uint8)  # every value in every channel
    image = Image.fromarray(
        np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], 256), ramp[::-1] + 0 * ramp[:, None]], -1)
    )
    image = image if size == (256, 256) else image.resize(size)
    seen = encoder.look(image)
    assert seen.pixels.dtype == np.uint8
    encoded = encoder.assemble("a", np.full(seen.tokens, encoder.image_token_id), (), [seen])
    expected = encoder.image_processor(images=[image], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(pixels_of(encoded), expected, rtol=0, atol=1e-6)


def test_batch_pixels_are_bytes_divided_less_the_mean_by_the_deviation():
    item = EncodedSample(
        "a", np.zeros(1, int), np.zeros((3, 1), int), (np.zeros(1, int),), 1, None, np.ones((1, 3), int), 0
    )
    told = np.array([[10, 10, 10], [1, 2, 3], [0.5, 1, 2]], np.float32)
    item = replace(item, pixel_values=np.array([[20, 30, 20, 30, 20, 30]], np.uint8), normalization=told)
    batch = collate([(item, NO_EDGES)], row_tokens=None, pad_id=0)
    assert batch.pixel_values.dtype == torch.uint8
    assert batch.pixels.tolist() == [[2.0, 4.0, 0.0, 1.0, -0.5, 0.0]]
    twice = replace(batch, frames=2)  # each channel's patch two times
    assert twice.pixels.tolist() == [[2.0, 4.0, 2.0, 4.0, 0.0, 1.0, 0.0, 1.0, -0.5, 0.0, -0.5, 0.0]]
    assert batch.to("cpu").pixels.tolist() == batch.pixels.tolist()


def test_internvl_cuts_an_image_into_tiles_between_its_marks(checkpoints):
    encoder = make_encoder(checkpoints("internvl"), max_pixels=4 * 56 * 56)
    item = encoder.encode(
        sample("a", images=1, responses=2)
    )  # 96 x 96 pixels: 2 x 2 tiles and a thumbnail of 4 tokens each
    assert item.pixel_values.shape == (5, 3, 56, 56)
    places = np.flatnonzero(item.prefix_ids == encoder.image_token_id)
    assert len(places) == 5 * 4
    around = encoder.tokenizer.convert_ids_to_tokens(item.prefix_ids[[places[0] - 1, places[-1] + 1]])
    assert around == ["<img>", "</img>"]
    one = make_encoder(checkpoints("internvl"), max_pixels=56 * 56).encode(sample("a", images=1, responses=2))
    assert one.pixel_values.shape == (1, 3, 56, 56)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_only_batch_runs_the_vision_tower_and_scores_the_same(checkpoints, kind):
    folder = checkpoints(kind)
    encoder = make_encoder(folder)
    model = reward_model(folder, freeze_vision=False, freeze_projector=False)
    items = [(encoder.encode(sample(f"s{n}", images=0, responses=2)), NO_EDGES) for n in range(3)]
    bare = model(collate(items, row_tokens=None, pad_id=0, layout=model.layout))
    filled = model(collate(items, row_tokens=None, pad_id=0, layout=model.layout, filler=encoder.filler))
    torch.testing.assert_close(filled, bare, **TOLERANCE)
    filled.sum().backward()
    tower = [p for name, p in model.backbone.named_parameters() if name.startswith(FAMILIES[kind].vision)]
    assert tower and all(p.grad is not None for p in tower)  # or DDP would wait for them


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["vision", "projector", "language"])
def test_each_part_is_frozen_alone(checkpoints, kind, part):
    frozen = {f"freeze_{name}": name == part for name in ("vision", "projector", "language")}
    backbone = load_backbone(checkpoints(kind), **frozen)
    family = get_family(kind)
    names = {
        "vision": family.vision,
        "projector": family.projector,
        "language": (family.language,),
    }
    for name, parameter in backbone.named_parameters():
        owner = next(p for p in ("projector", "vision", "language") if name.startswith(names[p]))
        assert parameter.requires_grad == (owner != part), name


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients(checkpoints, kind):
    folder = checkpoints(kind)
    encoder = make_encoder(folder)
    gradients = []
    for checkpointing in (False, True):
        model = reward_model(folder, gradient_checkpointing=checkpointing).train()
        items = [(item, NO_EDGES) for item in mixed(encoder)[:3]]
        batch = collate(items, row_tokens=None, pad_id=0, layout=model.layout, filler=encoder.filler)
        model(batch).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


def shaken(model):
    """The model with low-rank matrices that have an effect: fresh ones have none."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["full", "merged", "adapter"])
def test_a_saved_model_reloads_to_the_same_rewards(checkpoints, tmp_path, kind, form):
    folder = checkpoints(kind)
    lora = None if form == "full" else Lora(rank=2)
    model, encoder = shaken(reward_model(folder, lora=lora)), make_encoder(folder)
    encoded = mixed(encoder)[:3]
    expected = rewards(model, encoder, encoded)
    save_reward_model(model, tmp_path / "model", encoder, form="adapter" if form == "adapter" else "merged")
    again, loaded = load_reward_model(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file() == (form != "adapter")
    torch.testing.assert_close(rewards(again, loaded, mixed(loaded)[:3]), expected, **TOLERANCE)


def test_a_batch_of_another_layout_is_refused(checkpoints):
    folder = checkpoints("qwen3_5")
    model, encoder = reward_model(folder), make_encoder(folder)
    batch = collate([(mixed(encoder)[0], NO_EDGES)], row_tokens=None, pad_id=0)
    with pytest.raises(ValueError, match="layout='shared'.*'rows'"):
        model(batch)


def test_weights_of_more_layers_than_config_json_has_are_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints("qwen3_vl"), tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"weights have no place.*layers\.1\..*fewer layers"):
        load_backbone(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_targets_that_no_layer_has_are_named_with_those_that_are_there(checkpoints, kind):
    with pytest.raises(ConfigError, match=r"q_porj, x\( fit no layer.*q_proj.*Did you mean 'q_proj'"):
        load_backbone(checkpoints(kind), lora=Lora(targets=("q_porj", "v_proj", "x(")))


def test_config_json_of_wrong_types_is_a_clear_error(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints("qwen3_vl"), tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["num_hidden_layers"] = "two"
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_backbone(folder)


def test_tokenizer_without_chat_template_is_a_clear_error(checkpoints):
    encoder = make_encoder(checkpoints("qwen3_vl"))
    encoder.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        encoder.with_resolution(4096)


def test_get_family_unknown_names_the_known():
    with pytest.raises(ConfigError, match=r"'qwen3_v' is not .*qwen2_5_vl.*Did you mean 'qwen3_vl'"):
        get_family("qwen3_v")
