"""The schema, the ways into it, and the checks over the whole configuration."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mrm.cli import compose_run_config
from mrm.config import RunConfig, experiments_dir, flatten, to_run_config, to_yaml
from mrm.config_checks import check_config
from mrm.errors import ConfigError


def problems(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_config(compose_run_config(overrides))
    return str(caught.value)


def test_default_configuration_composes_and_passes_checks() -> None:
    config = compose_run_config([])
    check_config(config)
    assert config.experiment == "default"
    assert config.data.datasets["open"].role == "open"
    assert config.curation.schedule[1].steps == ["score", "filter", "annotate"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sed=1", r"sed: there is no such key; known: .*Did you mean 'seed'"),
        ("experment=dt2it_full", r"experment: there is no such key.*Did you mean 'experiment'"),
        (
            "experiment=dt2it_ful",
            r"experiment=dt2it_ful: there is no such choice; known: .*smoke_real.*Did you mean 'dt2it_full'",
        ),
        ("model=tny", r"model=tny: there is no such choice; known: .*Did you mean 'tiny'"),
        ("model.hed=mlp", r"model\.hed: there is no such key in model; known: .*Did you mean 'head'"),
        ("model.lora.rnk=2", r"model\.lora\.rnk: there is no such key in model\.lora.*Did you mean 'rank'"),
        ("data.datasets.opn.weight=2", r"data\.datasets\.opn: .*Did you mean 'open'"),
        ("data.datasets.open.wight=2", r"data\.datasets\.open\.wight: .*Did you mean 'weight'"),
        ("curation.schedule.0.aftr_epoch=1", r"aftr_epoch: there is no such key.*Did you mean 'after_epoch'"),
        ("curation.annotators.judge_a.optons={}", r"optons: there is no such key.*Did you mean 'options'"),
        ("curation.annotation.mod=async", r"mod: there is no such key.*Did you mean 'mode'"),
        ("+foo=1", r"foo: there is no such key"),
        ("seed=one", r"seed: Value 'one' of type 'str' could not be converted to Integer"),
        ("trainer.max_epochs=1.5", r"trainer\.max_epochs: Value '1\.5'.*Integer"),
        ("optim.lr=fast", r"optim\.lr: Value 'fast'.*Float"),
        ("+data.datasets.mine={source: jsonl, role: open}", r"cannot be added on the command line"),
        ("data.row_tokens.x=1", r"data\.row_tokens: Value"),
    ],
)
def test_compose_wrong_override_names_key_and_choices(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        compose_run_config([override])


def test_compose_misspelt_key_inside_an_experiment_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(experiments_dir(), tmp_path / "experiments")
    (root / "experiment" / "mine.yaml").write_text("# @package _global_\ntrainer:\n  max_epoch: 3\n")
    monkeypatch.setattr("mrm.cli.experiments_dir", lambda: root)
    with pytest.raises(
        ConfigError, match="max_epoch: there is no such key.*Did you mean 'max_epochs'.*from experiment/mine"
    ):
        compose_run_config(["experiment=mine"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "data:\n  datasets:\n    trustd: {use: false}\n",
            "trustd misspelt.* known here: trusted, .*Did you mean 'trusted'",
        ),
        (
            "defaults:\n  - override /curaton: none\n",
            "curaton: there is no such group; .*loss.*Did you mean 'curation'",
        ),
        ("curation:\n  schedule: [{aftr_epoch: 0}]\n", r"curation\.schedule\[\*\]\.aftr_epoch: there is no such key"),
        ("curation:\n  annotators: {a: {samples: x}}\n", r"curation\.annotators\.a\.samples: Value 'x'"),
    ],
)
def test_compose_misspelling_inside_an_experiment_file_is_told_with_place_and_choices(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(experiments_dir(), tmp_path / "experiments")
    (root / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    monkeypatch.setattr("mrm.cli.experiments_dir", lambda: root)
    with pytest.raises(ConfigError, match=expected):
        compose_run_config(["experiment=mine"])


def test_compose_dataset_without_role_is_named_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shutil.copytree(experiments_dir(), tmp_path / "experiments")
    (root / "data" / "mine.yaml").write_text("datasets:\n  a: {source: jsonl}\n")
    monkeypatch.setattr("mrm.cli.experiments_dir", lambda: root)
    with pytest.raises(ConfigError, match=r"data\.datasets\.a\.role=\.\.\."):
        compose_run_config(["data=mine"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.datasets.trusted.use=false", "data.datasets.t2i.use=false"], "none has role=trusted"),
        (["data.datasets.open.use=false"], "no open pool"),
        (["loss.margin=shft"], "loss.margin='shft': must be one of none, shift, scale. Did you mean 'shift'?"),
        (["loss.margin=none"], "loss.margin_scale=1.0: has no effect"),
        (["loss=bradley_terry", "loss.margin=shift"], "needs a number"),
        (["loss.label_smoothing=0.5"], "loss.label_smoothing=0.5: must be in [0, 0.5)"),
        (["trainer.max_epochs=2"], "trainer.max_epochs=2: too few"),
        (["curation.enabled=false"], "curation.schedule: has no effect"),
        (["curation=none", "curation.open_pool=held"], "would never be trained on"),
        (["curation=flip_only", "+curation.annotators={a: {kind: shapeworld}}"], "no round of the schedule annotates"),
        (["curation=flip_only", "curation.annotation.tries=2"], "curation.annotation: has no effect"),
        (["curation.annotation.mode=later"], "curation.annotation.mode='later': must be one of sync, async"),
        (["curation.annotation.language=fr"], "curation.annotation.language='fr'"),
        (["curation.annotation.tries=0"], "curation.annotation.tries=0: must be in [1, inf]"),
        (["curation.annotators.judge_a.samples=2"], "judge_a.samples=2: means nothing to a judge"),
        (["curation.annotators.judge_a.kind=openai"], "judge_a.model: is missing"),
        (
            ["curation.annotators.judge_a={kind: openai, model: m, options: {}}", "curation.annotation.budget_money=1"],
            "there is none for judge_a; give price_input",
        ),
        (["curation.schedule.0.down_weight=0.3"], "down_weight=0.3: has an effect only with correct_mode=weight"),
        (["curation.schedule.1.admit_weight=0.3"], "has an effect only with `correct`"),
        (["curation.schedule.0.correct_mode=weight"], "is needed with correct_mode=weight"),
        (["+curation.schedule.1.distrust_share=0.3"], "distrust_share=0.3: has an effect only with `correct`"),
        (["curation.schedule.0.distrust_share=half"], "distrust_share='half': must be auto or a number"),
        (["+curation.schedule.0.dead_zone=0.3"], "dead_zone=0.3: has an effect only with `filter`"),
        (["+curation.schedule.0.missing=drop"], "missing=drop: has an effect only with `annotate`"),
        (
            ["curation.schedule.0.correct_mode=drop", "+curation.schedule.0.max_flipped=0.3"],
            "max_flipped=0.3: has an effect only with correct_mode=flip",
        ),
        (
            ["+curation.schedule.0.sources={a: {correct_mode: weight}}"],
            "schedule[0].sources.a.down_weight: is needed with correct_mode=weight",
        ),
        (
            ["+curation.schedule.0.sources={a: {down_weight: 0.5}}"],
            "sources.a.down_weight: has an effect only with correct_mode=weight",
        ),
        (["+curation.schedule.0.sources={a: {dead_zone: null}}"], "sources.a: dead_zone without a value"),
        (["data.datasets.open.source=jsnl"], "shapeworld, shards, construct. Did you mean 'jsonl'?"),
        (["data.datasets.open.source=jsonl"], "data.datasets.open.path: jsonl needs the file"),
        (["data.datasets.open.source=jsonl", "data.datasets.open.path=nix"], "there is no data/nix; set data_root="),
        (["data.datasets.open.path=x"], "shapeworld makes its data"),
        (["data.datasets.open.source=shards", "data.datasets.open.path=ssh://host/set"], "ssh://host/set: is refused"),
        (["data.cache_gb=0"], "data.cache_gb=0"),
        (["data.datasets.test_t2i.weight=2"], "has no effect on a test set"),
        (["+data.datasets.test_t2i.source_weights.x=2"], "source_weights: have no effect on a test set"),
        (["+data.datasets.open.source_weights.x=-1"], "data.datasets.open.source_weights.x=-1.0: must be at least 0"),
        (["data.batch_tokens=100"], "data.batch_tokens=100: needs samples sorted by length"),
        (["data.order=esy_first"], "data.order='esy_first': must be one of shuffled, easy_first. Did you mean"),
        (["data.datasets.open.weight=nan"], "data.datasets.open.weight=nan: must be more than 0"),
        (["data.max_unreadable=2"], "must be in [0, 1]"),
        (["model.lora.rank=4"], "model.lora.enabled=true"),
        (["optim.betas=[0.9]"], "two numbers"),
        (["optim.warmup=1"], "optim.warmup=1.0: must be in [0, 1)"),
        (["trainer.accumulate=0"], "trainer.accumulate=0: must be at least 1"),
        (["seed=-1"], "seed=-1: must be in [0, "),
        (["seed=4294967296"], "seed=4294967296: must be in [0, "),
        (["trainer.precision=bf16-true"], "use trainer.precision=bf16-mixed with model.dtype=float32"),
        (["trainer.precision=bf16"], "must be one of 32-true, bf16-mixed, 16-mixed"),
        (
            ["trainer.strategy=fsdp"],
            "must be one of auto, ddp, ddp_find_unused_parameters_true, fsdp2, deepspeed. Did you mean 'fsdp2'?",
        ),
        (["trainer.strategy=deepspeed_stage_3"], "is not supported; deepspeed is ZeRO's stage 2, and fsdp2"),
        (["trainer.strategy=deepspeed", "trainer.precision=16-mixed"], "sharded gradients; use bf16-mixed"),
        (["trainer.strategy=fsdp2", "trainer.precision=16-mixed"], "does not know sharded gradients; use bf16-mixed"),
        (
            ["model.freeze_language=true", "model.lora.enabled=true"],
            "model.freeze_language: low-rank matrices adapt the language model; set one of the two to false",
        ),
        (
            ["model.lora.enabled=true", "model.freeze_projector=false"],
            "model.freeze_projector=false: has no effect with",
        ),
        (["model.lora.enabled=true", "model.lora.save=both"], "model.lora.save='both': must be one of merged, adapter"),
        (["trainer.strategy=dpp"], "Did you mean 'ddp'?"),
        (["trainer.accelerator=cup"], "Did you mean 'cpu'?"),
        (["logger.mlflow=foo"], "logger.mlflow='foo': must be the address of an MLflow store"),
        (["logger.mlflow=htp://x"], "http://host:5000 or sqlite:///folder/mlflow.db. Did you mean 'http'?"),
        (["loss.name=dpo"], "loss.name='dpo': must be one of bradley_terry"),
        (
            ["data.datasets.open.source=jsonl", "data.datasets.open.path=."],
            "data.datasets.open has source=jsonl; choose curation=no_judges",
        ),
    ],
)
def test_check_config_bad_combination_names_path_and_mend(overrides: list[str], expected: str) -> None:
    assert expected in problems(*overrides)


def test_check_config_judges_are_let_be_where_the_source_is_not_known_to_be_another(tmp_path: Path) -> None:
    shards = ["data.datasets.open.source=shards", f"data.datasets.open.path={tmp_path}"]
    config = compose_run_config(shards)
    config.data.datasets["open"].options = {}
    check_config(config)


@pytest.mark.parametrize(
    "address", ["http://host:5000", "https://host", "sqlite:///a.db", "mysql+pymysql://u:p@host/db", "databricks"]
)
def test_check_config_address_of_an_mlflow_store_passes(address: str) -> None:
    check_config(compose_run_config([f"logger.mlflow='{address}'"]))


def test_check_config_data_and_shards_may_lie_at_an_address_of_a_known_kind() -> None:
    source = "data.datasets.open.source"
    path = "data.datasets.open.path=s3://bucket/pairs.jsonl"
    check_config(compose_run_config([f"{source}=jsonl", path, "data.datasets.open.options={}", "curation=no_judges"]))
    config = compose_run_config([f"{source}=shards", "data.datasets.open.path=s3://bucket/set", "curation=no_judges"])
    config.data.datasets["open"].options = {}
    check_config(config)
    config.data.datasets["open"].path = "ftp://host/set"
    with pytest.raises(ConfigError, match=r"data\.datasets\.open\.path: ftp://host/set: is refused"):
        check_config(config)


def test_check_config_mlflow_address_is_let_be_where_it_is_not_used() -> None:
    check_config(compose_run_config(["logger=none", "logger.mlflow=foo"]))


def test_check_config_lists_all_problems_in_one_message() -> None:
    message = problems("loss.name=dpo", "model.head=deep", "trainer.accumulate=0", "optim.lr=-1")
    assert message.startswith("4 problems in the configuration:")
    assert re.findall(r"^  - ([\w.]+)", message, re.M) == ["model.head", "loss.name", "optim.lr", "trainer.accumulate"]


def test_check_config_part_that_raises_is_told_under_its_path() -> None:
    def bad() -> None:
        raise ConfigError("is wrong.")

    with pytest.raises(ConfigError, match="  - curation: is wrong."):
        check_config(compose_run_config([]), parts={"curation": bad})


def test_flatten_and_yaml_hold_every_key_once() -> None:
    config = compose_run_config(["seed=3"])
    flat = flatten(config)
    assert flat["seed"] == 3
    assert flat["data.datasets.open.options.flip_rate"] == 0.4
    again = to_run_config(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(to_yaml(config))))
    assert again == config
