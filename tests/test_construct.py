"""The construction as a whole: alone or together, again, changed, killed, short of money, over HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datamodules.index import Index
from datamodules.prepare_result import read_result
from datamodules.reading import read_sample
from mrm.cli import compose_config
from mrm.construct import construct
from mrm.construct_config import ConstructConfig, ModelSpec, to_construct_config
from mrm.construct_input import GIVEN
from mrm.construction.records import FOLDER
from mrm.construction.style import FEATURES
from mrm.errors import ConfigError, MrmError, ResumableError
from tests.construction import constructing
from tests.construction.constructing import (
    SILENT,
    STAGE_NAMES,
    asked,
    done_at,
    files,
    lines,
    own_config,
    own_input,
    small_config,
)
from tests.construction.fault_server import LASTING, FaultServer, Plan, fault_plan
from tests.datamodules.sources.helpers import png


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A construction in one go; to be read only."""
    work = tmp_path_factory.mktemp("whole") / "work"
    construct(small_config(work))
    return work


def fingerprint(work: Path) -> str:
    return Index.load(work / "shards").fingerprint


def account(work: Path, name: str) -> dict[str, Any]:
    return json.loads((work / f"{name}.account.json").read_text())


def test_stages_one_by_one_give_the_files_of_all_together(tmp_path: Path, whole: Path) -> None:
    for name in STAGE_NAMES:
        construct(small_config(tmp_path, f"stages=[{name}]"))
    assert files(tmp_path) == files(whole)
    assert fingerprint(tmp_path) == fingerprint(whole)


def test_stage_that_was_not_done_is_asked_for(tmp_path: Path) -> None:
    construct(small_config(tmp_path, "stages=[prompts]"))
    with pytest.raises(ConfigError, match="'respond' was not done yet"):
        construct(small_config(tmp_path, "stages=[listwise]"))


def test_accounts_balance_in_every_stage(whole: Path) -> None:
    for name in STAGE_NAMES:
        told = account(whole, name)
        assert told["read"] == told["written"] + sum(told["left"].values()) > 0, name
        left = Counter(line["reason"] for line in lines(whole, f"{name}.skipped"))
        assert left == told["left"], name
    assert account(whole, "style")["written"] == sum(line["pairs"] for line in lines(whole, "write"))


def test_embedded_pairs_are_right_graded_and_free_of_style(tmp_path: Path) -> None:
    config = compose_config(
        [f"output={tmp_path}", "shapeworld.count=1000", "show_progress=false"],
        root="construct",
        convert=to_construct_config,
    )
    construct(config)
    told = json.loads((tmp_path / "report.json").read_text())
    truth, style = told["truth"], told["style"]
    assert truth["one listwise call"]["wrong_share"] > 0.05  # what there is to mend
    assert truth["balanced"]["wrong_share"] <= 0.01 and truth["balanced"]["spearman"] >= 0.8
    assert style["agreed"]["probe"]["accuracy"] > 0.80
    assert style["balanced"]["probe"]["accuracy"] <= 0.55 and style["balanced"]["probe"]["pairs"] > 400
    biased = [row["first_wins"] > row["expected"] + 0.02 for row in told["judges"] if row["mode"] == "listwise"]
    assert biased == [True, True]  # the judges' position bias is found


def test_shards_tell_what_became_of_the_records(whole: Path) -> None:
    told = read_result(whole / "shards")
    assert told.read == told.written + sum(told.skipped.values()) > 0
    assert 0 < told.written <= told.pairs


def test_second_run_asks_nothing_and_changes_nothing(tmp_path: Path) -> None:
    construct(small_config(tmp_path))
    before = files(tmp_path), done_at(tmp_path), asked(tmp_path), fingerprint(tmp_path)
    construct(small_config(tmp_path))
    assert before == (files(tmp_path), done_at(tmp_path), asked(tmp_path), fingerprint(tmp_path))


