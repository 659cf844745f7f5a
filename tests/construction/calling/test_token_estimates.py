import pytest

from mrm.construction.calling.calls import ChatMessage, ChatRequest
from mrm.construction.calling.token_estimates import image_tokens, input_tokens, output_tokens, text_tokens
from tests.datamodules.making import make_image


@pytest.mark.parametrize(
    "text, tokens",
    [("", 0), ("abcd", 1), ("abcde", 2), ("图像中", 3), ("привет", 3), ("图 abc", 2), ("カナ한글", 4)],
)
def test_text_tokens_count_by_script(text, tokens):
    assert text_tokens(text) == tokens


def test_image_tokens_count_patches_after_scaling():
    image = make_image(size=(280, 56))
    assert image_tokens(image) == 10 * 2
    assert image_tokens(image, max_pixels=280 * 56 // 4) == 5 * 1
    assert image_tokens(make_image(size=(8, 6))) == 4 == image_tokens(b"no image")


def test_input_tokens_add_texts_images_and_turns():
    chat = ChatRequest((ChatMessage("system", ("abcd",)), ChatMessage("user", ("abcd", make_image(size=(280, 56))))))
    assert input_tokens(chat) == 1 + 1 + 20 + 2 * 4


def test_output_tokens_learn_and_keep_the_limit():
    assert output_tokens("pointwise") == 700 and output_tokens("pointwise", most=100) == 100
    assert output_tokens("pointwise", mean=41.2) == 42
