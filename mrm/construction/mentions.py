"""What an analysis should not speak of: other assistants by name, and the reference answer.

Found by words, in English and Chinese. A name that is a common word too counts only where it is written as a model's
("Llama 3", not a llama). Pure.
"""

from __future__ import annotations

import re

NAMES_ASSISTANT = "names an assistant"
CITES_REFERENCE = "cites the reference"

# Stands for any letter of the Latin alphabet beside a name: \b sees no boundary between Chinese and Latin letters.
_LEFT, _RIGHT = r"(?<![A-Za-z])", r"(?![A-Za-z])"
_ANY_CASE = (
    r"chat-?gpt|gpt|openai|anthropic|qwen|qwq|qvq|llava|minigpt|deepseek|internvl|internlm|minicpm|instructblip|cogvlm|chatglm"
    r"|mixtral|pixtral|doubao|hunyuan|baichuan|ernie[ -]?bot|moonshot ai|idefics\d?|molmo|paligemma"
)
_AS_WRITTEN = (
    r"(?<!Jean-)Claude(?! (?:Monet|Lorrain|Debussy|Rains))|Gemini|LLaMA|Llama(?=[ -]?\d)|GLM(?=-?\d)|Mistral|Grok|Gemma(?=[ -]?\d)"
    r"|Phi(?=-\d)|Yi-VL|Kimi|(?:Google|Microsoft|GitHub) (?:Bard|Copilot)"
)
_CHINESE = r"通义千问|千问|文心一言|豆包|混元|书生(?=·|浦语|万象)|百川大模型|智谱清言|讯飞星火|月之暗面|深度求索"
_ASSISTANT = re.compile(f"{_LEFT}(?:(?i:{_ANY_CASE})|{_AS_WRITTEN}){_RIGHT}|{_CHINESE}")
_REFERENCE = re.compile(
    r"\breference (?:answer|response|solution|text)\b"
    r"|\b(?:the|given|provided|supplied|own|my) reference\b(?! (?:to|frame|point|line|image|object|number|book))"
    r"|\b(?:ground[- ]truth|gold(?:en)?[- ](?:answer|standard))\b"
    r"|参考(?:答案|回答|解答)|标准答案",
    re.I,
)
# Looked for first, since most analyses hold none of them; lower case, each a part of every match.
_STEMS = tuple(
    "reference ground gold gpt openai anthropic qwen qwq qvq llava deepseek intern minicpm instructblip cogvlm glm mixtral"
    " pixtral doubao hunyuan baichuan ernie moonshot idefics molmo gemma claude gemini llama mistral grok phi- yi-vl kimi bard"
    " copilot".split()
)
_CHINESE_STEMS = tuple("参考 标准 千问 文心 豆包 混元 书生 百川 智谱 星火 月之暗面 深度求索".split())


def may_mention(text: str) -> bool:
    """Whether `mentions` is worth asking: many times faster, since most texts hold none of the words."""
    lower = text.lower()
    return any(stem in lower for stem in _STEMS) or (
        not text.isascii() and any(stem in text for stem in _CHINESE_STEMS)
    )


def mentions(text: str) -> tuple[str, ...]:
    """What the text speaks of: NAMES_ASSISTANT, CITES_REFERENCE, both or nothing."""
    found = []
    if _ASSISTANT.search(text):
        found.append(NAMES_ASSISTANT)
    if _REFERENCE.search(text):
        found.append(CITES_REFERENCE)
    return tuple(found)
