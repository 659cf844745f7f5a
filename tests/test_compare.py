"""The command: what it prints and writes of runs in a store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mrm.cli import compose_run_config
from mrm.compare import compare, main
from mrm.compare_config import CompareConfig, names
from mrm.errors import ConfigError
from tests.comparing.stored import open_store, put

FLIP = "data.datasets.open.options.flip_rate"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments at two noise rates and two seeds; one run twice, one failed."""
    root = tmp_path_factory.mktemp("runs")
    client, experiment = open_store(f"sqlite:///{root / 'mlflow.db'}", artifacts=(root / "mlartifacts").as_uri())
    for name, fall in (("dt2it_full", 0.1), ("dt2it_no_curation", 0.6)):
        for rate in (0.1, 0.4):
            config = compose_run_config([f"experiment={name}", f"{FLIP}={rate}"])
            for seed in (1, 2):
                level = 0.95 - fall * rate + seed * (0.011 if fall > 0.1 else 0.01)
                metrics = {
                    "test/test_style_matched/accuracy": level,
                    "test/test_t2i/accuracy": level - 0.03,
                    "seconds": 9.0,
                }
                put(client, experiment, replace(config, seed=seed), metrics, scratch=root)
    put(client, experiment, replace(config, seed=2), metrics, scratch=root)
    put(client, experiment, replace(config, seed=3), metrics, scratch=root, status="FAILED")
    return root


def test_compare_writes_tables_figures_and_drawing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / f"c.{end}" for kind, end in (("markdown", "md"), ("json", "json"), ("figure", "svg"))}
    words = [f"{key}={path}" for key, path in files.items()]
    main([f"store={place}", "experiment=dt2it_full,dt2it_no_curation", "reference=dt2it_full", f"x={FLIP}", *words])
    told = json.loads(files["json"].read_text())
    labels = [group["label"] for group in told["groups"]]
    assert labels == [
        f"{name}, flip_rate={rate}" for name in ("dt2it_full", "dt2it_no_curation") for rate in (0.1, 0.4)
    ]
    mean = told["groups"][3]["figures"]["mean"]
    assert mean["n"] == 2 and mean["mean"] == pytest.approx(0.95 - 0.24 + 0.0165 - 0.015)
    assert {(one["group"], one["reference"]) for one in told["differences"]} == {
        (labels[2], labels[0]),
        (labels[3], labels[1]),
    }
    one = next(one for one in told["differences"] if one["measure"] == "mean" and one["group"] == labels[3])[
        "over_seeds"
    ]
    assert one["mean"] == pytest.approx(-0.2 + 0.0015) and one["seeds"] == [1, 2] and one["interval_excludes_0"]
    assert [point["x"] for point in told["x"]["lines"]["mean"]["dt2it_full"]] == [0.1, 0.4]
    markdown = files["markdown"].read_text()
    assert "| dt2it_full, flip_rate=0.1 | 2 | 0.955 ± 0.064 |" in markdown
    assert "not finished, left out: dt2it_no_curation-s3" in markdown
    assert "older run(s) of the same configuration and seed, left out: dt2it_no_curation-s2" in markdown
    assert "Not measured: noise after the last round, wrong labels mended or gone, " in markdown
    assert ">dt2it_no_curation</text>" in files["figure"].read_text()
    assert "Differences from the reference" in capsys.readouterr().out


def test_compare_shows_only_the_figures_asked_for(place: Path) -> None:
    found = compare(CompareConfig("dt2it_full", store=str(place), measures="[style_matched,mean]"))
    assert [measure.key for measure in found.measures] == ["test_style_matched", "mean"]
    with pytest.raises(ConfigError, match="measures='style'.*no figure of these runs"):
        compare(CompareConfig("dt2it_full", store=str(place), measures="style"))


def test_compare_settings_that_do_not_go_together_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        compare(CompareConfig(level=2.0, figure="a.gif", markdown=str(tmp_path), output="page.htm"))
    for said in ("level=2", "only with x=KEY", "must end in one of .svg", "markdown=", "output='page.htm'"):
        assert said in str(error.value)


def test_names_of_one_or_several() -> None:
    assert names(None) == [] and names("a") == ["a"] and names("[a, 'b']") == names("a,b") == ["a", "b"]
