"""The command `mrm.evaluate`: given scores, a model's scores, and what it writes and tells."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from mrm.errors import ConfigError, UnreadableSamplesError
from mrm.evaluate import evaluate, main
from mrm.evaluate_config import EvaluateConfig
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.packing import RewardBatch
from mrm.model.reward_model import RewardModel
from mrm.model.saving import save_reward_model
from tests.datamodules.sources import (
    test_mm_rlhf_rewardbench,
    test_mmrb2,
    test_multimodal_rewardbench,
    test_omni_rewardbench,
    test_vl_rewardbench,
)
from tests.datamodules.sources.helpers import hf_image, png, write_files, write_json, write_jsonl, write_parquet
from tests.datamodules.test_benchmarks import shared

TEXT, ROW = test_vl_rewardbench.TEXT, test_vl_rewardbench.ROW
IDS = ("wildvision-1", "wildvision-2", "RLHF-1", "hallucination_2", "mmmu_1", "mathverse-2")
MARGINS = (1.5, -0.5, 0.25, 0.125, 0.0, 2.0)  # general 1 / 2, hallucination 2 / 2, reasoning 1 / 2 with a tie


def score_file(path: Path, margins: Any, base: float = 0.0) -> str:
    return str(write_jsonl(path, [{"chosen": base + margin, "rejected": base} for margin in margins]))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def vl(tmp_path: Path) -> EvaluateConfig:
    """Six pairs of VL-RewardBench with scores."""
    data = write_jsonl(tmp_path / "vl.jsonl", [{**TEXT, "id": id} for id in IDS])
    scores = score_file(tmp_path / "scores.jsonl", MARGINS)
    return EvaluateConfig("vl_rewardbench", str(data), scores=scores, json=str(tmp_path / "out" / "f.json"), draws=200)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_reward_model(
        RewardModel.from_pretrained("tiny", head="linear"),
        folder,
        Encoder.from_pretrained(TINY_DIRECTORY, max_pixels=4096),
    )
    return str(folder)


# -- given scores


def test_evaluate_given_scores_writes_the_figures(vl: EvaluateConfig) -> None:
    evaluate(vl)
    found = json.loads(Path(vl.json or "").read_text())
    assert found["overall"] == 4 / 6 and found["n"] == 6 and found["ties"] == 1 and found["tie_rate"] == 1 / 6
    assert found["categories"] == {"general": 0.5, "hallucination": 1.0, "reasoning": 0.5}
    assert found["macro"] == pytest.approx(2 / 3) and "acc_plus" not in found and found["max_pixels"] is None
    assert found["figures"]["general"]["n"] == 2 and found["figures"]["overall"]["low"] <= 4 / 6
    assert found["figures"]["overall"]["length_only"] == 0.5  # "A cat." and "A dog."
    assert found["published"][0] == {
        "model": "DT2IT-MRM", "overall": 83.5, "acc_plus": None, "categories": {}, "source": "arXiv 2604.19544",
    }  # fmt: skip


def test_evaluate_scores_need_no_image_and_say_their_resolution_where_told(vl: EvaluateConfig) -> None:
    vl.max_pixels = 1_310_720
    assert evaluate(vl).to_json()["max_pixels"] == 1_310_720


def test_evaluate_acc_plus_and_groups(tmp_path: Path) -> None:
    record = test_mm_rlhf_rewardbench.IMAGE
    records = [{**record, "id": id} for id in ("a", "a", "b", "b")] + [test_mm_rlhf_rewardbench.VIDEO]
    data = write_jsonl(tmp_path / "mm.jsonl", records)
    scores = score_file(tmp_path / "s.jsonl", (1, 1, 1, 0, 1))
    found = evaluate(EvaluateConfig("mm_rlhf_rewardbench", str(data), scores=scores, draws=200)).to_json()
    assert found["overall"] == 4 / 5 and found["acc_plus"] == 2 / 3
    assert found["categories"] == {"mcq": 3 / 4, "video": 1.0}
    assert found["figures"]["acc_plus"]["n"] == 3 and found["figures"]["acc_plus mcq"]["value"] == 0.5
    assert any("N counts groups, and ties those that hold a tie" in note for note in found["notes"])


def test_evaluate_acc_plus_without_a_whole_group_is_null(tmp_path: Path) -> None:
    records = [{**test_mm_rlhf_rewardbench.IMAGE, "id": id} for id in ("a", "a", "b", "b")]
    scores = write_jsonl(tmp_path / "s.jsonl", [{"chosen": 1, "rejected": 0}, {"unreadable": "gone"}] * 2)
    data = write_jsonl(tmp_path / "mm_reward_bench.jsonl", records)
    config = EvaluateConfig("mm_rlhf_rewardbench", str(data), scores=str(scores), draws=200, max_bad=1)
    found = evaluate(config)
    assert found.to_json()["acc_plus"] is None and found.to_json()["overall"] == 1
    assert "Groups that lack a score, and are not in Acc+: 2 (a, b)." in found.notes()


def test_evaluate_output_lines_are_scores_again(vl: EvaluateConfig, tmp_path: Path) -> None:
    vl.output = str(tmp_path / "new" / "lines.jsonl")
    first = evaluate(vl).to_json()
    written = lines(Path(vl.output))
    assert written[1] == {
        "row": 1, "id": "wildvision-2", "category": "general", "key": "vl_rewardbench-0000001-wildvision-2", "pair": 0,
        "chosen": -0.5, "rejected": 0.0, "correct": False,
    }  # fmt: skip
    assert [line["correct"] for line in written] == [True, False, True, True, False, True]
    assert [path.name for path in Path(vl.output).parent.iterdir()] == ["lines.jsonl"]
    vl.scores, vl.output = vl.output, None
    assert evaluate(vl).to_json() == first


def test_evaluate_lines_of_another_order_are_refused_by_line(vl: EvaluateConfig, tmp_path: Path) -> None:
    vl.output = str(tmp_path / "lines.jsonl")
    evaluate(vl)
    written = lines(Path(vl.output))
    vl.scores, vl.output = str(write_jsonl(tmp_path / "swapped.jsonl", [*written[:3], *written[:2:-1]])), None
    with pytest.raises(ConfigError, match=r"swapped\.jsonl, line 4: is of sample"):
        evaluate(vl)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-1], r"scores\.jsonl has 5 lines, but the input has 6 pairs.*without a line is pair 6"),
        (lambda rows: [*rows, rows[0]], r"scores\.jsonl has 7 lines"),
        (
            lambda rows: [*rows[:2], '{"chosen": NaN, "rejected": 0}', *rows[3:]],
            r"scores\.jsonl, line 3: has chosen=nan",
        ),
        (lambda rows: [*rows[:2], '{"chosen": 1e999, "rejected": 0}', *rows[3:]], r"line 3: has chosen=inf"),
        (lambda rows: [{"chosen": 1}, *rows[1:]], r"line 1: has no `rejected`"),
        (lambda rows: [*rows[:5], {"chosen": "1", "rejected": 0}], r"line 6: has chosen=\"1\""),
        (lambda rows: [*rows[:4], "", *rows[5:]], r"line 5: is empty"),
    ],
)
def test_evaluate_scores_that_do_not_fit_are_told_by_file_and_line(vl: EvaluateConfig, change: Any, told: str) -> None:
    write_jsonl(Path(vl.scores or ""), change([{"chosen": margin, "rejected": 0.0} for margin in MARGINS]))
    with pytest.raises(ConfigError, match=told):
        evaluate(vl)
    assert not Path(vl.json or "").exists()


def test_evaluate_rounded_scores_with_ties_are_told(vl: EvaluateConfig, tmp_path: Path) -> None:
    def told() -> bool:
        return any("two decimals" in note for note in evaluate(vl).notes())

    assert not told()  # 0.125 has three
    vl.scores = score_file(tmp_path / "rounded.jsonl", [round(margin, 2) for margin in MARGINS], base=1.25)
    assert told()
    vl.scores = score_file(tmp_path / "no_ties.jsonl", [margin or 0.5 for margin in MARGINS], base=1.25)
    assert not told()
    vl.scores = score_file(tmp_path / "votes.jsonl", [1, 0, 1, 1, 0, 1])
    assert not told()


def test_evaluate_pairs_said_to_be_unreadable_are_in_no_figure_and_named(vl: EvaluateConfig) -> None:
    rows: list[Any] = [{"chosen": margin, "rejected": 0.0} for margin in MARGINS]
    write_jsonl(Path(vl.scores or ""), [*rows[:5], {"unreadable": "the image is gone"}])
    with pytest.raises(
        UnreadableSamplesError, match=r"1 of 6 pairs have no scores.*mathverse-2; the first: the image is gone"
    ):
        evaluate(vl)
    vl.max_bad = 0.5
    evaluation = evaluate(vl)
    found = evaluation.to_json()
    assert found["n"] == 5 and found["overall"] == 3 / 5 and found["categories"]["reasoning"] == 0
    assert found["without_scores"] == [{"row": 5, "id": "mathverse-2", "reason": "the image is gone"}]
    assert any("Pairs without scores, which are in no figure: 1; " in note for note in evaluation.notes())


@pytest.mark.parametrize("margins", [(1, -1), (1, 5, -1)])
def test_evaluate_omni_lines_of_ties_may_be_there_or_not(tmp_path: Path, margins: tuple[float, ...]) -> None:
    row = test_omni_rewardbench.ROW
    rows = [row, {**row, "criteria_preference": "tie"}, row]
    data = write_parquet(tmp_path / "text_image_to_text.parquet", rows)
    scores = score_file(tmp_path / "s.jsonl", margins)
    evaluation = evaluate(EvaluateConfig("omni_rewardbench", str(data), scores=scores, draws=200))
    found = evaluation.to_json()
    assert (found["overall"], found["n"], found["left_out"]) == (0.5, 2, {"tie": 1})
    assert "Left out, as in the benchmark's figures: 1 x tie." in evaluation.notes()


def test_evaluate_mmrb2_one_line_a_pair_or_one_an_order(tmp_path: Path) -> None:
    test_mmrb2.make(tmp_path, t2i=[test_mmrb2.T2I] * 2, edit=[test_mmrb2.EDIT])
    config = EvaluateConfig("mmrb2", str(tmp_path), draws=200)
    config.scores = score_file(tmp_path / "one.jsonl", (1, -1, 1))
    evaluation = evaluate(config)
    assert evaluation.to_json()["overall"] == 2 / 3 and "consistent" not in evaluation.to_json()
    assert any("of one order" in note for note in evaluation.notes())
    config.scores = score_file(tmp_path / "both.jsonl", (1, 1, -1, 1, 0, 1))
    found = evaluate(config).to_json()
    assert found["overall"] == pytest.approx(4 / 6) and found["consistent"] == pytest.approx(1 / 3)
    assert found["n"] == 3 and found["ties"] == 1 and found["categories"] == {"t2i": 0.75, "edit": 0.5}
    config.scores = score_file(tmp_path / "four.jsonl", (1, 1, 1, 1))
    told = r"has 4 lines, but the input has 3 pairs; it must have 3 \(a line a pair\) or 6 \(two a pair, one an order\), in"
    with pytest.raises(ConfigError, match=told):
        evaluate(config)


def test_evaluate_mmrb2_lines_stand_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    test_mmrb2.make(tmp_path, t2i=[test_mmrb2.T2I] * 2, edit=[test_mmrb2.EDIT])
    config = EvaluateConfig("mmrb2", str(tmp_path), draws=200, scores=score_file(tmp_path / "s.jsonl", (-1, 1, 1)))
    assert evaluate(config).to_json()["categories"] == {"t2i": 0.5, "edit": 1.0}
    for tasks in ("edit,t2i", "[edit, t2i]"):
        config.tasks = tasks
        assert evaluate(config).to_json()["categories"] == {"t2i": 1.0, "edit": 0.0}
    config.tasks = "t2i,t2i"
    with pytest.raises(ConfigError, match="tasks=t2i,t2i: names a task twice"):
        evaluate(config)


def multimodal(path: Path, numbers: dict[str, int]) -> str:
    record = {name: value for name, value in test_multimodal_rewardbench.RECORD.items() if name != "Text"}
    records = [
        {**record, "ID": f"{source}_{i}", "Meta": {"Category": "safety" if source == "pairs" else "vqa"}}
        for source, number in numbers.items()
        for i in range(number)
    ]
    return str(write_json(path, records))


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (
            {"MMBench": 4211, "pairs": 500},
            "4,711 pairs: the release without Hateful Memes. Of the paper's 5,211 pairs 500 are missing: 500 (safety/toxicity, "
            "Hateful Memes) are withheld for a licence. By source there are 4211 MMBench, 500 pairs.",
        ),
        ({"MMBench": 4000, "pairs": 500}, "withheld for a licence, and 211 that can be had are not in this file."),
        ({"MMBench": 4711, "memes": 500}, "5,211 pairs: the paper's."),
    ],
)
def test_evaluate_multimodal_rewardbench_says_what_is_missing(tmp_path: Path, numbers: Any, told: str) -> None:
    data = multimodal(tmp_path / "all_data_release.json", numbers)
    scores = score_file(
        tmp_path / "s.jsonl", [1] * numbers["MMBench"] + [0] * (sum(numbers.values()) - numbers["MMBench"])
    )
    evaluation = evaluate(EvaluateConfig("multimodal_rewardbench", data, scores=scores, draws=200))
    assert told in evaluation.notes()[0]
    assert evaluation.to_json()["overall_without_safety"] == (1 if "pairs" in numbers else 4711 / 5211)


# -- settings


def test_evaluate_bad_settings_are_told_together(tmp_path: Path) -> None:
    config = EvaluateConfig(
        "vl_rewardbank", "x", scores="none", batch_size=0, max_bad=2, draws=1, device="tpu", json=str(tmp_path)
    )
    with pytest.raises(ConfigError) as caught:
        evaluate(config)
    for told in (
        "no such benchmark; known: vl_rewardbench",
        "scores='none'",
        "batch_size=0",
        "max_bad=2",
        "draws=1",
        "tpu",
        "json=",
    ):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scores": None}, "model, scores: give one of both"),
        ({"model": "."}, "model, scores: give one of both"),
        ({"batch_size": 4}, "batch_size=4: has an effect only with model="),
        ({"media_dir": "x"}, "media_dir=x: has an effect only with model="),
        ({"tasks": "t2i"}, "tasks=t2i: has no effect on vl_rewardbench, only on mmrb2"),
        (
            {"scores": None, "model": ".", "frames": 4},
            "frames=4: has no effect on vl_rewardbench, only on mm_rlhf_rewardbench",
        ),
    ],
)
def test_evaluate_settings_without_effect_are_refused(vl: EvaluateConfig, changes: dict[str, Any], told: str) -> None:
    for key, value in changes.items():
        setattr(vl, key, value)
    with pytest.raises(ConfigError, match=told):
        evaluate(vl)


@pytest.mark.parametrize("key", ["json", "output"])
def test_evaluate_over_its_own_input_is_refused(vl: EvaluateConfig, key: str) -> None:
    setattr(vl, key, vl.scores)
    with pytest.raises(ConfigError, match="would write over the file of scores"):
        evaluate(vl)
    setattr(vl, key, vl.data)
    with pytest.raises(ConfigError, match="would write over the file of data"):
        evaluate(vl)


def test_evaluate_over_its_own_scores_by_the_name_of_the_half_done_is_refused(vl: EvaluateConfig) -> None:
    vl.scores = str(Path(vl.scores or "").rename(Path(vl.data).with_name("lines.jsonl.partial")))
    vl.output = vl.scores.removesuffix(".partial")
    with pytest.raises(ConfigError, match="would write over the file of scores"):
        evaluate(vl)


@pytest.mark.parametrize("key", ["json", "output"])
def test_evaluate_output_that_cannot_be_written_is_a_clear_error(vl: EvaluateConfig, key: str) -> None:
    setattr(vl, key, f"{vl.data}/beneath_a_file.jsonl")
    with pytest.raises(ConfigError, match=f"{key}=.*cannot be written"):
        evaluate(vl)


def test_main_prints_the_table(vl: EvaluateConfig, capsys: pytest.CaptureFixture[str]) -> None:
    main(["benchmark=VL-RewardBench", f"data={vl.data}", f"scores={vl.scores}", "draws=200"])
    out = capsys.readouterr().out
    assert "VL-RewardBench, in %; resolution not told" in out and "length only" in out
    for row in ("general", "hallucination", "reasoning", "overall", "macro"):
        assert row in out
    assert "66.7" in out and "1 (16.7)" in out  # overall; its ties and their rate
    assert "6 pairs, but published were 1,247" in out and "arXiv 2604.19544" in out


def test_main_bad_input_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark=none", "data=a", "scores=b"])
    assert ended.value.code == 2


# -- a model


def pictured(folder: Path) -> Path:
    """Six pairs of VL-RewardBench with images, as published."""
    colours = ("red", "blue", "green", "yellow", "black", "white")
    rows = [
        {
            **ROW,
            "id": id,
            "image": hf_image(colour),
            "response": [f"A {colour} square.", "No shape at all, I think."],
            "human_ranking": [number % 2, 1 - number % 2],
        }
        for number, (id, colour) in enumerate(zip(IDS, colours, strict=True))
    ]
    return write_parquet(folder / "data/test-00000-of-00001.parquet", rows).parent.parent


def scored(name: str, data: Path, model: str, tmp_path: Path, **changes: Any) -> EvaluateConfig:
    settings = {"device": "cpu", "progress": False, "batch_size": 4, "draws": 200, **changes}
    return EvaluateConfig(name, str(data), model=model, output=str(tmp_path / f"{name}.jsonl"), **settings)


def of_scores(config: EvaluateConfig, **changes: Any) -> dict[str, Any]:
    """The figures of the lines that a run wrote."""
    again = EvaluateConfig(config.benchmark, config.data, scores=config.output, draws=config.draws, **changes)
    return evaluate(again).to_json()


def test_evaluate_model_gives_what_its_scores_give(model: str, tmp_path: Path) -> None:
    config = scored("vl_rewardbench", pictured(tmp_path / "vl"), model, tmp_path)
    found = evaluate(config).to_json()
    written = lines(Path(config.output or ""))
    assert found["n"] == 6 and found["max_pixels"] == 4096 and [line["id"] for line in written] == list(IDS)
    assert found["overall"] == sum(line["chosen"] > line["rejected"] for line in written) / 6
    assert of_scores(config, max_pixels=4096) == found
    plain = [
        {"chosen": line["chosen"], "rejected": line["rejected"]} for line in written
    ]  # as LLaMA-Factory writes them
    config.output = str(write_jsonl(tmp_path / "plain.jsonl", plain))
    assert of_scores(config, max_pixels=4096) == found


def test_evaluate_model_sides_of_the_published_file_do_not_matter(model: str, tmp_path: Path) -> None:
    config = scored("vl_rewardbench", pictured(tmp_path / "vl"), model, tmp_path)
    evaluate(config)
    first = lines(Path(config.output or ""))
    config.batch_size, config.row_tokens = 1, 512
    evaluate(config)
    for one, other in zip(first, lines(Path(config.output or "")), strict=True):
        assert other["chosen"] == pytest.approx(one["chosen"], abs=1e-5)
        assert other["rejected"] == pytest.approx(one["rejected"], abs=1e-5)
    rejected = {round(line["rejected"], 3) for line in first if line["row"] % 2 == 0}
    assert len(rejected) == 3  # the same words before different images


def test_evaluate_model_resolution_changes_what_is_seen(model: str, tmp_path: Path) -> None:
    test_mm_rlhf_rewardbench.make(tmp_path / "mm")
    config = scored("mm_rlhf_rewardbench", tmp_path / "mm", model, tmp_path, frames=3, max_pixels=2048)
    found = evaluate(config).to_json()
    assert found["max_pixels"] == 2048 and found["n"] == 2 and found["figures"]["acc_plus"]["n"] == 2
    assert of_scores(config, max_pixels=2048) == found


def test_evaluate_model_mmrb2_is_judged_in_both_orders(model: str, tmp_path: Path) -> None:
    tasks = {
        "t2i": [test_mmrb2.T2I],
        "edit": [test_mmrb2.EDIT],
        "interleaved": [test_mmrb2.MIXED],
        "reasoning": [test_mmrb2.TEXT],
    }
    test_mmrb2.make(tmp_path / "two", **tasks)
    config = scored("mmrb2", tmp_path / "two", model, tmp_path, tasks="t2i,edit,interleaved,reasoning", batch_size=3)
    found = evaluate(config).to_json()
    written = lines(Path(config.output or ""))
    assert [(line["row"], line["pair"]) for line in written] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert found["n"] == 4 and "consistent" in found and found["categories"].keys() == tasks.keys()
    assert of_scores(config, tasks=config.tasks, max_pixels=4096) == found


def test_evaluate_model_pairs_without_their_image_are_named_and_in_no_figure(model: str, tmp_path: Path) -> None:
    write_files(tmp_path / "vl", {f"images/{n}.png": png() for n in range(5)})
    records = [{**test_vl_rewardbench.FULL, "id": id, "image": f"images/{n}.png"} for n, id in enumerate(IDS)]
    write_json(tmp_path / "vl" / "data.json", records)
    config = scored("vl_rewardbench", tmp_path / "vl", model, tmp_path)
    with pytest.raises(
        UnreadableSamplesError, match=r"1 of 6 pairs have no scores.*image missing.*mathverse-2.*jsonl\.partial"
    ):
        evaluate(config)
    assert not Path(config.output or "").exists() and len(lines(Path(f"{config.output}.partial"))) == 6
    config.max_bad = 0.2
    found = evaluate(config).to_json()
    assert found["n"] == 5 and found["without_scores"][0]["row"] == 5
    assert "unreadable" in lines(Path(config.output or ""))[5] and not Path(f"{config.output}.partial").exists()
    again = of_scores(config, max_bad=0.2, max_pixels=4096)
    assert {**again, "notes": 0} == {**found, "notes": 0}


def test_evaluate_model_without_any_image_stops_and_says_why(model: str, tmp_path: Path) -> None:
    write_json(tmp_path / "data.json", [{**test_vl_rewardbench.FULL, "id": id} for id in IDS])
    config = scored("vl_rewardbench", tmp_path / "data.json", model, tmp_path, max_bad=1)
    with pytest.raises(UnreadableSamplesError, match=r"6 of 6 pairs have no scores.*6 x image missing"):
        evaluate(config)
    config.max_bad = 0.01
    with pytest.raises(
        UnreadableSamplesError, match=r"4 of 6 pairs have no scores"
    ):  # of the first batch: not all are tried
        evaluate(config)


def test_evaluate_model_rewards_that_are_not_finite_are_no_scores(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(model: RewardModel, batch: RewardBatch) -> torch.Tensor:
        rewards = torch.arange(float(sum(batch.response_counts)))
        rewards[1] = float("nan")
        return rewards

    monkeypatch.setattr(RewardModel, "forward", forward)
    config = scored("vl_rewardbench", pictured(tmp_path / "vl"), model, tmp_path, batch_size=6, max_bad=0.5)
    found = evaluate(config).to_json()
    assert found["n"] == 5 and found["without_scores"][0]["row"] == 0
    assert "diverged" in found["without_scores"][0]["reason"]


def test_evaluate_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no saved reward model"):
        evaluate(scored("vl_rewardbench", pictured(tmp_path / "vl"), str(tmp_path), tmp_path))


# -- the real texts with made-up scores, against the benchmarks' rules written out once more


def made_up(path: Path, number: int, decimals: int) -> tuple[str, list[dict[str, float]]]:
    draw = random.Random(decimals)
    rows = [
        {"chosen": round(draw.gauss(0.5, 1), decimals), "rejected": round(draw.gauss(0, 1), decimals)}
        for _ in range(number)
    ]
    return str(write_jsonl(path, rows)), rows


@pytest.mark.parametrize("name", ["vl_rewardbench_full.json", "vl_rewardbench_text.jsonl"])
@pytest.mark.parametrize("decimals", [12, 2, 0])
def test_evaluate_real_vl_rewardbench_equals_its_definition(tmp_path: Path, name: str, decimals: int) -> None:
    path, rows = made_up(tmp_path / "s.jsonl", 1250, decimals)
    found = evaluate(EvaluateConfig("vl_rewardbench", str(shared() / name), scores=path, draws=200)).to_json()
    text = (shared() / name).read_text()
    records = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    right, total = defaultdict(int), defaultdict(int)
    for record, row in zip(records, rows, strict=True):
        cuts = [place for place in (record["id"].find("_"), record["id"].find("-")) if place != -1]
        prefix = record["id"][: min(cuts)] if cuts else record["id"]
        group = {"RLAIF": "hallucination", "RLHF": "hallucination", "hallucination": "hallucination"}.get(
            prefix, "general"
        )
        group = "reasoning" if prefix in ("mathverse", "mmmu") else group
        total[group] += 1
        right[group] += row["chosen"] > row["rejected"]
    assert found["n"] == 1250 and found["overall"] == sum(right.values()) / 1250
    assert found["categories"] == {group: right[group] / total[group] for group in total}
    assert found["macro"] == pytest.approx(sum(right[group] / total[group] for group in total) / 3, abs=1e-12)
    assert found["ties"] == sum(row["chosen"] == row["rejected"] for row in rows)
    assert round(100 * found["figures"]["overall"]["length_only"], 1) == 43.1
    assert found["notes"][0] == "1,250 pairs: the first release."


@pytest.mark.parametrize("decimals", [12, 2, 0])
def test_evaluate_real_mm_rlhf_rewardbench_equals_its_definition(tmp_path: Path, decimals: int) -> None:
    data = shared() / "mm_rlhf_rewardbench_text.jsonl"
    path, rows = made_up(tmp_path / "s.jsonl", 170, decimals)
    found = evaluate(EvaluateConfig("mm_rlhf_rewardbench", str(data), scores=path, draws=200)).to_json()
    groups, category, right = defaultdict(list), {}, defaultdict(list)
    for line, row in zip(data.read_text().splitlines(), rows, strict=True):
        record = json.loads(line)
        where = record.get("image") or record.get("video")
        name = next(word for word in ("mcq", "long", "short", "safety", "video") if word in where)
        groups[record["id"]].append(row["chosen"] > row["rejected"])
        category[record["id"]] = name
        right[name].append(row["chosen"] > row["rejected"])
    assert found["n"] == 170 and found["overall"] == sum(map(sum, right.values())) / 170
    assert found["categories"] == {name: sum(values) / len(values) for name, values in right.items()}
    assert found["acc_plus"] == sum(map(all, groups.values())) / 46
    for name in right:
        own = [all(values) for id, values in groups.items() if category[id] == name]
        assert found["figures"][f"acc_plus {name}"]["value"] == sum(own) / len(own)
    assert found["ties"] == sum(row["chosen"] == row["rejected"] for row in rows)
    assert round(100 * found["figures"]["overall"]["length_only"], 1) == 72.4
