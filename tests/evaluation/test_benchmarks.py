"""The benchmarks' categories, by their own rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrm.errors import RecordError
from mrm.evaluation.benchmarks import (
    DEFINITIONS,
    mm_rlhf_category,
    multimodal_rewardbench_category,
    multimodal_rewardbench_source,
    vl_rewardbench_category,
)
from mrm.evaluation.published import PUBLISHED


@pytest.mark.parametrize(
    ("id", "category"),
    [
        ("RLAIF-V-12", "hallucination"),
        ("RLHF-V_3", "hallucination"),
        ("hallucination_pair-1003", "hallucination"),
        ("mathverse_2279", "reasoning"),
        ("mmmu_pro_test_Marketing_150", "reasoning"),
        ("wildvision-battle-1", "general"),
        ("jailbreak-typo-Fraud_2", "general"),
        ("svit", "general"),
        ("rlhf-v_3", "general"),  # ids have upper case; a script that looks for lower case files 301 pairs wrongly
        ("mathverse2_1", "general"),  # the whole prefix counts, not its beginning
        ("x-mmmu_1", "general"),
        ("", "general"),
    ],
)
def test_vl_rewardbench_category_is_the_ids_prefix_up_to_the_first_sign(id: str, category: str) -> None:
    assert vl_rewardbench_category(id) == category


@pytest.mark.parametrize(
    ("path", "category"),
    [
        ("mcq/073712.png", "mcq"),
        ("video/-77dfCjTbSc", "video"),
        ("safety/img_hod_1.jpg", "safety"),
        ("long/a_short_story.png", "long"),
        ("short/mcq.png", "mcq"),  # in the order of the keywords, not of the path
    ],
)
def test_mm_rlhf_category_is_the_first_keyword_that_the_path_holds(path: str, category: str) -> None:
    assert mm_rlhf_category(path) == category


def test_mm_rlhf_category_of_another_path_is_refused() -> None:
    with pytest.raises(RecordError, match="none of mcq, long"):
        mm_rlhf_category("images/1.png")


@pytest.mark.parametrize(
    ("published", "id", "category"),
    [
        ("open_generation/correctness_task", "nocaps_1", "correctness"),
        ("open_generation/preference_task", "visitbench_1", "preference"),
        ("knowledge", "mmmu-s_1", "knowledge"),
        ("reasoning", "mathvista_1", "math"),
        ("reasoning", "MathVista_1", "math"),
        ("reasoning", "EMMA-Coding_1", "coding"),
        ("reasoning", "image2struct_1", "coding"),
        ("safety", "pairs_1", "safety"),
        ("vqa", "SEED-Bench_1", "vqa"),
    ],
)
def test_multimodal_rewardbench_category_splits_reasoning_by_id(published: str, id: str, category: str) -> None:
    assert multimodal_rewardbench_category(published, id) == category


def test_multimodal_rewardbench_unknown_category_is_refused() -> None:
    with pytest.raises(RecordError, match="'humour' is none of .*reasoning"):
        multimodal_rewardbench_category("humour", "a_1")


@pytest.mark.parametrize(("id", "source"), [("mmmu-s_12", "mmmu-s"), ("EMMA-Coding_3_1", "EMMA-Coding"), ("x", "x")])
def test_multimodal_rewardbench_source_is_the_id_up_to_the_first_underscore(id: str, source: str) -> None:
    assert multimodal_rewardbench_source(id) == source


def test_definitions_subsets_are_of_known_categories_and_all_have_published_results() -> None:
    assert DEFINITIONS.keys() == PUBLISHED.keys()
    for name, definition in DEFINITIONS.items():
        for parts in definition.subsets.values():
            assert set(parts) <= set(definition.categories)
        for result in PUBLISHED[name]:
            assert result.source and set(result.categories) <= set(definition.categories)
            assert all(25 < v < 100 for v in (result.overall, result.acc_plus, *result.categories.values()) if v)


def test_published_results_stand_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    for result in (one for results in PUBLISHED.values() for one in results):
        for text in (result.model, result.source.partition(",")[0], f"{result.overall:.1f}"):
            assert text in docs, (result, text)
