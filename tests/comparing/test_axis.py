"""A figure over a number of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrm.comparing.axis import axis_values, lines_over
from mrm.comparing.drawing import axis_canvas, check_format, save
from mrm.errors import ConfigError
from tests.comparing.making import FLIP, made_run
from tests.comparing.test_measures import figures_of


def runs_over(*rates: float, extra=lambda rate: {}) -> list:
    return [
        made_run(name, seed, {"test_a": 0.9 - rate + seed / 100}, config={FLIP: rate, **extra(rate)})
        for name in ("full", "base")
        for rate in rates
        for seed in (1, 2)
    ]


def test_lines_over_a_key_are_the_groups_of_the_remaining_differences() -> None:
    others = [made_run("clean", 1, {"test_a": 0.95}), made_run("odd", 1, config={FLIP: "auto"})]
    alignment, measures, figures = figures_of([*runs_over(0.4, 0.1, 0.2), *others])
    axis = lines_over(alignment, "flip_rate")
    assert axis.key == FLIP and axis.also == () and axis.left_out == ("odd, flip_rate=auto",)
    assert [group.label for group in axis.level] == ["clean"]
    (level,) = axis_values(axis, "test_a", figures)["clean"]
    assert level["x"] is None and level["mean"] == 0.95
    axis_canvas(axis, measures[:1], figures)
    assert [line.label for line in axis.lines] == ["base", "full"]
    assert [x for x, _ in axis.lines[0].points] == [0.1, 0.2, 0.4]
    points = axis_values(axis, "test_a", figures)["full"]
    assert points[0]["mean"] == pytest.approx(0.815)
    assert points[1]["mean"] == pytest.approx(0.715) and points[1]["n"] == 2 and points[1]["low"] < 0.715


def test_lines_over_a_key_that_others_follow_are_one_line_and_told() -> None:
    alignment, _, _ = figures_of(runs_over(0.1, 0.2, extra=lambda rate: {"curation.share": 2 * rate}))
    axis = lines_over(alignment, FLIP)
    assert axis.also == ("curation.share",) and len(axis.lines) == 2


def test_lines_over_a_key_beside_another_that_varies_are_a_line_each() -> None:
    runs = [made_run("full", 1, config={FLIP: rate, "optim.lr": lr}) for rate in (0.1, 0.2) for lr in (1, 2)]
    axis = lines_over(figures_of(runs)[0], FLIP)
    assert [line.label for line in axis.lines] == ["full, lr=1", "full, lr=2"]


@pytest.mark.parametrize(
    ("key", "said"), [("flip", "no configuration has this key"), ("experiment", "no group has a number")]
)
def test_lines_over_a_key_without_numbers_is_an_error(key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        lines_over(figures_of(runs_over(0.1))[0], key)


def test_axis_picture_is_the_same_each_time(tmp_path: Path) -> None:
    alignment, measures, figures = figures_of(runs_over(0.1, 0.2, 0.4))
    paths = [save(axis_canvas(lines_over(alignment, FLIP), measures[:1], figures), tmp_path / f"{n}.svg") for n in "ab"]
    first, second = (path.read_text() for path in paths)
    assert first == second and ">full</text>" in first and ">flip rate</text>" in first
    with pytest.raises(ConfigError, match="must end in one of .svg"):
        check_format(tmp_path / "a.gif")
