"""Curation without training: from given scores or a saved model, over shards or a file in LLaMA-Factory's form."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.index import Index
from datamodules.ledger import Decision, Ledger, ledger_rounds
from datamodules.prepare import prepare
from datamodules.reading import read_sample
from mrm.curate import CurateConfig, CurateResult, curate, main
from mrm.errors import ConfigError, CurationError, UnreadableSamplesError
from mrm.model.backbones import TINY_DIRECTORY
from mrm.model.encoding import Encoder
from mrm.model.packing import RewardBatch
from mrm.model.reward_model import RewardModel
from mrm.model.saving import save_reward_model
from mrm.preference import Pair
from mrm.score import ScoreConfig, score
from tests.datamodules.making import make_dataset, make_image, make_sample
from tests.datamodules.sources.helpers import png, write_json, write_jsonl

# Five negatives: floor(5 / 2) = 2 are flipped, the most negative ones. Then a tie, and three that agree.
MARGINS = [-1.0, -5.0, 2.0, -3.0, 0.0, -2.0, 1.0, -4.0, 0.5]
FLIPPED, NEGATIVE, AGREEING = [1, 7], [0, 1, 3, 5, 7], [2, 6, 8]


def records(count: int = 9) -> list[dict]:
    """Records with images that are nowhere, and columns that the format does not know."""
    return [
        {
            "score": number / 3,
            "images": [f"nowhere/{number}.png"],
            "system": "Sei knapp: é 中",
            "conversations": [{"from": "human", "value": f"<image>question {number}"}],
            "rejected": f"rejected {number}",
            "chosen": {"from": "gpt", "value": f"chosen {number}"},
            "tags": {"n": [number, None, 1.5]},
        }
        for number in range(count)
    ]


def score_file(path: Path, margins: list[float]) -> str:
    return str(write_jsonl(path, [{"chosen": margin, "rejected": 0} for margin in margins]))


@pytest.fixture
def config(tmp_path: Path) -> CurateConfig:
    """Nine pairs in LLaMA-Factory's form and the scores above."""
    return CurateConfig(
        output=str(tmp_path / "out"),
        input=str(write_json(tmp_path / "open.json", records())),
        scores=score_file(tmp_path / "s.jsonl", MARGINS),
        progress=False,
    )


def decisions(result: CurateResult) -> list[str]:
    return result.ledger.decision.tolist()


def written(config: CurateConfig) -> list[dict]:
    return json.loads((Path(config.output) / "pairs.json").read_text())


def turned(record: dict) -> dict:
    return {**record, "chosen": record["rejected"], "rejected": record["chosen"]}


# -- the rules


def test_curate_correct_flips_the_lower_half_of_the_negatives(config: CurateConfig) -> None:
    result = curate(config)
    assert result.accounts == {"pairs": 9, "kept": 7, "flipped": 2, "dropped": 0, "queued": 0, "unreadable": 0}
    assert np.flatnonzero(result.ledger.flipped).tolist() == FLIPPED
    expected = [turned(one) if number in FLIPPED else one for number, one in enumerate(records())]
    assert written(config) == expected
    assert [list(one) for one in written(config)] == [list(one) for one in records()]  # the columns' order, too


def test_curate_filter_keeps_strict_agreement_and_queues_the_rest(config: CurateConfig) -> None:
    config.rule = "filter"
    result = curate(config)
    assert result.accounts == {"pairs": 9, "kept": 3, "flipped": 0, "dropped": 0, "queued": 6, "unreadable": 0}
    assert written(config) == [records()[number] for number in AGREEING]
    assert result.report["written"]["without_pairs"] == 6 and "not dropped" in result.report["queued_pairs"]


def test_curate_filter_dead_zone_keeps_only_what_is_clear(config: CurateConfig) -> None:
    config.rule, config.dead_zone, config.min_active_share = "filter", 1.0, 0.1
    assert np.flatnonzero(curate(config).ledger.active).tolist() == [2]


