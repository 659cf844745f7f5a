"""Results that others published, for reference beside one's own; nothing here was measured by this project.

In per cent. `source` says where a row is from; papers differ in what they scored (releases, resolution, handling of ties), so
that differences of a point mean little. docs/benchmarks.md shows the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DT2IT = "arXiv 2604.19544"
MULTIMODAL_REPOSITORY = "github.com/facebookresearch/multimodal_rewardbench, on the paper's 5,211 pairs"
MMRB2_REPOSITORY = "github.com/facebookresearch/MMRB2"


@dataclass(frozen=True)
class PublishedResult:
    """One model's result on one benchmark.

    Args:
        model: its name.
        source: where it is printed.
        overall: accuracy over all pairs.
        acc_plus: Acc+, where it is printed.
        categories: by category, where they are printed.
    """

    model: str
    source: str
    overall: float | None
    acc_plus: float | None = None
    categories: Mapping[str, float] = field(default_factory=dict)


# VL-RewardBench, Multimodal RewardBench, MM-RLHF-RewardBench (Acc, Acc+).
_THREE = (
    ("DT2IT-MRM", DT2IT, 83.5, 79.3, 89.4, None),
    ("BaseReward", "arXiv 2509.16127", 82.2, 72.8, 91.8, 80.4),
    ("Proxy-GRM", "arXiv 2603.16600", 75.2, 85.6, 82.9, None),
    ("Skywork-VL-Reward", "arXiv 2505.07263", 73.1, 74.4, 65.9, None),
    ("R1-Reward", "arXiv 2505.02835", 71.9, 82.2, 80.6, 54.4),
    ("IXC-2.5-Reward", "arXiv 2501.12368", 65.8, None, 71.2, 50.0),
)
_MMRB2 = (
    ("Gemini 3 Pro", 76.3, 74.4, 74.9, 76.4, 79.5),
    ("GPT-5", 72.2, 70.5, 73.8, 74.4, 70.2),
    ("Qwen3-VL-32B", 64.6, 64.1, 67.3, 70.5, 56.6),
    ("GPT-4o", 59.7, 60.3, 65.0, 61.5, 51.9),
    ("Qwen3-VL-8B", 59.3, 59.4, 61.7, 61.5, 54.6),
    ("Qwen2.5-VL-7B", 50.9, 50.4, 57.1, 48.4, 47.5),
)
PUBLISHED: dict[str, tuple[PublishedResult, ...]] = {
    "vl_rewardbench": tuple(PublishedResult(name, source, vl) for name, source, vl, *_ in _THREE),
    "multimodal_rewardbench": (
        *(PublishedResult(name, source, overall) for name, source, _, overall, *_ in _THREE if overall is not None),
        PublishedResult("Claude 3.5 Sonnet", MULTIMODAL_REPOSITORY, 72.0),
        PublishedResult("Gemini 1.5 Pro", MULTIMODAL_REPOSITORY, 72.0),
        PublishedResult("GPT-4o", MULTIMODAL_REPOSITORY, 71.5),
    ),
    "mm_rlhf_rewardbench": tuple(
        PublishedResult(name, source, accuracy, plus) for name, source, _, _, accuracy, plus in _THREE
    ),
    "mmrb2": tuple(
        PublishedResult(
            name,
            MMRB2_REPOSITORY,
            overall,
            categories=dict(zip(("t2i", "edit", "interleaved", "reasoning"), tasks, strict=True)),
        )
        for name, overall, *tasks in _MMRB2
    ),
    "omni_rewardbench": (),
}