@pytest.mark.parametrize(
    ("word", "first", "is_asked_anew"),
    [
        ("agreement.least_difference=4", "agree", False),
        ("shard_samples=3", "write", False),
        ("judges.judge_b.use=false", "listwise", False),
        ("+rubrics={en: RUBRIC}", "listwise", True),
        ("responders.weak.samples=1", "respond", True),
    ],
)
def test_changed_setting_redoes_what_depends_on_it_and_reuses_calls(
    tmp_path: Path, word: str, first: str, is_asked_anew: bool
) -> None:
    work = tmp_path / "work"
    construct(small_config(work, count=8))
    times, calls = done_at(work), asked(work)
    rubric = (Path("mrm/assets/rubrics/en.yaml")).read_text().replace("You are an impartial", "You are a fair")
    (tmp_path / "rubric.yaml").write_text(rubric)
    construct(small_config(work, word.replace("RUBRIC", str(tmp_path / "rubric.yaml")), count=8))
    redone = [name for name in STAGE_NAMES if done_at(work)[name] != times[name]]
    assert redone[0] == first and redone[-1] == "write"
    assert (asked(work) != calls) == is_asked_anew
    assert asked(work)["strong", "respond"] == calls["strong", "respond"]


def test_stage_of_other_settings_is_not_mixed_with_later_ones(tmp_path: Path) -> None:
    construct(small_config(tmp_path, count=6))
    with pytest.raises(ConfigError, match="'listwise' was done with other settings or inputs"):
        construct(small_config(tmp_path, "listwise_repeats=2", "stages=[agree]", count=6))
    result = construct(small_config(tmp_path, "listwise_repeats=2", "stages=[prompts]", count=6))
    assert list(result.accounts) == ["prompts", "respond"]  # what fits the settings


def test_removed_output_is_made_again(tmp_path: Path) -> None:
    construct(small_config(tmp_path, count=6))
    before, mark = files(tmp_path), fingerprint(tmp_path)
    (tmp_path / "listwise.jsonl").unlink()
    for path in (tmp_path / "shards").iterdir():
        path.unlink()
    (tmp_path / "shards").rmdir()
    construct(small_config(tmp_path, count=6))
    assert (files(tmp_path), fingerprint(tmp_path)) == (before, mark)


def test_budget_stops_the_run_and_more_of_it_goes_on_without_repeats(tmp_path: Path) -> None:
    given = own_input(tmp_path, *[[f"good {n}", f"bad {n}", f"good good {n}"] for n in range(20)])
    config = own_config(tmp_path / "work", given)
    whole_work = tmp_path / "whole"
    construct(dataclasses.replace(config, output=str(whole_work)))

    with pytest.raises(ResumableError, match=r"(?s)pointwise: not done.*budget.*goes on from here"):
        # the callable counts no tokens, so that expected ones end the budget in `pointwise`
        stop_in("pointwise", config)
    assert asked(tmp_path / "work")["caller", "listwise"] == 20
    construct(config)
    assert files(tmp_path / "work") == files(whole_work)
    assert asked(tmp_path / "work") == asked(whole_work)


def stop_in(stage: str, config: ConstructConfig) -> None:
    before = {"pointwise": ["prompts", "respond", "listwise"]}[stage]
    construct(dataclasses.replace(config, stages=before))
    running = dataclasses.replace(config.running, budget_tokens=10)
    construct(dataclasses.replace(config, running=running))


def test_failed_calls_are_listed_and_asked_again_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, given = tmp_path / "work", own_input(tmp_path, ["good", "bad"], ["good good", "bad bad"])
    config = own_config(work, given)
    SILENT.add("q1")
    try:
        construct(config)
        told = account(work, "listwise")["extra"]["calls"][0]
        assert told["failed"] == {"raised ValueError": 1} and told["answered"] == 1
        assert told["named"] == {"raised ValueError": ["q1 (listwise, caller, repeat 0)"]}
        assert not account(work, "listwise")["complete"]
        assert "1 raised ValueError" in capsys.readouterr().out
        assert lines(work, "listwise")[1]["scorings"][0]["overalls"] == [None, None]
        assert [line["key"] for line in lines(work, "write")] == ["q0"]
    finally:
        SILENT.clear()
    before = files(work), done_at(work)
    construct(dataclasses.replace(config, running=dataclasses.replace(config.running, retry_failed=False)))
    assert before == (files(work), done_at(work))
    construct(config)
    assert account(work, "listwise")["complete"]
    assert [line["key"] for line in lines(work, "write")] == [
        "q0",
        "q1",
    ]  # what was asked again comes through to the end


def test_retry_that_fails_again_leaves_what_comes_after_alone(tmp_path: Path) -> None:
    work, given = tmp_path / "work", own_input(tmp_path, ["good", "bad"], ["good good", "bad bad"])
    SILENT.add("q1")
    try:
        construct(own_config(work, given))
        times = done_at(work)
        construct(own_config(work, given))
    finally:
        SILENT.clear()
    assert [name for name in STAGE_NAMES if done_at(work)[name] != times[name]] == ["listwise", "pointwise"]


