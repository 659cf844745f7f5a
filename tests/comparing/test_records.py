"""What counts when configurations are compared."""

from __future__ import annotations

from mrm.cli import compose_run_config
from mrm.comparing.records import comparable, flattened, with_defaults
from mrm.config import flatten, to_yaml
from mrm.run_dirs import identity
from mrm.tracking import VALUE_LIMIT


def test_comparable_leaves_out_seed_places_and_how_it_is_told() -> None:
    flat = {
        **{
            "seed": 1,
            "output_root": "a",
            "prepared_root": "b",
            "logger.mlflow": None,
            "report.gallery": 3,
            "sweep.jobs": 2,
        },
        **{"curation.annotators.a.base_url": "u", "curation.annotators.a.temperature": 0.5, "optim.lr": 1e-5},
    }
    assert comparable(flat) == {"curation.annotators.a.temperature": "0.5", "optim.lr": "1e-05"}


def test_comparable_settings_of_what_is_not_used_do_not_count() -> None:
    flat = {
        "data.datasets.open.use": False,
        "data.datasets.open.options.flip_rate": 0.4,
        "data.datasets.open_2.path": "p",
    }
    assert comparable(flat) == {"data.datasets.open.use": "False", "data.datasets.open_2.path": "p"}
    assert comparable({**flat, "data.datasets.open.use": True}) == {
        key: str(value or True) for key, value in flat.items()
    }


def test_comparable_spreads_lists_of_mappings_so_that_one_setting_can_be_named() -> None:
    schedule = [
        {"after_epoch": 0, "steps": ["score", "correct"]},
        {"after_epoch": 1, "sources": {"a": {"dead_zone": 3.0}}},
    ]
    expected = {
        "s.0.after_epoch": "0", "s.0.steps": "['score', 'correct']", "s.1.after_epoch": "1", "s.1.sources.a.dead_zone": "3.0",
    }  # fmt: skip
    assert comparable({"s": schedule}) == expected
    assert comparable({"s": str(schedule)}) == expected  # as MLflow has it
    cut = str(schedule)[:40] + "..."
    assert comparable({"s": cut}) == {"s": cut}


def test_comparable_is_the_same_from_folder_file_and_parameters() -> None:
    import yaml

    config = compose_run_config(["experiment=dt2it_drop", "optim.lr=3e-4"])
    whole = comparable(flatten(config))
    assert comparable(identity(config)) == whole
    assert comparable(flattened(yaml.safe_load(to_yaml(config)))) == whole
    params = {key: str(value) for key, value in identity(config).items()}
    short = {key: text for key, text in params.items() if len(text) < VALUE_LIMIT}
    assert comparable(short) == {key: text for key, text in whole.items() if not key.startswith("curation.schedule.")}


def test_with_defaults_an_older_configuration_equals_a_newer_one() -> None:
    whole = comparable(flatten(compose_run_config(["experiment=dt2it_full"])))
    older = {key: text for key, text in whole.items() if key not in ("optim.cycle_peaks", "loss.label_smoothing")}
    assert len(older) == len(whole) - 2 and with_defaults(older) == with_defaults(whole) == whole
    assert with_defaults({**older, "loss.label_smoothing": "0.1"})["loss.label_smoothing"] == "0.1"


def test_comparable_sets_that_only_look_on_do_not_count() -> None:
    plain = comparable(flatten(compose_run_config(["experiment=dt2it_full", "~data.datasets.held_out"])))
    assert comparable(flatten(compose_run_config(["experiment=dt2it_full", "evaluation.every_n_steps=7"]))) == plain
    chosen = comparable(flatten(compose_run_config(["experiment=dt2it_full", "evaluation.best.use=true"])))
    assert chosen["evaluation.best.use"] == "True" and "data.datasets.held_out.role" in chosen
