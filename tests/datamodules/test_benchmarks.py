"""A benchmark opened: pairs in the published order, what is left out, faults by name."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from datamodules.benchmarks import READERS, get_reader, open_benchmark, options_of
from datamodules.sources import CARDS, SOURCES
from datamodules.sources.base import Skipped
from mrm.errors import ConfigError
from mrm.evaluation.benchmarks import DEFINITIONS
from mrm.evaluation.length_only import length_only
from tests.datamodules.sources import (
    test_mm_rlhf_rewardbench,
    test_mmrb2,
    test_omni_rewardbench,
    test_vl_rewardbench,
)
from tests.datamodules.sources.helpers import png, write_files, write_json, write_jsonl, write_parquet

TEXT = test_vl_rewardbench.TEXT


def shared() -> Path:
    """The folder of real benchmark texts; skips where it is absent."""
    root = os.environ.get("MRM_SHARED_DATA")
    places = [Path(root)] if root else [parent / "shared" / "data" for parent in Path(__file__).parents]
    folder = next((place / "benchmarks" for place in places if (place / "benchmarks").is_dir()), None)
    if folder is None:
        pytest.skip("no shared benchmark texts")
    return folder


def test_every_reader_is_a_source_and_has_a_definition() -> None:
    assert READERS.keys() == DEFINITIONS.keys() and READERS.keys() <= SOURCES.keys()
    assert all("a benchmark" in CARDS[name].size for name in READERS)


@pytest.mark.parametrize("name", ["vl_rewardbench", "VL-RewardBench", "vl-rewardbench "])
def test_get_reader_takes_hyphens_and_capitals(name: str) -> None:
    assert get_reader(name)[0] == "vl_rewardbench"


def test_get_reader_unknown_lists_the_known_and_suggests() -> None:
    with pytest.raises(ConfigError, match="known: vl_rewardbench, multimodal.*Did you mean 'vl_rewardbench'"):
        get_reader("vlrewardbench")


def test_open_benchmark_repeated_ids_stay_pairs_of_their_own(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [TEXT, {**TEXT, "chosen": "A bird."}, TEXT])
    found = open_benchmark("vl_rewardbench", path)
    assert [pair.chosen for pair in found.pairs] == ["A cat.", "A bird.", "A cat."]
    assert found.rows == (0, 1, 2) and len(set(found.keys)) == 3


def test_open_benchmark_ties_are_left_out_and_rows_stay_the_published_ones(tmp_path: Path) -> None:
    row = test_omni_rewardbench.ROW
    rows = [row, {**row, "criteria_preference": "tie"}, row]
    found = open_benchmark("omni_rewardbench", write_parquet(tmp_path / "text_image_to_text.parquet", rows))
    assert found.rows == (0, 2) and [skipped.reason for skipped in found.left_out.values()] == ["tie"]
    samples = dict(found.samples())
    assert samples.keys() == {0, 1} and not any(isinstance(item, Skipped) for item in samples.values())
    assert samples[1][0].key == found.keys[1]  # type: ignore[union-attr]


def test_open_benchmark_faults_are_told_by_place(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [TEXT, "{", {**TEXT, "chosen": None}])
    with pytest.raises(
        ConfigError, match=r"2 record\(s\) cannot be read as vl_rewardbench(.|\n)*a\.jsonl:2(.|\n)*a\.jsonl:3"
    ):
        open_benchmark("vl_rewardbench", path)


def test_open_benchmark_nothing_there_or_nothing_in_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data: there is no file or folder"):
        open_benchmark("vl_rewardbench", tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no pair of vl_rewardbench"):
        open_benchmark("vl_rewardbench", write_json(tmp_path / "a.json", []))
    with pytest.raises(ConfigError, match="frames"):
        open_benchmark("mm_rlhf_rewardbench", tmp_path, options={"frames": -1})


def test_samples_of_missing_images_say_why_and_the_rest_comes(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [TEXT, {**TEXT, "image": "b.png"}])
    write_files(tmp_path / "media", {"b.png": png()})
    first, second = open_benchmark("vl_rewardbench", path, media_dir=str(tmp_path / "media")).samples()
    assert isinstance(first[1], Skipped) and first[1].reason == "image missing" and "a.jsonl:1" in first[1].detail
    assert not isinstance(second[1], Skipped) and second[1][0].images == (png(),)


def test_samples_take_the_benchmarks_own_options(tmp_path: Path) -> None:
    test_mm_rlhf_rewardbench.make(tmp_path)
    found = open_benchmark("mm_rlhf_rewardbench", tmp_path, options={"frames": 2})
    assert [len(item[0].images) for _, item in found.samples() if not isinstance(item, Skipped)] == [1, 2]
    test_mmrb2.make(tmp_path / "two", t2i=[test_mmrb2.T2I], reasoning=[test_mmrb2.TEXT])
    both = open_benchmark("mmrb2", tmp_path / "two", options={"tasks": "t2i,reasoning"})
    assert [len(item) for _, item in both.samples() if not isinstance(item, Skipped)] == [2, 1]
    assert options_of("mmrb2") == ("tasks",) and options_of("vl_rewardbench") == ()


# -- the real texts


@pytest.mark.parametrize("data", ["vl_rewardbench_full.json", "vl_rewardbench_text.jsonl", "."])
def test_vl_rewardbench_real_texts(data: str) -> None:
    found = open_benchmark("vl_rewardbench", shared() / data)
    assert Counter(pair.category for pair in found.pairs) == {"hallucination": 749, "reasoning": 318, "general": 183}
    assert len({pair.id for pair in found.pairs}) == 1225 and len(set(found.keys)) == 1250
    longer = length_only([pair.chosen for pair in found.pairs], [pair.rejected for pair in found.pairs]).mean()
    assert round(100 * longer, 1) == 43.1


def test_vl_rewardbench_both_copies_agree_pair_for_pair() -> None:
    full, text = (
        open_benchmark("vl_rewardbench", shared() / name)
        for name in ("vl_rewardbench_full.json", "vl_rewardbench_text.jsonl")
    )
    for one, other in zip(full.pairs, text.pairs, strict=True):
        assert (one.id, one.category, one.chosen, one.rejected) == (
            other.id,
            other.category,
            other.chosen,
            other.rejected,
        )


@pytest.mark.parametrize("data", ["mm_rlhf_rewardbench_text.jsonl", "."])
def test_mm_rlhf_rewardbench_real_texts(data: str) -> None:
    found = open_benchmark("mm_rlhf_rewardbench", shared() / data)
    counts = {"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25}
    assert Counter(pair.category for pair in found.pairs) == counts
    groups = {pair.group: pair.category for pair in found.pairs}
    assert len(groups) == 46 and all(groups[pair.group] == pair.category for pair in found.pairs)
    longer = length_only([pair.chosen for pair in found.pairs], [pair.rejected for pair in found.pairs]).mean()
    assert round(100 * longer, 1) == 72.4