def test_curate_filter_that_would_empty_the_pool_writes_nothing(config: CurateConfig) -> None:
    config.rule, config.dead_zone = "filter", 1.0  # 1 of 9 is below a quarter
    with pytest.raises(CurationError, match="would leave 1 of 9 open pairs in use .* min_active_share=0.25"):
        curate(config)
    assert not Path(config.output).exists()


def test_curate_small_margins_of_large_scores_are_no_ties(config: CurateConfig) -> None:
    lines = [{"chosen": 1e6 + (1e-3 if number % 2 else -1e-3), "rejected": 1e6} for number in range(9)]
    write_jsonl(Path(config.scores), lines)
    config.rule = "filter"
    assert np.flatnonzero(curate(config).ledger.active).tolist() == [1, 3, 5, 7]


def test_curate_cap_of_a_source_counts_its_own_pairs(shards: CurateConfig) -> None:
    shards.sources, shards.max_flipped, shards.distrust_share = "{made: {max_flipped: 0.1}}", 1.0, 1.0
    with pytest.raises(CurationError, match=r"sources.made.max_flipped=0.1 of them"):
        curate(shards)


def test_curate_correct_and_filter_in_sequence(config: CurateConfig) -> None:
    config.rule = "correct,filter"
    result = curate(config)
    assert result.accounts == {"pairs": 9, "kept": 3, "flipped": 2, "dropped": 0, "queued": 4, "unreadable": 0}
    assert written(config) == [turned(records()[n]) if n in FLIPPED else records()[n] for n in (1, 2, 6, 7, 8)]


def test_curate_drop_leaves_out_what_flip_turns(config: CurateConfig) -> None:
    config.correct_mode = "drop"
    result = curate(config)
    assert np.flatnonzero(result.ledger.decision == Decision.DROP).tolist() == FLIPPED
    assert written(config) == [one for number, one in enumerate(records()) if number not in FLIPPED]


def test_curate_weight_keeps_all_and_says_that_the_form_has_no_weights(config: CurateConfig) -> None:
    config.correct_mode, config.down_weight = "weight", 0.25
    result = curate(config)
    assert result.ledger.weight.tolist() == [0.25 if number in FLIPPED else 1 for number in range(9)]
    assert written(config) == records() and result.report["written"]["weights_lost"] == 2


def test_curate_share_decides_how_many_negatives_are_distrusted(config: CurateConfig) -> None:
    config.distrust_share, config.max_flipped = "1", 1.0
    assert np.flatnonzero(curate(config).ledger.flipped).tolist() == NEGATIVE


def test_curate_several_passes_decide_by_their_mean(config: CurateConfig, tmp_path: Path) -> None:
    other = score_file(tmp_path / "t.jsonl", [9.0 if margin == -5 else margin for margin in MARGINS])
    config.scores = f"[{config.scores},{other}]"
    result = curate(config)  # pair 1 has the mean 2 now: of four negatives two are flipped
    assert np.flatnonzero(result.ledger.flipped).tolist() == [3, 7]
    assert result.ledger.chosen_score[1] == 2 and result.ledger.spread[1] == 7  # of -5 and 9
    assert result.report["scores"]["passes"] == 2


def test_curate_cap_stops_before_anything_is_written(config: CurateConfig, tmp_path: Path) -> None:
    config.max_flipped = 0.2
    with pytest.raises(CurationError, match="max_flipped=0.2"):
        curate(config)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")) == [
        "open.json",
        "s.jsonl",
    ]


def test_curate_sources_have_settings_of_their_own(config: CurateConfig) -> None:
    config.rule, config.sources, config.min_active_share = "filter", "{open: {dead_zone: 0.75}}", 0.2
    assert np.flatnonzero(curate(config).ledger.active).tolist() == [2, 6]


# -- the output


def test_curate_output_holds_ledgers_report_and_pool(config: CurateConfig) -> None:
    result = curate(config)
    assert sorted(path.name for path in result.path.iterdir()) == ["curate.json", "ledger", "pairs.json", "report.json"]
    assert ledger_rounds(result.path / "ledger") == [0, 1]
    first = Ledger.latest(result.path / "ledger", at_most=0)
    assert first is not None and set(first.decision) == {Decision.HELD}
    report = json.loads((result.path / "report.json").read_text())
    accounts = dict(report["accounts"])
    assert accounts.pop("pairs") == sum(accounts.values()) == 9
    assert report["input"]["unread_columns"] == {"score": 9, "tags": 9}


