"""Names of assistants and talk of the reference: what is found, and what only looks like it."""

import pytest

from mrm.construction.mentions import CITES_REFERENCE, NAMES_ASSISTANT, may_mention, mentions


@pytest.mark.parametrize(
    "text",
    [
        "This reads like GPT-4o.",
        "ChatGPT would say so",
        "as Claude does",
        "Gemini's answer",
        "qwen2.5-VL wrote this",
        "LLaVA1.5 style",
        "like Llama 3",
        "InternVL",
        "from DeepSeek-R1",
        "MiniCPM-V",
        "Microsoft Copilot",
        "GLM-4V",
        "这像GPT写的",
        "类似通义千问的风格",
        "文心一言的回答",
        "由豆包生成",
    ],
)
def test_mentions_assistant_is_found(text):
    assert may_mention(text)
    assert mentions(text) == (NAMES_ASSISTANT,)


@pytest.mark.parametrize(
    "text",
    [
        "The reference answer says two.",
        "It agrees with the reference.",
        "Matches my reference",
        "different from the ground truth",
        "与参考答案一致",
        "和标准答案不同",
    ],
)
def test_mentions_reference_is_found(text):
    assert may_mention(text)
    assert mentions(text) == (CITES_REFERENCE,)


@pytest.mark.parametrize(
    "text",
    [
        "A llama stands on the hill.",
        "Painted by Claude Monet",
        "Jean-Claude smiles",
        "an Egyptian tomb",
        "The reference to the sign is right.",
        "It makes reference to the dog.",
        "The ground is wet, the ring golden.",
        "an international copilot",
        "参考图中的标志",
        "",
    ],
)
def test_mentions_common_words_are_no_mention(text):
    assert mentions(text) == ()


def test_mentions_both_are_named():
    assert mentions("The reference answer is by GPT") == (NAMES_ASSISTANT, CITES_REFERENCE)


def test_may_mention_plain_analysis_is_let_by():
    assert not may_mention("The red circle is left of the square, as the response says.")
    assert not may_mention("红色圆形在左边，回答正确。")
