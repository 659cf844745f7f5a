"""What cannot be constructed is said at once, with its place and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mrm.cli import compose_config
from mrm.construct import construct
from mrm.construct_config import ConstructConfig, ModelSpec, check_construct, to_construct_config
from mrm.construct_models import build_model
from mrm.construction.calling.budget import Price
from mrm.construction.calling.servers import OpenAIServer
from mrm.errors import ConfigError
from tests.construction.constructing import small_config


def compose(*words: str, changes: dict[str, Any] | None = None) -> ConstructConfig:
    return compose_config(words, root="construct", convert=lambda cfg: to_construct_config(cfg, changes))


def checked(**changes: Any) -> None:
    check_construct(compose("construction=shapeworld", "output=-", changes=changes))


def test_shipped_constructions_compose_and_pass() -> None:
    checked()
    check_construct(compose("construction=servers", "input=x", "output=-"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ["respont"]}, r"stages: 'respont' must be one of.*Did you mean 'respond'"),
        ({"style": {"mode": "sub"}}, r"style\.mode='sub': must be one of"),
        ({"style": {"target": 0.5}}, r"style\.target=0\.5: must be above 0\.5"),
        ({"agreement": {"least_difference": 11}}, r"agreement\.least_difference=11\.0: must be in \[0, 10\]"),
        ({"running": {"concurrency": 0}}, r"running\.concurrency=0"),
        ({"running": {"backoff_s": -1}}, r"running\.backoff_s=-1"),
        ({"shard_samples": 0}, r"shard_samples=0"),
        ({"listwise_repeats": 3}, r"listwise_repeats=3"),
        ({"rubrics": {"fr": "fr.yaml"}}, r"rubrics='fr': must be one of en, zh"),
        ({"judges": {"strong": {"kind": "shapeworld"}}}, r"judges\.strong: a responder has this name too.*rename one"),
        ({"judges": {"rewriter": {"kind": "shapeworld"}}, "rewriter": {"kind": "shapeworld"}}, r"judges\.rewriter.*rename"),
        ({"judges": {"gpt": {}}}, r"judges\.gpt\.model: is missing"),
        ({"judges": {"gpt": {"model": "m", "api": "completions"}}}, r"judges\.gpt\.api='completions'"),
        ({"judges": {"gpt": {"model": "m", "key_env": "sk-1"}}}, r"judges\.gpt\.key_env: must be the name of an environment"),
        ({"running": {"longest_wait_s": -1}}, r"running\.longest_wait_s=-1"),
        ({"judges": {"gpt": {"model": "m", "price_output": 1}}}, r"judges\.gpt\.price_input: is missing"),
        ({"judges": {"own": {"kind": "callable", "target": "module"}}}, r"judges\.own\.target='module'.*package\.module:function"),
        ({"judges": {"judge_a": {"temperature": 1.0}}}, r"judges\.judge_a: temperature mean nothing to kind=shapeworld"),
        ({"judges": {"judge_a": {"use": False}, "judge_b": {"use": False}}}, r"judges: there is none"),
    ],
)  # fmt: skip
def test_check_construct_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(**changes)


def test_check_construct_tells_every_problem_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)^3 problems.*stages.*shard_samples.*judges\.gpt"):
        checked(stages=["x"], shard_samples=0, judges={"gpt": {}})


@pytest.mark.parametrize("word", ["judges.judge_a.modle=x", "+judgess=1", "agreement.mode=both"])
def test_unknown_key_is_named(word: str) -> None:
    with pytest.raises(ConfigError, match=word.split("=")[0].lstrip("+").rpartition(".")[2]):
        compose("construction=shapeworld", "output=-", word)


def test_input_that_is_not_said_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"input=\.\.\."):
        compose("construction=own", "output=-")


def test_name_twice_in_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "construction").mkdir()
    twice = "# @package _global_\ninput: shapeworld\njudges:\n  a: {kind: shapeworld}\n  a: {kind: shapeworld}\n"
    (tmp_path / "construction" / "twice.yaml").write_text(twice)
    words = ["--config-dir", str(tmp_path), "construction=twice", f"output={tmp_path / 'work'}"]
    done = subprocess.run([sys.executable, "-m", "mrm.construct", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "duplicate key" in done.stderr and "twice.yaml" in done.stderr


def test_two_judges_that_are_one_model_are_refused(tmp_path: Path) -> None:
    spec = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "key_env": None}
    config = small_config(tmp_path, changes={"judges": {"a": spec, "b": spec}})
    with pytest.raises(ConfigError, match=r"judges: 'a' and 'b' are one model"):
        construct(config)


def test_rewriter_that_is_switched_off_is_not_used(tmp_path: Path) -> None:
    config = small_config(tmp_path, "stages=[prompts]", count=2)
    config.rewriter = ModelSpec(use=False)  # without a model: would be a problem if it were used
    construct(config)


def test_unknown_option_of_an_embedded_model_is_named(tmp_path: Path) -> None:
    changes = {"judges": {"judge_a": {"options": {"acuracy": 1.0}}}}
    with pytest.raises(ConfigError, match=r"judge 'judge_a', options: .*acuracy"):
        construct(small_config(tmp_path, changes=changes))


def test_target_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    changes = {"judges": {"own": {"kind": "callable", "target": "tests.nowhere:judge"}}}
    with pytest.raises(ConfigError, match=r"model 'own', target='tests.nowhere:judge'"):
        construct(small_config(tmp_path, changes=changes))


def test_key_in_place_of_its_variable_is_neither_shown_nor_saved(tmp_path: Path) -> None:
    config = small_config(tmp_path, changes={"judges": {"gpt": {"model": "m", "key_env": "sk-secret-123"}}})
    with pytest.raises(ConfigError) as caught:
        construct(config)
    saved = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "sk-secret" not in str(caught.value) and not any(b"sk-secret" in data for data in saved)


@pytest.mark.parametrize(("base_url", "key_env"), [(None, "OPENAI_API_KEY"), ("http://127.0.0.1:1/v1", None)])
def test_key_of_openai_goes_to_openai_alone(base_url: str | None, key_env: str | None) -> None:
    model = build_model("judge", "j", ModelSpec(model="m", base_url=base_url), 0)
    assert isinstance(model, OpenAIServer) and model.key_env == key_env


def test_callable_is_free_unless_it_has_a_price() -> None:
    spec = ModelSpec(kind="callable", target="builtins:str")
    assert build_model("judge", "j", spec, 0).price == Price(0, 0)  # type: ignore[attr-defined]
    spec.price_input = 2.0
    assert build_model("judge", "j", spec, 0).price == Price(2, 0)  # type: ignore[attr-defined]
    checked(judges={"own": {"kind": "callable", "target": "builtins:str", "price_input": 1, "price_output": 2}})