def test_curate_same_settings_again_finds_the_output(config: CurateConfig) -> None:
    first = curate(config)
    stamp = (first.path / "pairs.json").stat().st_mtime_ns
    again = curate(config)
    assert again.reused and again.accounts == first.accounts
    assert (again.path / "pairs.json").stat().st_mtime_ns == stamp


def test_curate_other_settings_scores_or_files_in_the_way_are_refused(config: CurateConfig) -> None:
    result = curate(config)
    config.rule = "filter"
    with pytest.raises(ConfigError, match="other settings or data .other: steps"):
        curate(config)
    config.rule = "correct"
    score_file(Path(config.scores), [-margin for margin in MARGINS])
    with pytest.raises(ConfigError, match="other: scores"):
        curate(config)
    (result.path / "curate.json").unlink()
    with pytest.raises(ConfigError, match="is no finished curation"):
        curate(config)


def test_curate_leftover_of_a_killed_run_is_no_hindrance(config: CurateConfig, tmp_path: Path) -> None:
    (tmp_path / ".out.curating" / "shards").mkdir(parents=True)
    assert curate(config).accounts["pairs"] == 9
    assert not (tmp_path / ".out.curating").exists()


def test_curate_form_ledger_writes_no_pool(config: CurateConfig) -> None:
    config.form = "ledger"
    result = curate(config)
    assert not (result.path / "pairs.json").exists() and result.report["written"] is None


def test_curate_json_lines_under_the_other_key_are_recognised(config: CurateConfig, tmp_path: Path) -> None:
    config.shards, config.input = str(write_jsonl(tmp_path / "open.jsonl", records())), None
    curate(config)
    assert len(written(config)) == 9


# -- what cannot be read


def test_curate_broken_records_are_unreadable_by_name(config: CurateConfig, tmp_path: Path) -> None:
    lines = [json.dumps(one) for one in records()]
    lines[4], lines[6] = "{broken", json.dumps({**records()[6], "chosen": None})
    config.input = str(write_jsonl(tmp_path / "open.jsonl", lines))
    with pytest.raises(UnreadableSamplesError, match="2 of 9 samples .*max_bad=0.01.*open.jsonl:5"):
        curate(config)
    config.max_bad = 0.3
    result = curate(config)
    assert result.accounts == {"pairs": 9, "kept": 5, "flipped": 2, "dropped": 0, "queued": 0, "unreadable": 2}
    assert "open.jsonl:5: not a line of JSON" in result.ledger.reason[4]
    assert [one["score"] for one in written(config)] == [n / 3 for n in range(9) if n not in (4, 6)]


def test_curate_to_shards_decides_anew_without_what_cannot_be_written(config: CurateConfig, tmp_path: Path) -> None:
    for number in (n for n in range(9) if n != 1):  # the most negative pair's image is missing
        (tmp_path / "nowhere").mkdir(exist_ok=True)
        (tmp_path / "nowhere" / f"{number}.png").write_bytes(png())
    config.form, config.max_bad = "shards", 0.2
    result = curate(config)
    assert decisions(result)[1] == Decision.UNREADABLE and "image" in result.ledger.reason[1]
    assert np.flatnonzero(result.ledger.flipped).tolist() == [3, 7]  # of the four negatives that are left
    index = Index.load(result.path / "shards")
    assert len(index) == 8
    sample = read_sample(index, index.keys.tolist().index("open-0000003"))
    assert sample.responses == ("chosen 3", "rejected 3") and sample.pairs == (Pair(1, 0),)


# -- shards


