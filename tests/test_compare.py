"""The command: what it prints and writes of runs in a store."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from mrm.cli import compose_run_config
from mrm.compare import compare, main, run
from mrm.compare_config import CompareConfig, names
from mrm.comparing.drawing import groups_canvas
from mrm.comparing.measures import Figure, Measure
from mrm.errors import ConfigError
from mrm.evaluation.intervals import Interval
from mrm.evaluation.sample_scores import SCORES_FILE, SampleScores, write_scores
from tests.comparing.stored import open_store, put

COURSE = {
    "curation/round": [(10, 1.0), (20, 2.0)],
    "curation/flipped": [(10, 40.0), (20, 0.0)],
    "curation/noise_before": [(10, 0.4), (20, 0.1)],
    "curation/noise_after": [(10, 0.1), (20, 0.02)],
    "curation/seconds": [(10, 2.0), (20, 3.0)],
    "train/loss": [(5, 0.7), (15, 0.5)],
}
ENDS = (("markdown", "md"), ("json", "json"), ("figure", "svg"), ("output", "html"))
FLIP = "data.datasets.open.options.flip_rate"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments at two noise rates and two seeds; one run twice, one failed."""
    root = tmp_path_factory.mktemp("runs")
    fill(f"sqlite:///{root / 'mlflow.db'}", root, (root / "mlartifacts").as_uri())
    return root


def fill(uri: str, scratch: Path, artifacts: str | None = None) -> None:
    """Puts the runs into a store. Those at the higher rate keep what they scored, those of dt2it_full what they curated."""
    client, experiment = open_store(uri, artifacts=artifacts)
    for name, fall in (("dt2it_full", 0.1), ("dt2it_no_curation", 0.6)):
        for rate in (0.1, 0.4):
            config = compose_run_config([f"experiment={name}", f"{FLIP}={rate}"])
            for seed in (1, 2):
                level = 0.95 - fall * rate + seed * (0.011 if fall > 0.1 else 0.01)
                accuracies = {"test/test_style_matched/accuracy": level, "test/test_t2i/accuracy": level - 0.03}
                metrics = {**accuracies, "seconds": 9.0}
                scores = {one: kept(level) for one in ("test_style_matched", "test_t2i")}
                files = {SCORES_FILE: write_scores(scratch / SCORES_FILE, scores)} if rate == 0.4 else {}
                course = COURSE if name == "dt2it_full" else {}
                last = replace(config, seed=seed)
                put(client, experiment, last, metrics, history=course, files=files, scratch=scratch)
    put(client, experiment, last, metrics, files=files, scratch=scratch)
    put(client, experiment, replace(config, seed=3), metrics, scratch=scratch, status="FAILED")


def kept(level: float) -> SampleScores:
    """Of a hundred pairs, the first are right."""
    right = np.arange(100) < round(100 * level)
    keys = np.array([f"k{i}" for i in range(100)], object)
    return SampleScores(keys, np.zeros(100, np.int32), right.astype(np.float32), np.full(100, 0.5, np.float32))


def test_compare_writes_tables_figures_and_drawing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / f"c.{end}" for kind, end in ENDS}
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
    assert "noise after the last round, seconds of curation: of dt2it_no_curation, flip_rate=0.1; " in markdown
    assert (
        f"the same samples: of dt2it_no_curation, flip_rate=0.1 (runs without {SCORES_FILE} within reach)" in markdown
    )
    assert "| dt2it_full, flip_rate=0.1 | 1 | 2 | 40 | 0.400 | 0.100 |" in markdown
    page = files["output"].read_text()
    assert page.count("data:image/png;base64,") == 4  # differences, over the key, loss, noise
    assert "<h2>What is beyond noise</h2>" in page and "mean of 2 sets 0.198 lower" in page
    assert "http" not in page.replace("http-equiv", "").split("<body>")[0]
    assert ">dt2it_no_curation</text>" in files["figure"].read_text()
    out = capsys.readouterr().out
    assert "Differences from the reference" in out and f"Written: {files['output']}" in out.replace("\n", "")


