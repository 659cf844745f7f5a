import pickle

import numpy as np
import pytest
import torch
from transformers import AutoModel

from mrm.errors import ConfigError, RecordError
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import SYSTEM_PROMPTS, Encoder
from mrm.model.families import mrope_positions
from mrm.preference import Message, Pair, PreferenceSample
from tests.model.worlds import encoder, sample


def test_mrope_positions_of_text_count_on():
    positions, after = mrope_positions(np.zeros(3, bool), np.zeros((0, 3), int), 2)
    assert positions.tolist() == [[0, 1, 2]] * 3
    assert after == 3


def test_mrope_positions_of_an_image_follow_its_grid():
    # text, an image of 4 x 6 patches = 2 x 3 tokens, text: the image starts at 1 and takes max(2, 3) positions
    positions, after = mrope_positions(np.array([0, 1, 1, 1, 1, 1, 1, 0], bool), np.array([[1, 4, 6]]), 2)
    assert positions[0].tolist() == [0, 1, 1, 1, 1, 1, 1, 4]
    assert positions[1].tolist() == [0, 1, 1, 1, 2, 2, 2, 4]
    assert positions[2].tolist() == [0, 1, 2, 3, 1, 2, 3, 4]
    assert after == 5


@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_encoder_positions_equal_the_backbones_own(images):
    encoded = encoder().encode(sample("a", images=images, responses=2))
    backbone = AutoModel.from_pretrained(TINY_DIRECTORY)
    ids = torch.from_numpy(encoded.prefix_ids)[None]
    kinds = (ids == backbone.config.image_token_id).int()
    grid = torch.from_numpy(encoded.image_grid_thw) if images else None
    expected, _ = backbone.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid)
    assert encoded.prefix_positions.tolist() == expected[:, 0].tolist()
    assert encoded.response_start == expected.max() + 1


def test_encode_places_as_many_image_tokens_as_patches_merge():
    encoded = encoder().encode(sample("a", images=2, responses=2))
    tokens = (encoded.prefix_ids == encoder().image_token_id).sum()
    assert tokens == encoded.image_grid_thw.prod(axis=1).sum() // 4 == 2 * 9
    assert encoded.pixel_values.shape == (2 * 36, 3 * 16 * 16)


def test_encode_text_is_the_chat_template_with_system_prompt():
    made = encoder()
    text = made.tokenizer.decode(made.encode(sample("a", images=0, responses=2, text="Why?")).prefix_ids)
    assert text == (
        f"<|im_start|>system\n{SYSTEM_PROMPTS['en']}<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_encode_chinese_question_gets_the_chinese_system_prompt():
    made = encoder()
    text = made.tokenizer.decode(made.encode(sample("a", images=0, responses=2, text="为什么?")).prefix_ids)
    assert SYSTEM_PROMPTS["zh"] in text


def test_encode_own_system_turn_replaces_the_default():
    prompt = (Message("system", "Be brief."), Message("user", "Why?"))
    made = encoder()
    encoded = made.encode(PreferenceSample("a", "t", prompt, (), ("x", "y"), (Pair(0, 1),)))
    text = made.tokenizer.decode(encoded.prefix_ids)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert "impartial" not in text


def test_encode_responses_end_in_the_end_token():
    made = encoder()
    encoded = made.encode(sample("a", images=0, responses=3))
    assert [ids[-1] for ids in encoded.response_ids] == [made.end_token_id] * 3


def test_encode_long_text_is_cut_and_counted_but_images_are_not():
    short = encoder(max_prompt_tokens=4, max_response_tokens=6)
    item = PreferenceSample(
        "a",
        "t",
        (Message("user", "<image>" + "red " * 50),),
        sample("b", images=1, responses=2).images,
        ("blue " * 20, "green"),
        (Pair(0, 1),),
    )
    whole, cut = encoder().encode(item), short.encode(item)
    assert (cut.prefix_ids == short.image_token_id).sum() == 9
    assert len(cut.response_ids[0]) == 6
    assert cut.response_ids[0][-1] == short.end_token_id
    assert cut.cut_tokens == whole.tokens - cut.tokens > 0
    assert whole.cut_tokens == 0


def test_encode_control_tokens_in_data_stay_text():
    made = encoder()
    item = PreferenceSample(
        "a", "t", (Message("user", "Say <|im_end|> <|image_pad|>"),), (), ("<|im_end|> end", "y"), (Pair(0, 1),)
    )
    encoded = made.encode(item)
    assert (encoded.prefix_ids == made.image_token_id).sum() == 0
    assert (encoded.prefix_ids == made.end_token_id).sum() == 2  # of the system and the user turn
    assert (encoded.response_ids[0] == made.end_token_id).sum() == 1


def test_encode_broken_image_names_key_and_image():
    good = sample("a", images=2, responses=2)
    broken = PreferenceSample(
        "bad", "t", good.prompt, (good.images[0], good.images[1][:60]), good.responses, good.pairs
    )
    with pytest.raises(RecordError, match="'bad', image 1") as caught:
        encoder().encode(broken)
    assert caught.value.reason in ("image does not decode", "unknown image format")


def test_with_resolution_changes_the_image_tokens_only():
    item = sample("a", images=1, responses=2)
    low = encoder().with_resolution(64 * 64).encode(item)
    assert low.image_grid_thw.tolist() == [[1, 4, 4]]
    assert encoder().encode(item).image_grid_thw.tolist() == [[1, 6, 6]]


def test_encoder_saved_and_loaded_or_pickled_encodes_the_same(tmp_path):
    made = encoder(max_response_tokens=9)
    made.save_pretrained(tmp_path)
    item = sample("a", images=1, responses=2)
    for other in (Encoder.from_pretrained(tmp_path), pickle.loads(pickle.dumps(made))):
        assert other.settings() == made.settings()
        assert (other.encode(item).prefix_ids == made.encode(item).prefix_ids).all()


def test_encoder_unknown_family_names_the_known():
    made = encoder()
    with pytest.raises(ConfigError, match="qwen3_vl"):
        Encoder(made.tokenizer, made.image_processor, family="gpt2")


def test_without_images_keeps_the_text_with_the_positions_of_text():
    made = encoder()
    full = made.encode(sample("a", images=2, responses=2))
    text = full.without_images(made.image_token_id)
    images = int((full.prefix_ids == made.image_token_id).sum())
    assert images and len(text.prefix_ids) == len(full.prefix_ids) - images
    assert made.image_token_id not in text.prefix_ids
    assert text.prefix_positions.tolist() == [list(range(len(text.prefix_ids)))] * 3
    assert text.response_start == len(text.prefix_ids)
    assert text.pixel_values is None and len(text.image_grid_thw) == 0
    assert text.response_ids is full.response_ids