def test_vanished_image_leaves_its_record_out_by_name(tmp_path: Path) -> None:
    construct(small_config(tmp_path, "stages=[prompts,respond]", count=6))
    image = lines(tmp_path, "respond")[2]["images"][0]["path"]
    assert image.startswith(FOLDER)
    (tmp_path / image).unlink()
    result = construct(small_config(tmp_path, count=6))
    for name in ("listwise", "pointwise"):
        assert account(tmp_path, name)["left"] == {"image missing": 1}
        assert account(tmp_path, name)["named"] == {"image missing": ["constructed-0-000002"]}
    assert "constructed-0-000002" in [line["key"] for line in lines(tmp_path, "write.skipped")]
    assert result.accounts["write"].written > 0


def test_responses_that_the_input_brings_need_no_responder(tmp_path: Path) -> None:
    given = own_input(tmp_path, ["good", "bad", "good good"], ["one"], reference="A good one.")
    construct(own_config(tmp_path / "work", given))
    assert account(tmp_path / "work", "respond")["left"] == {"too few responses": 1}
    sample = read_sample(Index.load(tmp_path / "work" / "shards"), 0)
    pairs = {(sample.responses[pair.chosen], sample.responses[pair.rejected]): pair.strength for pair in sample.pairs}
    assert pairs == {("good", "bad"): 0.1, ("good good", "good"): 0.1, ("good good", "bad"): 0.2}
    assert sample.meta["construction"]["models"] == [GIVEN] * 3
    assert sample.meta["construction"]["reference"] == "A good one."


def test_shards_as_input_are_judged_anew(tmp_path: Path, whole: Path) -> None:
    config = own_config(tmp_path / "work", whole / "shards")
    construct(dataclasses.replace(config, stages=["prompts", "respond"]))
    index = Index.load(whole / "shards")
    records = {line["key"]: line for line in lines(tmp_path / "work", "respond")}
    assert len(records) == len(index)
    sample = read_sample(index, 0)
    assert [each["text"] for each in records[sample.key]["responses"]] == list(sample.responses)


def test_question_in_chinese_gets_the_chinese_rubric(tmp_path: Path) -> None:
    constructing.SYSTEMS.clear()
    given = own_input(tmp_path, ["good", "bad"], question="哪一个?")
    construct(own_config(tmp_path / "zh", given, target="systems_seen"))
    assert constructing.SYSTEMS and all("评" in system for system in constructing.SYSTEMS)
    constructing.SYSTEMS.clear()
    construct(own_config(tmp_path / "en", given, "language=en", target="systems_seen"))
    assert constructing.SYSTEMS and not any("评" in system for system in constructing.SYSTEMS)


def test_samples_carry_models_style_and_truth_and_only_responses_of_pairs(whole: Path) -> None:
    index = Index.load(whole / "shards")
    assert len(index)
    for row in range(len(index)):
        sample = read_sample(index, row)
        used = {number for pair in sample.pairs for number in (pair.chosen, pair.rejected)}
        assert used == set(range(len(sample.responses)))
        assert all(pair.strength is not None and 0 <= pair.strength <= 1 for pair in sample.pairs)
        told, truth = sample.meta["construction"], sample.meta["truth"]
        assert set(told["models"]) <= {"strong", "weak"} and len(told["models"]) == len(used)
        assert [list(style) for style in told["style"]] == [list(FEATURES)] * len(used)
        for pair, flipped in zip(sample.pairs, truth["flipped"], strict=True):
            assert flipped == (truth["errors"][pair.chosen] >= truth["errors"][pair.rejected])


def test_second_process_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    script = "import sys\nfrom mrm.construction.calling.answer_log import AnswerLog\nwith AnswerLog(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path / "answers")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"in use by process {other.pid}; wait for it"):
            construct(small_config(tmp_path))
        other.communicate()
    construct(small_config(tmp_path, "stages=[prompts]"))


def test_construct_works_where_an_event_loop_runs(tmp_path: Path) -> None:
    async def notebook() -> None:
        construct(small_config(tmp_path, count=4))

    asyncio.run(notebook())
    assert fingerprint(tmp_path)