@pytest.fixture
def shards(tmp_path: Path) -> CurateConfig:
    """A sample of three pairs and one of one, with strengths; in order the margins -2, 1, -1 and 3."""
    triple = tuple(Pair(a, b, 0.5) for a, b in itertools.combinations(range(3), 2))
    truth = {"errors": [0, 1, 2], "flipped": [True, False, False]}
    samples = [
        make_sample("a", responses=3, pairs=triple, meta={"truth": truth, "n": 1}),
        make_sample("b", images=(make_image(1), make_image(2, "JPEG"))),
    ]
    make_dataset(tmp_path / "pool", samples)
    scores = score_file(tmp_path / "s.jsonl", [-2.0, 1.0, -1.0, 3.0])
    return CurateConfig(output=str(tmp_path / "out"), shards=str(tmp_path / "pool"), scores=scores, progress=False)


def test_curate_shards_have_active_pairs_only_turned_and_without_strength(shards: CurateConfig) -> None:
    shards.rule = "correct_filter"
    result = curate(shards)
    assert decisions(result) == [Decision.FLIP, Decision.KEEP, Decision.QUEUE, Decision.KEEP]
    index = Index.load(result.path / "shards")
    sample, other = (read_sample(index, row) for row in (0, 1))
    assert sample.pairs == (Pair(1, 0, None), Pair(0, 2, 0.5)) and len(sample.responses) == 3
    told = sample.meta["curation"]
    assert [(one["pair"], one["decision"], one["flipped"], one["weight"]) for one in told] == [
        (0, "flip", True, 1.0),
        (1, "keep", False, 1.0),
    ]
    assert (told[0]["chosen_score"], told[0]["round"]) == (-2.0, 1) and "lower half" in told[0]["reason"]
    assert sample.meta["truth"]["flipped"] == [False, False] and sample.meta["n"] == 1  # the wrong label is mended
    assert other.pairs == (Pair(0, 1, 0.5),) and len(other.images) == 2
    assert result.report["written"]["strengths_lost"] == 1


def test_curate_shards_that_tell_the_truth_have_it_in_the_report(shards: CurateConfig) -> None:
    """Of a's three pairs the first label is wrong, and it is flipped; b says nothing."""
    told = curate(shards).report["round"]
    assert (told["noise_before"], told["noise_after"]) == (pytest.approx(1 / 3), 0.0)
    assert (told["flip_precision"], told["flip_recall"], told["right_lost"]) == (1.0, 1.0, 0.0)


def test_curate_shards_without_a_pair_in_use_are_left_out_and_counted(shards: CurateConfig) -> None:
    score_file(Path(shards.scores), [-2.0, -1.0, 0.0, 3.0])
    shards.rule = "filter"
    result = curate(shards)
    assert result.report["written"] == {
        "path": "shards",
        "form": "shards",
        "samples": 1,
        "pairs": 1,
        "flipped": 0,
        "without_pairs": 1,
        "strengths_lost": 0,
        "weights_lost": 0,
    }
    assert Index.load(result.path / "shards").keys.tolist() == ["b"]


def test_curate_shards_again_keeps_what_was_decided_before(shards: CurateConfig, tmp_path: Path) -> None:
    first = curate(shards)
    scores = score_file(tmp_path / "t.jsonl", [1.0, 1.0, -1.0, 1.0])
    again = CurateConfig(str(tmp_path / "again"), shards=str(first.path / "shards"), scores=scores, rule="filter")
    sample = read_sample(Index.load(curate(again).path / "shards"), 0)
    assert [(one["decision"], one["before"]["decision"]) for one in sample.meta["curation"]] == [
        ("keep", "flip"),
        ("keep", "keep"),
    ]


def test_curate_nothing_in_use_is_told(shards: CurateConfig) -> None:
    score_file(Path(shards.scores), [-2.0, -1.0, 0.0, -3.0])
    shards.rule, shards.min_active_share = "filter", 0.0
    with pytest.raises(CurationError, match="leaves no pair in use"):
        curate(shards)
    shards.form = "ledger"
    assert curate(shards).accounts["queued"] == 4


