"""What holds for all sources: they read a small copy of the published layout from a folder and from URLs, and every record is
accounted for on its way through `prepare`."""

import json
from pathlib import Path

import fsspec
import pytest

from datamodules.index import Index
from datamodules.prepare import prepare
from datamodules.prepare_config import COMMON, option_parameters
from datamodules.shards import read_sample
from datamodules.sources import CARDS, SOURCES, get_source
from datamodules.sources.base import Skipped
from tests.datamodules.sources import (
    test_evalmuse,
    test_genai_bench,
    test_hpdv2,
    test_hpdv3,
    test_image_reward_db,
    test_llava_critic,
    test_llava_rlhf,
    test_mj_bench,
    test_mm_rlhf,
    test_mm_rlhf_rewardbench,
    test_mmpr,
    test_mmrb2,
    test_multimodal_rewardbench,
    test_omni_rewardbench,
    test_pickapic_v2,
    test_povid,
    test_r1_reward_rl,
    test_rlaif_v,
    test_rlhf_v,
    test_spa_vl,
    test_unified_reward,
    test_vl_rewardbench,
    test_vlfeedback,
    test_wildvision_battle,
)
from tests.datamodules.sources.helpers import (
    hf_image,
    make_math_v,
    make_mj_bench,
    png,
    write_files,
    write_json,
    write_jsonl,
    write_parquet,
    write_zip,
)


def tables(name, *rows):
    return lambda folder: write_parquet(folder / name, list(rows))


def files(images, write, name, records):
    def make(folder):
        write_files(folder, images)
        write(folder / name, records)

    return make


def make_vlfeedback(folder):
    write_zip(folder / "merged_images.zip", {"merged_images/1.jpg": png()})
    write_jsonl(folder / "vlfeedback_80k.jsonl", [test_vlfeedback.RECORD])


MINE = {"prompt": "<image>Q", "images": ["a.jpg"], "chosen": "a", "rejected": "b"}
RANKED = {"instruction": "<image>Q", "images": ["a.jpg"], "chosen": "a", "rejected": "b"}
MATH = [{"id": "1", "response": "2", "correct": True}, {"id": "1", "response": "3", "correct": False}]
ONE, TWO = {"a.jpg": png()}, {"images/a.jpg": png("red"), "images/b.jpg": png("blue")}
MADE = {
    "jsonl": (files(ONE, write_jsonl, "mine.jsonl", [MINE, {**MINE, "images": []}]), 1),
    "llama_factory": (files(ONE, write_json, "pairs.json", [RANKED, {"images": []}]), 1),
    "math_v": (lambda folder: make_math_v(folder, [{"id": "1", "question": "1 + 1? <image1>"}], {"run": MATH}), 1),
    "mj_bench": (lambda folder: make_mj_bench(folder, [test_mj_bench.RECORD], ["a.jpg", "b.jpg"]), 1),
    "rlaif_v": (tables("RLAIF-V-Dataset_000.parquet", test_rlaif_v.ROW), 1),
    "rlhf_v": (tables("RLHF-V-Dataset.parquet", test_rlhf_v.ROW), 1),
    "vlfeedback": (make_vlfeedback, 1),
    "povid": (files({f"train2014/{test_povid.IMAGE}": png()}, write_json, "povid.json", [test_povid.RECORD]), 1),
    "mmpr": (lambda folder: test_mmpr.make(folder, "parts"), 3),
    "mm_rlhf": (
        files(
            {"mcq/073712.png": png(), **test_mm_rlhf.FRAMES},
            write_jsonl,
            "dpo_pairs.jsonl",
            [test_mm_rlhf.IMAGE, test_mm_rlhf.VIDEO],
        ),
        2,
    ),
    "llava_rlhf": (files({"000000033471.jpg": png()}, write_json, "a.json", [test_llava_rlhf.RECORD]), 1),
    "spa_vl": (tables("data/train-00000-of-00001.parquet", test_spa_vl.ROW), 1),
    "r1_reward_rl": (tables("data/train-00000-of-00001.parquet", test_r1_reward_rl.ROW), 1),
    "llava_critic": (tables("pairwise/train-0.parquet", {**test_llava_critic.ROW, "image": hf_image()}), 1),
    "wildvision_battle": (
        tables("data/train-0.parquet", test_wildvision_battle.ROW, {**test_wildvision_battle.ROW, "winner": "tie"}),
        1,
    ),
    "unified_reward": (
        files(
            TWO,
            write_json,
            "train_data.json",
            [
                {"problem": test_unified_reward.CAPTION_PROMPT, "solution": "Image 1 is better", "images": [*TWO]},
                {
                    "problem": test_unified_reward.QUESTION_PROMPT,
                    "solution": "Answer 2 is better",
                    "images": [[*TWO][0]],
                },
            ],
        ),
        2,
    ),
    "pickapic_v2": (tables("data/train-0.parquet", *[{**test_pickapic_v2.ROW, "ranking_id": i} for i in range(4)]), 4),
    "hpdv2": (
        files(
            {f"train/{n}": d for n, d in test_hpdv2.IMAGES.items()}, write_json, "train.json", [test_hpdv2.CHOICE] * 2
        ),
        2,
    ),
    "hpdv3": (files(TWO, write_json, "train.json", [test_hpdv3.RECORD] * 4), 4),
    "image_reward_db": (lambda folder: test_image_reward_db.make(folder, test_image_reward_db.ENTRIES, True), 3),
    "evalmuse": (
        lambda folder: test_evalmuse.make(
            folder, [test_evalmuse.entry("a", [1, 3]), test_evalmuse.entry("b", [4]), test_evalmuse.entry("c", [2, 2])]
        ),
        2,
    ),
    "genai_bench": (lambda folder: test_genai_bench.make(folder), 1),
    "vl_rewardbench": (
        tables("data/test-0.parquet", test_vl_rewardbench.ROW, {**test_vl_rewardbench.ROW, "response": ["a", "b"]}),
        2,
    ),
    "multimodal_rewardbench": (lambda folder: test_multimodal_rewardbench.make(folder), 1),
    "mm_rlhf_rewardbench": (lambda folder: test_mm_rlhf_rewardbench.make(folder), 2),
    "mmrb2": (lambda folder: test_mmrb2.make(folder, t2i=[test_mmrb2.T2I] * 2, edit=[test_mmrb2.EDIT] * 2), 4),
    "omni_rewardbench": (lambda folder: test_omni_rewardbench.make(folder), 1),
}


