"""What counts when configurations are compared."""

from __future__ import annotations

from mrm.cli import compose_run_config
from mrm.comparing.records import comparable, flattened
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