def test_curate_shards_to_llama_factory_writes_images_that_prepare_reads(shards: CurateConfig, tmp_path: Path) -> None:
    shards.form = "llama_factory"
    result = curate(shards)
    one = written(shards)[0]
    assert (one["chosen"]["value"], one["rejected"]["value"]) == ("answer 1 to a", "answer 0 to a")
    assert result.report["written"]["pairs"] == 4 and result.report["written"]["samples"] == 2
    prepared = prepare("llama_factory", result.path / "pairs.json", tmp_path / "again", workers=1)
    assert (prepared.written, prepared.skipped.total()) == (4, 0)


def test_curate_damaged_shard_leaves_the_sample_out_by_name(shards: CurateConfig) -> None:
    tar = next(Path(shards.shards or "").glob("*.tar"))
    index = Index.load(shards.shards or "")
    data = bytearray(tar.read_bytes())
    data[int(index.json_offset[1]) + 5] ^= 1
    tar.write_bytes(data)
    shards.max_bad = 0.5
    result = curate(shards)
    assert result.accounts["unreadable"] == 1 and "'b'" in result.ledger.reason[3]
    assert Index.load(result.path / "shards").keys.tolist() == ["a"]


# -- settings


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": None}, "shards, input: give one of both"),
        ({"model": "m"}, "model, scores: give one of both"),
        ({"scores": None}, "model, scores: give one of both"),
        ({"scores": None, "model": ""}, "model='': there is no such folder"),
        ({"scores": "none.jsonl"}, "scores='none.jsonl': there is no such file"),
        ({"scores": ""}, "scores='': a name in it is empty"),
        ({"scores": "[]"}, "scores='..': a name in it is empty"),
        ({"rule": "corect"}, "rule='corect': must be one of correct, filter, correct_filter. Did you mean 'correct'"),
        ({"form": "tar"}, "form='tar': must be one of ledger, shards, llama_factory"),
        ({"correct_mode": "turn"}, "correct_mode='turn' is none of flip, drop, weight"),
        ({"distrust_share": "half"}, "distrust_share='half': must be a number"),
        ({"distrust_share": 2}, "distrust_share=2 must be in"),
        ({"dead_zone": 1}, "dead_zone=1: has no effect with rule=correct"),
        ({"down_weight": 0.5}, "down_weight=0.5: has an effect only with correct_mode=weight"),
        ({"rule": "filter", "distrust_share": 0.5}, "distrust_share=0.5: has no effect with rule=filter"),
        ({"rule": "filter", "max_flipped": 0.5}, "max_flipped=0.5: has no effect with rule=filter"),
        ({"max_flipped": 0.4, "correct_mode": "drop"}, "max_flipped=0.4: has an effect only with correct_mode=flip"),
        (
            {"sources": "{made: {down_weight: 0.1}}"},
            "sources.made.down_weight: has an effect only with correct_mode=weight",
        ),
        ({"batch_size": 4, "dtype": "bfloat16"}, "batch_size=4: has an effect only with model="),
        ({"output": ""}, "output=: is empty"),
        ({"agreement": "unanimous"}, "unanimous has an effect only with several score passes"),
        ({"rule": "correct_filter", "correct_mode": "weight"}, "the filter queues every pair that was distrusted"),
        ({"min_active_share": 2}, "min_active_share=2 must be in"),
        ({"sources": "{made: {distrust_share: null}}"}, "sources.made: distrust_share without a value"),
        ({"max_bad": 2}, "max_bad=2: must be in"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"sources": "[1]"}, "sources='.1.': must be a mapping"),
        ({"sources": {"other": {"distrust_share": 0.1}}}, "the open pool has no such source; its sources are open"),
        ({"media_dir": "nowhere"}, "media_dir: there is no folder"),
    ],
)
def test_curate_settings_that_cannot_be_are_told(config: CurateConfig, change: dict, told: str) -> None:
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(ConfigError, match=told):
        curate(config)


def test_curate_one_file_of_scores_twice_is_no_second_pass(config: CurateConfig) -> None:
    config.scores = [config.scores, str(Path(config.scores).parent / "." / Path(config.scores).name)]
    with pytest.raises(ConfigError, match="s.jsonl.* stand for one file"):
        curate(config)


