"""Readers of published formats, one file each, and the table that names them.

To add one: write `read(input, *, options...)` and a `CARD` in a new file (see `base.py`) and name the module here.
"""

from __future__ import annotations

import difflib

from datamodules.sources import (
    evalmuse,
    genai_bench,
    hpdv2,
    hpdv3,
    image_reward_db,
    jsonl,
    llama_factory,
    llava_critic,
    llava_rlhf,
    math_v,
    mj_bench,
    mm_rlhf,
    mm_rlhf_rewardbench,
    mmpr,
    mmrb2,
    multimodal_rewardbench,
    omni_rewardbench,
    pickapic_v2,
    povid,
    r1_reward_rl,
    rlaif_v,
    rlhf_v,
    shapeworld,
    spa_vl,
    unified_reward,
    vl_rewardbench,
    vlfeedback,
    wildvision_battle,
)
from datamodules.sources.base import Card, Source
from mrm.errors import ConfigError

_MODULES = (
    jsonl,
    llama_factory,
    rlaif_v,
    rlhf_v,
    vlfeedback,
    povid,
    mmpr,
    mm_rlhf,
    llava_rlhf,
    spa_vl,
    r1_reward_rl,
    llava_critic,
    wildvision_battle,
    unified_reward,
    math_v,
    pickapic_v2,
    hpdv2,
    hpdv3,
    image_reward_db,
    evalmuse,
    mj_bench,
    genai_bench,
    vl_rewardbench,
    multimodal_rewardbench,
    mm_rlhf_rewardbench,
    mmrb2,
    omni_rewardbench,
    shapeworld,
)
SOURCES: dict[str, Source] = {module.__name__.rpartition(".")[2]: module.read for module in _MODULES}
CARDS: dict[str, Card] = {module.__name__.rpartition(".")[2]: module.CARD for module in _MODULES}


def get_source(name: str) -> Source:
    """The reader of that name.

    Raises:
        ConfigError: for an unknown name; lists the known ones.
    """
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"source: unknown source {name!r}; known are {', '.join(SOURCES)}.{hint}")
    return SOURCES[name]
