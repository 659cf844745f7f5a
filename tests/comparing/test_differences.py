"""Differences from a reference, and which of them are beyond noise."""

from __future__ import annotations

import pytest

from mrm.comparing.comparison import Comparison
from mrm.comparing.differences import Difference, Verdict, corrected, differences, references, without_common_seed
from mrm.comparing.grouping import align
from mrm.comparing.measures import Measure
from mrm.errors import ConfigError
from mrm.evaluation.intervals import Interval
from mrm.evaluation.paired import PairedTest
from tests.comparing.making import FLIP, made_run
from tests.comparing.test_measures import figures_of

BASE, FULL = (0.80, 0.82, 0.81), (0.90, 0.93, 0.91)


def runs_of(**accuracies: tuple[float, ...]) -> list:
    return [
        made_run(name, seed, {"test_a": value, "test_b": value})
        for name, values in accuracies.items()
        for seed, value in enumerate(values, start=1)
    ]


def found_of(runs, reference: str | None):
    alignment, measures, figures = figures_of(runs)
    pairs, notes = references(alignment.groups, reference)
    return differences(pairs, measures, figures), notes


def test_differences_are_paired_by_seed_and_corrected_together() -> None:
    found, notes = found_of(runs_of(base=BASE, full=FULL), "base")
    assert notes == [] and [one.measure.key for one in found] == ["test_a", "test_b", "mean"]
    verdict = found[0].over_seeds
    # Differences 0.10, 0.11, 0.10: mean 0.31 / 3, deviation 0.01 / sqrt(3), so t = 0.31 / 0.01 = 31 with two degrees of freedom
    assert found[0].seeds == (1, 2, 3)
    assert verdict.test.interval.estimate == pytest.approx(0.31 / 3)
    assert verdict.test.p == pytest.approx(1 - 31 / (2 + 31**2) ** 0.5)
    assert verdict.adjusted == pytest.approx(3 * verdict.test.p)
    assert verdict.alone and verdict.holds
    assert found[0].beyond_noise and found[0].text == "yes, by seeds"


def test_differences_use_the_seeds_that_both_have() -> None:
    found, _ = found_of(runs_of(base=BASE, full=FULL[:1]), "base")
    assert found[0].seeds == (1,)
    assert found[0].text == "not told: one shared seed" and found[0].beyond_noise is None
    apart = [made_run("base", 1, {"test_a": 0.5}), made_run("full", 2, {"test_a": 0.6})]
    alignment = align(apart)
    pairs, _ = references(alignment.groups, "base")
    assert found_of(apart, "base")[0] == [] and without_common_seed(pairs, alignment.groups) == ["full"]


def test_verdict_alone_and_not_among_all() -> None:
    verdicts = corrected([Verdict(PairedTest(Interval(3, 0.1, 0.01, 0.19), p)) for p in (0.03, 0.04, 0.5)])
    assert [verdict.adjusted for verdict in verdicts] == pytest.approx([0.09, 0.09, 0.5])
    assert [verdict.alone for verdict in verdicts] == [True, True, True] and not any(one.holds for one in verdicts)
    measure = Measure("test_a", "a", "accuracy")

    def text(seeds: Verdict, samples: Verdict | None = None) -> str:
        return Difference("full", "base", measure, (1, 2), seeds, over_samples=samples).text

    sure = Verdict(PairedTest(Interval(3, 0.1, 0.01, 0.19), 0.001), 0.003)
    unsure = Verdict(PairedTest(Interval(2, 0.1, -0.1, 0.3), 0.2), 0.2)
    untold = Verdict(PairedTest(Interval(1, 0.1), None, "one shared seed"))
    assert text(verdicts[0]) == "alone, not among all" and text(unsure) == "no"
    assert (
        text(sure, sure) == "yes"
        and text(sure, unsure) == "over seeds only"
        and text(unsure, sure) == "over samples only"
    )
    assert text(untold, sure) == "yes, by samples" and text(untold, unsure) == "no"


def test_findings_of_one_test_alone_say_which() -> None:
    base = align(runs_of(base=BASE)).groups[0]
    untold = Verdict(PairedTest(Interval(1, 0.1), None, "one shared seed"))
    sure = Verdict(PairedTest(Interval(3, 0.1, 0.01, 0.19), 0.001), 0.003)
    measures = [Measure(f"test_{name}", name, "accuracy") for name in "abc"] + [Measure("noise_after", "n", "curation")]
    verdicts = [(untold, sure), (sure, None), (sure, sure), (sure, None)]
    found = tuple(
        Difference("full", "base", measure, (1,), seeds, over_samples=samples)
        for measure, (seeds, samples) in zip(measures, verdicts, strict=True)
    )
    nothing: dict = {"chosen": None, "alignment": None, "measures": (), "figures": {}, "rounds": {}, "notes": ()}
    comparison = Comparison(**nothing, references={"full": base}, differences=found, lacking=(), level=0.95)
    told = "a 0.100 higher (by samples), b 0.100 higher (by seeds), c 0.100 higher, n 0.100 higher"
    assert comparison.findings() == [f"full against base: beyond noise: {told}."]


def test_references_default_is_the_first_group_and_none_has_none() -> None:
    groups = align(runs_of(full=FULL, base=BASE), order=["full"]).groups
    assert {label: one.label for label, one in references(groups, None)[0].items()} == {"base": "full"}
    runs = [made_run(name, 1, config={FLIP: rate}) for rate in (0.1, 0.2) for name in ("full", "base")]
    alike = references(align(runs, order=["full"]).groups, None)[0]  # like against like
    assert {label: one.label for label, one in alike.items()} == {
        "base, flip_rate=0.1": "full, flip_rate=0.1",
        "base, flip_rate=0.2": "full, flip_rate=0.2",
    }
    assert references(groups, "none") == ({}, [])
    with pytest.raises(ConfigError, match="reference='bas'.*Did you mean 'base'"):
        references(groups, "bas")


def test_references_of_several_groups_are_found_by_their_other_keys() -> None:
    runs = [made_run(name, 1, config={FLIP: rate}) for name in ("base", "full") for rate in (0.1, 0.2)]
    runs.append(made_run("full", 1, config={FLIP: 0.3}))
    pairs, notes = references(align(runs).groups, "base")
    assert {label: one.label for label, one in pairs.items()} == {
        "full, flip_rate=0.1": "base, flip_rate=0.1",
        "full, flip_rate=0.2": "base, flip_rate=0.2",
    }
    assert notes == [
        "No reference is configured like full, flip_rate=0.3: compared with none.",
        "References, not compared with one another: base, flip_rate=0.1; base, flip_rate=0.2. reference=LABEL compares all with one.",
    ]


@pytest.mark.parametrize("reference", [None, "base", "base, flip_rate=0.1"])
def test_references_of_one_experiment_are_its_first_group(reference) -> None:
    groups = align([made_run("base", 1, config={FLIP: rate}) for rate in (0.1, 0.2, 0.3)]).groups
    pairs, notes = references(groups, reference)
    assert {label: one.label for label, one in pairs.items()} == {
        "base, flip_rate=0.2": "base, flip_rate=0.1",
        "base, flip_rate=0.3": "base, flip_rate=0.1",
    }
    assert notes == []
