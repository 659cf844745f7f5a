"""The benchmarks by their own definitions: what of a record makes its category, and which figures are drawn from the pairs.

Each rule is the one of the benchmark's authors, as their scripts have it (docs/benchmarks.md names them). Pure; reading the
published files is left to `datamodules.sources`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mrm.errors import RecordError

GENERAL, HALLUCINATION, REASONING = "general", "hallucination", "reasoning"
# By the id up to its first "_" or "-"; any other is general. Upper and lower case differ: there is no "rlhf" among the ids.
VL_PREFIXES = {
    "RLAIF": HALLUCINATION,
    "RLHF": HALLUCINATION,
    "hallucination": HALLUCINATION,
    "mathverse": REASONING,
    "mmmu": REASONING,
}
MM_RLHF_KEYWORDS = ("mcq", "long", "short", "safety", "video")  # the first that a path holds, in this order
SAFETY, MATH, CODING = "safety", "math", "coding"
MULTIMODAL_CATEGORIES = {
    "open_generation/correctness_task": "correctness",
    "open_generation/preference_task": "preference",
    "knowledge": "knowledge",
    "safety": SAFETY,
    "vqa": "vqa",
}
MMRB2_TASKS = ("t2i", "edit", "interleaved", "reasoning")
MMRB2_IMAGE_TASKS = ("t2i", "edit")  # those whose responses are an image each
OMNI_TASK = "text_image_to_text"


@dataclass(frozen=True, slots=True)
class BenchmarkPair:
    """One pair of a benchmark, as its figures need it.

    Args:
        id: as published; may stand in several pairs.
        category: one of the definition's.
        chosen, rejected: the responses as published; None where they are images.
        group: pairs of one group count together in Acc+.
        source: the data that the pair was made from, where the benchmark tells.
        orders: how often a model judges it: 2 where it is shown both responses side by side, in either order.
    """

    id: str
    category: str
    chosen: str | None
    rejected: str | None
    group: str = ""
    source: str = ""
    orders: int = 1


@dataclass(frozen=True)
class Definition:
    """What a benchmark counts.

    Args:
        title: its name.
        categories: in the order of the table; the macro accuracy is the mean of those that have pairs.
        macro: whether that mean is one of the benchmark's own figures; it is computed for all.
        subsets: further accuracies, each over the pairs of some categories.
        acc_plus: whether groups are counted that are right in every pair (Acc+).
        releases: numbers of pairs that the published files hold, and which file that is.
        withheld: pairs of the paper that no published file holds, by what they are.
    """

    title: str
    categories: tuple[str, ...]
    macro: bool = False
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    acc_plus: bool = False
    releases: Mapping[int, str] = field(default_factory=dict)
    withheld: Mapping[str, int] = field(default_factory=dict)


DEFINITIONS = {
    "vl_rewardbench": Definition(
        "VL-RewardBench",
        (GENERAL, HALLUCINATION, REASONING),
        macro=True,
        releases={1250: "the first release", 1247: "the newest one"},
    ),
    "multimodal_rewardbench": Definition(
        "Multimodal RewardBench",
        ("correctness", "preference", "knowledge", MATH, CODING, SAFETY, "vqa"),
        subsets={
            "overall_without_safety": ("correctness", "preference", "knowledge", MATH, CODING, "vqa"),
            "math_and_coding": (MATH, CODING),
        },
        releases={4711: "the release without Hateful Memes", 5211: "the paper's"},
        withheld={"safety/toxicity, Hateful Memes": 500},
    ),
    "mm_rlhf_rewardbench": Definition(
        "MM-RLHF-RewardBench", MM_RLHF_KEYWORDS, acc_plus=True, releases={170: "the release, 46 groups"}
    ),
    "mmrb2": Definition(
        "Multimodal RewardBench 2",
        MMRB2_TASKS,
        macro=True,
        releases={1000: "one task", 2000: "two tasks", 4000: "all four tasks"},
    ),
    "omni_rewardbench": Definition("Omni-RewardBench, image and text to text", (OMNI_TASK,)),
}


def vl_rewardbench_category(id: str) -> str:
    """VL-RewardBench: by the id's prefix (its `query_source` is empty for all of reasoning)."""
    return VL_PREFIXES.get(re.split("[_-]", id, maxsplit=1)[0], GENERAL)


def mm_rlhf_category(path: str) -> str:
    """MM-RLHF-RewardBench: the first keyword that the path of the image or video holds.

    Raises:
        RecordError: where it holds none.
    """
    for keyword in MM_RLHF_KEYWORDS:
        if keyword in path:
            return keyword
    raise RecordError("no category", f"path {path[:80]!r} holds none of {', '.join(MM_RLHF_KEYWORDS)}.")


def multimodal_rewardbench_category(category: str, id: str) -> str:
    """Multimodal RewardBench: the published category, of which reasoning is told apart by the id.

    Raises:
        RecordError: for a category that is not known.
    """
    if category == REASONING:
        return MATH if id.lower().startswith(MATH) else CODING
    if category not in MULTIMODAL_CATEGORIES:
        known = ", ".join((*MULTIMODAL_CATEGORIES, REASONING))
        raise RecordError("no category", f"category {category[:80]!r} is none of {known}.")
    return MULTIMODAL_CATEGORIES[category]


def multimodal_rewardbench_source(id: str) -> str:
    """What the pair was made from: the id up to its first "_"."""
    return id.partition("_")[0]