@pytest.fixture(params=sorted(SOURCES.keys() - {"shapeworld"}))
def made(request, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    make, usable = MADE[request.param]
    make(folder)
    return request.param, folder, usable


def to_memory(folder: Path) -> str:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for file in folder.rglob("*"):
        if file.is_file():
            memory.pipe(f"/data/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return "memory://data"


def test_read_from_urls_gives_what_the_folder_gives(made):
    name, folder, usable = made
    local = list(get_source(name)(folder))
    assert sum(not isinstance(item, Skipped) for item in local) == usable
    assert list(get_source(name)(f"file://{folder}")) == local
    remote = list(get_source(name)(to_memory(folder)))
    assert [item for item in remote if not isinstance(item, Skipped)] == [
        item for item in local if not isinstance(item, Skipped)
    ]
    assert [(item.key, item.reason) for item in remote if isinstance(item, Skipped)] == [
        (item.key, item.reason) for item in local if isinstance(item, Skipped)
    ]


def test_prepare_accounts_for_every_item_and_balances_sides(made, tmp_path):
    name, folder, usable = made
    result = prepare(name, folder, tmp_path / "out", max_unreadable=1, deduplicate=False, show_progress=False)
    assert result.written == usable and result.read == usable + result.skipped.total()
    index = Index.load(result.path)
    samples = [read_sample(index, row) for row in range(len(index))]
    assert len({sample.key for sample in samples}) == usable
    json.dumps([sample.to_json() for sample in samples], allow_nan=False)
    firsts = [sample.meta["preferred_first"] for sample in samples if sample.meta.get("kind") == "t2i"]
    assert abs(2 * sum(firsts) - len(firsts)) <= 1


def test_cards_are_whole_and_options_documented():
    for name, card in CARDS.items():
        assert card.kind in ("image-text", "text-to-image", "image-text and text-to-image")
        assert card.home and card.licence and card.size and card.strength
        read = get_source(name)
        options = set(read.__kwdefaults__ or {})
        assert all(f"{option}:" in read.__doc__ for option in options), name


def test_options_are_none_of_prepares_own_settings_but_those_that_mean_the_same():
    for name in SOURCES:
        shared = set(option_parameters(name)) & set(COMMON)
        assert shared <= {"seed", "max_image_pixels"}, name