@pytest.mark.parametrize("answers", [90, 420])
def test_construction_killed_and_done_again_ends_with_the_same_files(tmp_path: Path, answers: int) -> None:
    words = ["shapeworld.count=40", "style.mode=none", "show_progress=false", "construction=shapeworld"]
    killed, log = tmp_path / "killed", tmp_path / "killed" / "answers" / "answers.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "mrm.construct", f"output={killed}", *words], stdout=subprocess.DEVNULL
    )
    while not log.exists() or log.read_bytes().count(b"\n") < answers:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (killed / "shards").exists()
    known = asked(killed)
    construct(small_config(killed, count=40))
    construct(small_config(tmp_path / "whole", count=40))
    assert files(killed) == files(tmp_path / "whole")
    assert fingerprint(killed) == fingerprint(tmp_path / "whole")
    assert asked(killed) == asked(tmp_path / "whole") and known.total() >= answers
    assert not [path.name for path in killed.iterdir() if "partial" in path.name or "plan" in path.name]


def test_no_pair_at_all_is_told_with_accounts_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_config(tmp_path / "work", own_input(tmp_path, ["good", "good."]))
    for _ in range(2):  # the second time too
        with pytest.raises(MrmError, match=r"no pair is left, .*agree: 1 tie; .*report\.html"):
            construct(config)
        assert "1 tie" in capsys.readouterr().out
    told = json.loads((tmp_path / "work" / "report.json").read_text())
    assert told["reasons"] == {"kept": 0, "tie": 1} and told["accounts"][-1]["lost"] == {"no pair left": 1}
    assert "tie" in (tmp_path / "work" / "report.html").read_text()
    assert sorted(path.name for path in (tmp_path / "work").glob("*shards*")) == []


def test_no_response_at_all_is_told_with_a_report(tmp_path: Path) -> None:
    given = tmp_path / "own.jsonl"
    given.write_text('{"prompt": "Q", "responses": ["good"]}\n')
    with pytest.raises(MrmError, match="respond: 1 too few responses"):
        construct(own_config(tmp_path / "work", given))
    assert json.loads((tmp_path / "work" / "report.json").read_text())["strengths"]["counts"] == [0] * 20


def test_responses_that_differ_most_in_meaning_are_kept(tmp_path: Path) -> None:
    # In words the first two differ most, with one in seven in common; in meaning the last differs from all others.
    given = own_input(tmp_path, ["good good a b c", "good d e f", "good a d", "bad a d"])
    embedder = "tests.construction.constructing:embed"
    kept = {}
    for name, changes in (("words", {}), ("meaning", {"embedder": embedder})):
        construct(own_config(tmp_path / "work", given, keep_responses=2, **changes))  # in one folder: it is a setting
        kept[name] = {response["text"] for response in lines(tmp_path / "work", "respond")[0]["responses"]}
    assert "bad a d" not in kept["words"] and "bad a d" in kept["meaning"]


@pytest.mark.parametrize(
    "embedder, told",
    [
        ("nowhere", "package.module:function"),
        ("tests.construction.constructing:nothing", "importable"),
        ("tests.construction.constructing:embed_wrongly", r"shape \(2,\) for 2 texts"),
        ("json:dumps_all", "importable"),
        ("math:sqrt", "TypeError"),
    ],
)
def test_embedder_that_cannot_be_used_is_told(embedder: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"(?s)embedder.*{told}"):
        construct(own_config(tmp_path / "work", own_input(tmp_path, ["good", "bad"]), embedder=embedder))


def test_stages_need_only_the_keys_of_those_they_ask(tmp_path: Path) -> None:
    given = own_input(tmp_path, ["good", "bad"])
    absent = {"judges": {"caller": {"model": "m", "base_url": "http://127.0.0.1:9/v1", "key_env": "NOT_SET_HERE"}}}
    config = dataclasses.replace(own_config(tmp_path / "work", given), **to_models(absent))
    assert construct(dataclasses.replace(config, stages=["prompts", "respond"])).accounts["respond"].written == 1
    with pytest.raises(ConfigError, match="NOT_SET_HERE"):
        construct(config)


def to_models(told: dict[str, Any]) -> dict[str, Any]:
    return {role: {name: ModelSpec(**spec) for name, spec in models.items()} for role, models in told.items()}


