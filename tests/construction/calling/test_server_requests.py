import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mrm.construction.calling.calls import CallError, ChatMessage
from mrm.construction.calling.server_requests import (
    chat_messages,
    data_uri,
    fitting_size,
    read_reply,
    responses_input,
    schema_setting,
)


def encoded(kind: str, size: tuple[int, int] = (8, 6), **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("kind, mime", [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", "gif")])
def test_data_uri_passes_what_servers_read(kind, mime):
    data = encoded(kind)
    assert data_uri(data) == f"data:image/{mime};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_data_uri_encodes_what_servers_do_not_read_as_png(kind):
    data = encoded(kind)
    uri = data_uri(data)
    assert uri.startswith("data:image/png;base64,")
    assert np.array_equal(np.asarray(opened(uri)), np.asarray(Image.open(io.BytesIO(data))))


def test_data_uri_scales_a_large_image_down_in_its_own_format():
    uri = data_uri(encoded("JPEG", (80, 20)), max_pixels=400)
    assert uri.startswith("data:image/jpeg;") and opened(uri).size == (40, 10)


def test_data_uri_turns_an_image_as_a_person_would_see_it():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert opened(data_uri(encoded("JPEG", (8, 6), exif=exif))).size == (6, 8)


def test_data_uri_sends_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    shown = opened(data_uri(buffer.getvalue()))
    assert shown.convert("RGB").getpixel((0, 0)) == (255, 0, 0) and getattr(shown, "n_frames", 1) == 1


def test_data_uri_of_no_image_gives_the_call_up():
    with pytest.raises(CallError, match="cannot be sent") as caught:
        data_uri(b"no image")
    assert caught.value.reason == "image does not decode" and not caught.value.retry


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 10**7))
def test_fitting_size_never_grows_and_fits(width, height, most):
    fitted = fitting_size(width, height, most)
    assert min(fitted) >= 1 and fitted[0] <= width and fitted[1] <= height
    assert fitted[0] * fitted[1] <= max(most, width, height)  # a side of one pixel cannot shrink further


def test_chat_messages_keep_texts_and_images_in_their_order():
    image = encoded("PNG")
    turns = chat_messages(
        [ChatMessage("system", ("Judge", " well.")), ChatMessage("user", ("before", image, "after"))],
        image_detail="low",
    )
    assert turns[0] == {"role": "system", "content": "Judge well."}
    assert [part["type"] for part in turns[1]["content"]] == ["text", "image_url", "text"]
    assert turns[1]["content"][1]["image_url"] == {"url": data_uri(image), "detail": "low"}


def test_responses_input_names_each_part_by_its_role():
    image = encoded("PNG")
    turns = responses_input([ChatMessage("assistant", ("see", image)), ChatMessage("user", ("what", image))])
    assert [part["type"] for turn in turns for part in turn["content"]] == [
        "output_text", "input_image", "input_text", "input_image",
    ]  # fmt: skip
    assert turns[1]["content"][1]["detail"] == "auto"


def test_schema_setting_differs_by_api():
    schema = {"type": "object"}
    assert schema_setting("chat", schema)["response_format"]["json_schema"]["schema"] == schema
    assert schema_setting("responses", schema)["text"]["format"]["strict"] is True


def test_read_reply_of_chat_takes_text_tokens_and_finish():
    reply = {
        "model": "m-1",
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }
    answer = read_reply("chat", reply)
    assert (answer.text, answer.input_tokens, answer.output_tokens, answer.model, answer.finish) == (
        "yes", 7, 2, "m-1", "stop",
    )  # fmt: skip


def test_read_reply_of_chat_keeps_a_refusal_as_text():
    answer = read_reply("chat", {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}]})
    assert (answer.text, answer.finish, answer.input_tokens) == ("no", "refusal", 0)


def test_read_reply_of_responses_joins_messages_and_tells_a_cut():
    reply = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "hal"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
    answer = read_reply("responses", reply)
    assert (answer.text, answer.finish, answer.input_tokens, answer.output_tokens) == ("hal", "length", 3, 1)


def test_read_reply_of_a_failed_response_is_tried_again():
    with pytest.raises(CallError, match="overloaded") as caught:
        read_reply("responses", {"status": "failed", "error": {"message": "overloaded"}, "output": []})
    assert caught.value.retry


@pytest.mark.parametrize("reply", [{}, {"choices": []}, [], "text", None, {"choices": [{"message": None}]}])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_read_reply_of_anything_else_is_tried_again(api, reply):
    with pytest.raises(CallError) as caught:
        read_reply(api, reply)
    assert caught.value.reason == "unreadable reply" and caught.value.retry