def test_curate_scores_of_another_number_name_file_and_counts(config: CurateConfig) -> None:
    score_file(Path(config.scores), MARGINS[:8])
    with pytest.raises(ConfigError, match="s.jsonl has 8 lines, but the input has 9 pairs"):
        curate(config)


def test_main_bad_settings_end_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["shards=nowhere", "mode=flip"])
    assert ended.value.code == 2
    assert "mode: there is no such key" in capsys.readouterr().err


def test_main_says_what_became_of_the_pairs(config: CurateConfig, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"input={config.input}", f"scores={config.scores}", f"output={config.output}", "rule=filter"])
    shown = capsys.readouterr().out
    assert "6 pairs are queued, not dropped" in shown and "Written as llama_factory: 3 pairs" in shown


# -- a model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    encoder = Encoder.from_pretrained(TINY_DIRECTORY, max_pixels=4096)
    save_reward_model(RewardModel.from_pretrained("tiny", head="linear"), folder, encoder)
    return folder


def test_curate_model_scores_as_mrm_score_does_and_its_scores_serve_again(
    config: CurateConfig, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "nowhere").mkdir()
    for number in range(9):
        (tmp_path / "nowhere" / f"{number}.png").write_bytes(png(f"rgb({number * 20},9,9)"))
    config.model, config.scores, config.device, config.batch_size = str(model), None, "cpu", 4
    result = curate(config)
    plain = [
        {
            "prompt": [
                {"role": "system", "content": one["system"]},
                {"role": "user", "content": f"<image>question {n}"},
            ],
            "images": one["images"],
            "chosen": f"chosen {n}",
            "rejected": f"rejected {n}",
        }
        for n, one in enumerate(records())
    ]
    other = ScoreConfig(
        str(model),
        str(write_jsonl(tmp_path / "plain.jsonl", plain)),
        str(tmp_path / "t.jsonl"),
        device="cpu",
        progress=False,
    )
    score(other)
    expected = [json.loads(line) for line in Path(other.output).read_text().splitlines()]
    assert result.ledger.chosen_score.tolist() == pytest.approx([line["chosen"] for line in expected], abs=1e-5)
    assert result.ledger.rejected_score.tolist() == pytest.approx([line["rejected"] for line in expected], abs=1e-5)

    config.model, config.scores = None, str(result.path / "scores.jsonl")
    config.device, config.batch_size = "auto", 16
    config.output = str(tmp_path / "again")
    again = curate(config)
    assert decisions(again) == decisions(result)
    np.testing.assert_array_equal(again.ledger.chosen_score, result.ledger.chosen_score)


def test_curate_model_over_shards_scores_each_pair_of_a_sample(
    shards: CurateConfig, model: Path, tmp_path: Path
) -> None:
    shards.model, shards.scores, shards.device, shards.batch_size = str(model), None, "cpu", 1
    one = curate(shards).ledger
    assert one.chosen_score[0] == one.chosen_score[1]  # response 0 is chosen in both
    assert one.rejected_score[0] == one.chosen_score[2] and one.rejected_score[1] == one.rejected_score[2]
    shards.output, shards.batch_size, shards.row_tokens, shards.workers = str(tmp_path / "b"), 8, 512, 1
    other = curate(shards).ledger
    assert other.chosen_score.tolist() == pytest.approx(one.chosen_score.tolist(), abs=1e-5)


def test_curate_model_unreadable_samples_stop_past_max_bad_else_are_named(config: CurateConfig, model: Path) -> None:
    config.model, config.scores, config.device = str(model), None, "cpu"
    with pytest.raises(UnreadableSamplesError, match=r"of 9 samples .*nowhere/0\.png.*raise max_bad"):
        curate(config)
    (Path(config.input or "").parent / "nowhere").mkdir()
    for number in range(1, 9):
        (Path(config.input or "").parent / "nowhere" / f"{number}.png").write_bytes(png())
    config.max_bad, config.form = 0.2, "ledger"
    result = curate(config)
    assert result.accounts["unreadable"] == 1 and "nowhere/0.png" in result.ledger.reason[0]
    lines = [json.loads(line) for line in (result.path / "scores.jsonl").read_text().splitlines()]
    assert "nowhere/0.png" in lines[0]["unreadable"] and len(lines) == 9