def test_compare_draws_all_groups_without_a_key(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "groups.svg"
    main([f"store={place}", "experiment=dt2it_full,dt2it_no_curation", "metric=mean,style_matched", f"figure={path}"])
    drawn = path.read_text()
    places = [drawn.index(f">{name}, flip_rate={rate}<") for name in ("dt2it_full", "dt2it_no_curation") for rate in (0.1, 0.4)]  # fmt: skip
    assert places == sorted(places) and ">mean of 2 sets<" in drawn and ">style matched<" in drawn


def test_groups_canvas_has_room_for_long_labels_and_a_line_at_the_reference() -> None:
    measure = Measure("mean", "mean", "accuracy")
    labels = [f"{name}, " + "a_long_key_of_the_configuration=0.125, " * 3 for name in ("one", "other")]
    figures = {
        label: {"mean": Figure(measure, {1: mean}, Interval(1, mean))}
        for label, mean in zip(labels, (0.5, 0.75), strict=True)
    }
    canvas = groups_canvas(labels, [measure], figures, labels[1])
    canvas.draw_without_rendering()
    (panel,) = canvas.axes
    assert panel.get_window_extent().width > 2.5 * canvas.dpi  # inches
    assert 0.75 in [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":"]
    assert not [line for line in groups_canvas(labels, [measure], figures).axes[0].lines if line.get_linestyle() == ":"]


def test_compare_from_an_archive_shows_the_same(place: Path, tmp_path: Path) -> None:
    archive = tmp_path / "kept.jsonl.gz"
    main([f"store={place}", "experiment=dt2it_full,dt2it_no_curation", f"archive={archive}"])
    words = {"experiment": "dt2it_full,dt2it_no_curation", "reference": "dt2it_full"}
    whole = compare(CompareConfig(**words, store=str(place)))
    for store in (str(archive), f"[{archive},{place}]"):
        found = compare(CompareConfig(**words, store=store))
        assert found.figures == whole.figures and found.rounds == whole.rounds
        assert found.differences == whole.differences and any(one.samples for one in found.differences)


def test_compare_shows_only_the_figures_asked_for(place: Path) -> None:
    found = compare(CompareConfig("dt2it_full", store=str(place), measures="[style_matched,mean]"))
    assert [measure.key for measure in found.measures] == ["test_style_matched", "mean"]
    with pytest.raises(ConfigError, match="measures='style'.*no figure of these runs"):
        compare(CompareConfig("dt2it_full", store=str(place), measures="style"))


def test_compare_names_a_wrong_metric_before_it_prints_or_writes(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"figure={tmp_path / 'a.svg'}", f"json={tmp_path / 'a.json'}"]
    with pytest.raises(SystemExit) as ended:
        main([f"store={place}", "experiment=dt2it_full", "metric=[nosuch]", *words])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and "metric='nosuch': is no figure of these runs" in err
    assert not out and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "end"), [*ENDS, ("archive", "jsonl.gz")])
def test_compare_names_the_output_that_cannot_be_written(
    key: str, end: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / f"c.{end}"
    with pytest.raises(SystemExit) as ended:
        main([f"store={place}", "experiment=dt2it_full", f"{key}={path}"])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and f"{key}='{path}': cannot be written: " in told and "Traceback" not in told
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_compare_leaves_the_old_figure_where_the_new_one_ends_half_way(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(canvas: Canvas, path: Path, **_: object) -> None:
        path.write_text("<svg")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    path = tmp_path / "c.svg"
    path.write_text("old")
    monkeypatch.setattr(Canvas, "savefig", half)
    with pytest.raises(ConfigError, match="figure=.*c.svg': cannot be written: .*No space left"):
        run(CompareConfig("dt2it_full", store=str(place), figure=str(path)))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_compare_tells_a_level_with_all_its_digits(place: Path, tmp_path: Path) -> None:
    words = ["experiment=dt2it_full,dt2it_no_curation", "reference=dt2it_full", "level=0.999"]
    files = [tmp_path / "c.md", tmp_path / "c.html"]
    main([f"store={place}", *words, f"markdown={files[0]}", f"output={files[1]}"])
    tables, page = (file.read_text() for file in files)
    assert "half the 99.9% interval" in tables and "| 99.9% over seeds | p | 99.9% over samples |" in tables
    assert "corrected p below 0.001" in tables and "<dd>99.9%</dd>" in page
    assert not [text for text in (tables, page) if "100%" in text.split("</style>")[-1]]


def test_compare_settings_that_do_not_go_together_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        compare(CompareConfig(level=2.0, figure="a.gif", markdown=str(tmp_path), output="page.htm"))
    for config, said in (
        (CompareConfig(metric="test_a"), "metric='test_a': has an effect only with figure= or x=KEY"),
        (CompareConfig(x="flip_rate"), "has an effect only with figure=, output= or json="),
        (CompareConfig(store="a.jsonl.gz", experiment_name="other"), "experiment_name: has an effect only on a store"),
    ):
        with pytest.raises(ConfigError, match=said):
            compare(config)
    for said in ("level=2", "must end in one of .svg", "markdown=", "output='page.htm'"):
        assert said in str(error.value)


def test_compare_into_the_archive_that_it_reads_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for store in ("kept.jsonl.gz", f"[runs,{tmp_path / 'kept.jsonl.gz'}]"):
        with pytest.raises(ConfigError, match="archive='./kept.jsonl.gz': would write over the file of store"):
            compare(CompareConfig(store=store, archive="./kept.jsonl.gz"))


def test_names_of_one_or_several() -> None:
    assert names(None) == [] and names("a") == ["a"] and names("[a, 'b']") == names("a,b") == ["a", "b"]


@pytest.mark.slow
def test_compare_reads_all_of_it_from_a_server(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    place = f"--backend-store-uri=sqlite:///{tmp_path / 'server.db'}", f"--artifacts-destination={tmp_path / 'kept'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1", *place]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_server(address, server, tmp_path / "server.log")
        fill(address, tmp_path)
        page = tmp_path / "c.html"
        main([f"store={address}", "reference=dt2it_full", f"output={page}", f"json={tmp_path / 'c.json'}"])
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    told = json.loads((tmp_path / "c.json").read_text())
    assert [len(group["runs"]) for group in told["groups"]] == [2, 2, 2, 2]
    assert told["groups"][0]["figures"]["curation_seconds"]["mean"] == 5.0
    assert sum(one["over_samples"] is not None for one in told["differences"]) == 3
    assert page.read_text().count("data:image/png;base64,") == 3
    assert "MLflow holds only the beginning" not in page.read_text()  # what it cut came from the artifacts


def wait_for_server(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())
