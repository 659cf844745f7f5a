"""What a construction would take: nobody is asked, and the calls are those of the real run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mrm.construct
from mrm.construct import construct
from mrm.construct_config import ConstructConfig
from mrm.construction.calling.budget import Estimate
from tests.construction.constructing import asked, lines, own_config, own_input, small_config


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[Estimate]:
    """What is printed."""
    found: list[Estimate] = []
    monkeypatch.setattr(mrm.construct, "print_estimate", found.append)
    return found


def calls(estimate: Estimate) -> dict[tuple[str, str], int]:
    return {place: spent.calls for place, spent in estimate.asked.items()}


def dry(config: ConstructConfig) -> None:
    construct(dataclasses.replace(config, dry_run=True))


def test_dry_run_asks_nobody_and_leaves_later_stages_undone(tmp_path: Path, estimates: list[Estimate]) -> None:
    dry(small_config(tmp_path, count=5))
    assert asked(tmp_path) == Counter()
    assert [path.name for path in tmp_path.glob("*.account.json")] == ["prompts.account.json"]
    assert estimates[0].total.calls > 0 and estimates[0].total.input_tokens > 0


def test_dry_run_counts_the_calls_of_the_real_run(tmp_path: Path, estimates: list[Estimate]) -> None:
    config = small_config(tmp_path, count=12)
    dry(config)
    construct(dataclasses.replace(config, stages=["prompts", "respond"]))
    dry(config)
    construct(config)
    real: dict[Any, int] = dict(asked(tmp_path))
    at_first, then = map(calls, estimates)
    kinds = {
        kind: {place: n for place, n in real.items() if place[1] == kind}
        for kind in ("respond", "listwise", "pointwise")
    }
    assert {place: n for place, n in at_first.items() if place[1] == "respond"} == kinds["respond"]
    assert {place: n for place, n in at_first.items() if place[1] == "listwise"} == kinds["listwise"]
    assert all(at_first[place] >= n for place, n in real.items())  # responses may turn out to be equal
    assert then == {**kinds["listwise"], **kinds["pointwise"]}
    dry(config)
    assert calls(estimates[2]) == {} and estimates[2].reused == real


def test_dry_run_of_brought_responses_is_exact_from_the_beginning(tmp_path: Path, estimates: list[Estimate]) -> None:
    given = own_input(tmp_path, ["good", "bad"], ["one"], ["good", "bad", "good good"])
    config = own_config(tmp_path / "work", given)
    dry(config)
    construct(config)
    assert calls(estimates[0]) == asked(tmp_path / "work")


def test_dry_run_does_not_count_responses_that_are_not_kept(tmp_path: Path, estimates: list[Estimate]) -> None:
    dry(small_config(tmp_path, "keep_responses=2", count=5))
    assert calls(estimates[0])["judge_a", "pointwise"] == 5 * 2


def test_dry_run_does_not_use_responses_of_other_settings(tmp_path: Path, estimates: list[Estimate]) -> None:
    construct(small_config(tmp_path, "stages=[prompts,respond]", count=5))
    dry(small_config(tmp_path, "responders.weak.samples=9", count=5))
    assert calls(estimates[0])["judge_a", "pointwise"] == 5 * 11


def test_dry_run_passes_over_a_record_whose_image_is_gone(tmp_path: Path, estimates: list[Estimate]) -> None:
    config = small_config(tmp_path, count=5)
    construct(dataclasses.replace(config, stages=["prompts"]))
    (tmp_path / lines(tmp_path, "prompts")[0]["images"][0]["path"]).unlink()
    dry(config)
    assert calls(estimates[0])["judge_a", "listwise"] == 4