def test_curate_model_rewards_that_are_not_finite_are_unreadable(
    shards: CurateConfig, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: RewardModel, batch: object) -> torch.Tensor:
        rewards = torch.arange(float(sum(batch.response_counts)))  # type: ignore[attr-defined]
        rewards[-1] = float("nan")
        return rewards

    monkeypatch.setattr(RewardModel, "forward", forward)
    shards.model, shards.scores, shards.device, shards.max_bad = str(model), None, "cpu", 0.5
    result = curate(shards)
    assert result.accounts["unreadable"] in (1, 3)  # the last sample of the batch
    assert "not a finite number" in result.report["unreadable"]["first"].popitem()[1]


def test_curate_model_scores_are_kept_where_the_round_stops(shards: CurateConfig, model: Path, tmp_path: Path) -> None:
    shards.model, shards.scores, shards.device, shards.max_flipped = str(model), None, "cpu", 0.0
    shards.distrust_share = 1.0
    try:
        curate(shards)
    except CurationError as error:
        assert f"give scores={tmp_path / 'out.scores.jsonl'}" in str(error)
        assert len(list(tmp_path.glob("out.scoring-*.jsonl"))) == 1  # for the same command under another cap
        shards.model, shards.scores, shards.max_flipped = None, str(tmp_path / "out.scores.jsonl"), 1.0
        shards.device = "auto"
        assert curate(shards).accounts["flipped"] > 0
        assert not list(tmp_path.glob("out.scoring-*.jsonl"))
    else:
        pytest.fail("some label contradicts a model that has learned nothing")


# -- published data


def math_v() -> Path:
    root = os.environ.get("MRM_SHARED_DATA")
    folder = (Path(root) if root else Path(__file__).parents[1].parent / "shared" / "data") / "math_v"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    return folder


def test_curate_math_v_accounts_balance_and_shards_hold_what_is_in_use(tmp_path: Path) -> None:
    prepared = prepare("math_v", math_v(), tmp_path / "pool", workers=1, show_progress=False)
    margins = np.random.default_rng(0).normal(0.5, 1, prepared.pairs)
    config = CurateConfig(
        str(tmp_path / "out"),
        shards=str(tmp_path / "pool"),
        scores=score_file(tmp_path / "s.jsonl", margins.tolist()),
        rule="correct_filter",
    )
    result = curate(config)
    accounts = dict(result.accounts)
    assert accounts.pop("pairs") == sum(accounts.values()) == prepared.pairs
    assert accounts["flipped"] == int((margins < 0).sum()) // 2 and accounts["kept"] == int((margins > 0).sum())
    index = Index.load(result.path / "shards")
    assert index.n_pairs == accounts["kept"] + accounts["flipped"] == result.report["written"]["pairs"]
    assert len(index) + result.report["written"]["without_pairs"] == prepared.written


def test_curate_model_killed_goes_on_with_what_it_has_scored(
    config: CurateConfig, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nowhere").mkdir()
    for number in range(9):
        (tmp_path / "nowhere" / f"{number}.png").write_bytes(png(f"rgb({number * 20},9,9)"))
    config.model, config.scores, config.device, config.batch_size = str(model), None, "cpu", 2
    plain, calls = RewardModel.forward, []

    def counted(self: RewardModel, batch: RewardBatch) -> torch.Tensor:
        calls.append(batch.keys)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(RewardModel, "forward", counted)
    with pytest.raises(KeyboardInterrupt):
        curate(config)
    (journal,) = tmp_path.glob("out.scoring-*.jsonl")
    assert not Path(config.output).exists()
    journal.write_bytes(journal.read_bytes()[:-9])  # the third batch's line is cut
    again = curate(config)
    assert len(calls) == 4 + 3 and calls[4] == calls[2]  # five batches, of which two were whole
    assert not journal.exists()
    config.output = str(tmp_path / "undisturbed")
    np.testing.assert_array_equal(again.ledger.chosen_score, curate(config).ledger.chosen_score)