def test_report_that_a_kill_kept_from_being_written_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = own_input(tmp_path, ["good good good", "good", "bad"])
    work, changed = tmp_path / "work", {"agreement": {"least_difference": 2}}
    construct(own_config(work, given))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mrm.construct.summarise", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        construct(own_config(work, given, **changed))
    before = (work / "report.json").read_text()
    assert json.loads(before)["reasons"]["kept"] == 3
    for _ in range(2):
        assert construct(own_config(work, given, **changed)).accounts["agree"].written == 2
        assert json.loads((work / "report.json").read_text())["reasons"]["kept"] == 2
        assert read_result(work / "shards").pairs == 2 and not (work / ".report.due").exists()


def test_pairs_that_are_gone_take_their_shards_along(tmp_path: Path) -> None:
    given = own_input(tmp_path, ["good good", "good"])
    assert construct(own_config(tmp_path / "work", given)).shards.is_dir()
    with pytest.raises(MrmError, match="agree: 1 below the least difference"):
        construct(own_config(tmp_path / "work", given, agreement={"least_difference": 9}))
    assert not (tmp_path / "work" / "shards").exists()
    assert construct(own_config(tmp_path / "work", given)).shards.is_dir()


KEY = "sk-test-0f3a77d2"


def over_http(url: str, work: Path, **changes: Any) -> ConstructConfig:
    def model(number: int, api: str) -> dict[str, Any]:
        told = {"model": "judge", "base_url": url, "api": api, "key_env": "CONSTRUCT_TEST_KEY", "timeout_s": 1.0}
        return {**told, "temperature": number / 10, "max_image_pixels": 10_000}

    apis = ("chat", "responses")
    models = {
        "responders": {f"r{number}": model(number, apis[number % 2]) for number in range(3)},
        "judges": {f"j{number}": model(3 + number, apis[number % 2]) for number in range(2)},
    }
    return small_config(work, "construction=own", "input=shapeworld", changes={**models, **changes}, count=10)


def passing(plan: Plan) -> Plan:
    """Faults that end when a call is asked again."""

    def kind(record: str, attempt: int) -> str:
        told = plan(record, attempt)
        lasting = told in LASTING
        return ("500" if attempt == 1 else "good") if lasting else told

    return kind


@pytest.mark.parametrize("json_schema", [True, False])
def test_construction_over_http_through_faults_is_that_without(
    tmp_path: Path, json_schema: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("CONSTRUCT_TEST_KEY", KEY)
    for name, faults in (("good", 0.0), ("bad", 0.3)):
        plan = passing(fault_plan(faults, 3))
        with FaultServer(plan, key=KEY, json_schema=json_schema, slow_s=1.2) as server:
            construct(over_http(server.url, tmp_path / name))
        assert (server.kinds.keys() == {"good"}) == (faults == 0)
    good, bad = (
        re.sub(rb'"flags": \[.*?\]', b"", b"".join(files(tmp_path / name).values())) for name in ("good", "bad")
    )
    assert good == bad  # but for flags of answers that were mended
    assert fingerprint(tmp_path / "good") == fingerprint(tmp_path / "bad")
    assert account(tmp_path / "bad", "listwise")["extra"]["calls"][0]["retried"]
    assert KEY not in caplog.text
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holding == []


def test_wrong_key_ends_the_run_and_is_quoted_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSTRUCT_TEST_KEY", KEY)
    with FaultServer(key="another") as server, pytest.raises(ConfigError, match="CONSTRUCT_TEST_KEY") as caught:
        construct(over_http(server.url, tmp_path))
    assert KEY not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


def test_image_that_was_missing_is_found_when_it_is_back(tmp_path: Path) -> None:
    given = own_input(tmp_path, ["good", "bad"], ["good", "good good"])
    lines = [json.loads(line) for line in given.read_text().splitlines()]
    lines[1] |= {"prompt": "<image>Q", "images": ["late.png"]}
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = own_config(tmp_path / "work", given, max_unreadable=1)
    assert construct(config).accounts["prompts"].left == {"image missing": 1}
    (tmp_path / "late.png").write_bytes(png())
    assert construct(config).accounts["prompts"].left == {}


def test_rule_that_looks_at_one_way_of_scoring_asks_for_that_alone(tmp_path: Path) -> None:
    given = own_input(tmp_path, ["good", "bad"])
    accounts = construct(own_config(tmp_path / "work", given, agreement={"modes": "pointwise"})).accounts
    assert "listwise" not in accounts and accounts["write"].written == 1
