import dataclasses
from pathlib import Path

import pytest

from callbacks.curation_schedule import RoundSpec, round_spec
from callbacks.iterative_curation import IterativeCuration
from callbacks.score_passes import ScorePass
from mrm.curation.rules import GUARDS, Rules
from mrm.errors import ConfigError
from tests.callbacks.fakes import make_annotators

JUDGES = make_annotators(Path("never opened"))
GOOD = {"after_epoch": 0, "steps": ["score", "correct"]}
FILTER = {"after_epoch": 1, "steps": ["score", "filter", "annotate"]}


def test_schedule_of_mappings_becomes_round_specs():
    callback = IterativeCuration([GOOD, FILTER], annotators=JUDGES)
    assert callback.schedule == [RoundSpec(0, ("score", "correct")), RoundSpec(1, ("score", "filter", "annotate"))]
    assert [callback.expected_round(epoch) for epoch in range(4)] == [0, 1, 2, 2]


def test_round_spec_unknown_field_names_it_and_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"after_epoch, steps, correct_mode, .* max_dropped, sources; unknown: \['step'\]"
    ):
        round_spec({"after_epoch": 0, "step": ["score"], "steps": ["score"]})


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (
            [{**GOOD, "steps": ["score", "korrect"]}],
            {},
            r"unknown step\(s\) \['korrect'\].*score, correct, filter, annotate",
        ),
        ([{**GOOD, "steps": []}], {}, "unknown step"),
        ([{**GOOD, "sources": {"a": {"distrust_share": None}}}], {}, "sources.a: distrust_share without a value"),
        ([{**GOOD, "sources": {"a": {"max_flipped": 2}}}], {}, "sources.a: max_flipped=2 must be in"),
        ([{**GOOD, "dead_zone": 1.0}], {}, "dead_zone=1.0: has an effect only with `filter`"),
        ([{**GOOD, "missing": "drop"}], {}, "missing=drop: has an effect only with `annotate`"),
        ([{**GOOD, "down_weight": 0.1}], {}, "down_weight=0.1: has an effect only with correct_mode=weight"),
        (
            [{**GOOD, "sources": {"a": {"correct_mode": "drop", "max_flipped": 0.1}}}],
            {},
            "sources.a.max_flipped: has an effect only with correct_mode=flip",
        ),
        ([{**GOOD, "agreement": "unanimous"}], {}, "unanimous has an effect only with several score passes"),
        (
            [{**GOOD, "steps": ["score", "correct", "filter"], "correct_mode": "weight"}],
            {},
            "the filter queues every pair that was distrusted",
        ),
        ([{**GOOD, "steps": ["correct", "score"]}], {}, "in the order"),
        ([{**GOOD, "steps": ["score", "score"]}], {}, "in the order"),
        ([{**GOOD, "steps": ["correct"]}], {}, "put `score` before"),
        ([{**GOOD, "correct_mode": "invert"}], {}, "'invert' is none of flip, drop, weight"),
        ([{**GOOD, "down_weight": 0.0}], {}, "down_weight=0.0"),
        ([{**GOOD, "admit_weight": 0.0}], {}, "admit_weight=0.0"),
        ([{**GOOD, "distrust_share": 1.5}], {}, r"round 1: distrust_share=1.5 must be in \[0, 1\], or auto"),
        ([{**GOOD, "distrust_share": "atuo"}], {}, "distrust_share='atuo'"),
        ([{**GOOD, "dead_zone": -1.0}], {}, "dead_zone=-1.0"),
        ([{**GOOD, "agreement": "all"}], {}, "'all' is none of mean, unanimous"),
        ([{**GOOD, "missing": "ask"}], {}, "'ask' is none of wait, drop"),
        ([{**GOOD, "max_flipped": 1.5}], {}, "max_flipped=1.5"),
        ([{**GOOD, "max_dropped": -0.5}], {}, "max_dropped=-0.5"),
        ([{**GOOD, "sources": {"a": {"deadzone": 1}}}], {}, "sources.a.deadzone: there is no such rule.*'dead_zone'"),
        ([{**GOOD, "sources": {"a": {"dead_zone": 1.0}}}], {}, "sources.a.dead_zone: has an effect only with `filter`"),
        ([GOOD, GOOD], {}, r"must rise.*\[0, 0\]"),
        ([{**GOOD, "after_epoch": -1}], {}, "not be negative"),
        ([FILTER], {}, "`annotate` needs annotators"),
        ([{**GOOD, "steps": ["annotate"]}], {"annotators": JUDGES}, "no `filter` step before it"),
        ([GOOD, FILTER], {"annotators": make_annotators(Path("x"), mode="async")}, "`annotate` has nothing to take"),
        (
            [{**FILTER, "after_epoch": 0, "steps": ["score", "filter"]}, {**FILTER, "missing": "drop"}],
            {"annotators": make_annotators(Path("x"), mode="async")},
            "missing=drop would drop unasked",
        ),
        ([GOOD], {"restart": "hot"}, "'hot' is none of warm, cold"),
        ([GOOD], {"min_active_share": 1.5}, "min_active_share=1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(schedule, options, message):
    with pytest.raises(ConfigError, match=message):
        IterativeCuration(schedule, **options)


def test_round_spec_share_set_by_the_noise_is_written_auto():
    assert round_spec({**GOOD, "distrust_share": "auto"}).rules.distrust_share is None
    assert round_spec(GOOD).rules == Rules()


def test_policy_fingerprint_every_field_of_a_round_changes_it_but_the_guards():
    whole = {"after_epoch": 0, "steps": ["score", "correct", "filter", "annotate"]}
    lighter = {**GOOD, "correct_mode": "weight", "down_weight": 0.5}
    changes = {
        "after_epoch": 1, "steps": ["score", "filter"], "correct_mode": "drop", "down_weight": 0.1, "admit_weight": 0.1,
        "distrust_share": "auto", "dead_zone": 1.0, "agreement": "unanimous", "missing": "drop", "max_flipped": 0.1,
        "max_dropped": 0.1, "sources": {"a": {"distrust_share": 0.1, "max_flipped": 0.1}},
    }  # fmt: skip
    assert changes.keys() == {field.name for field in dataclasses.fields(RoundSpec)}

    def fingerprint(spec: dict) -> str:
        passes = [ScorePass("dropout", 2)]  # several: unanimity of one is refused
        return IterativeCuration([spec], passes=passes, annotators=JUDGES).policy_fingerprint(1)

    for name, value in changes.items():
        base = lighter if name == "down_weight" else whole
        same = fingerprint({**base, name: value}) == fingerprint(base)
        assert same == (name in GUARDS), name
    without = {**whole, "sources": {"a": {"distrust_share": 0.1}}}
    assert fingerprint({**whole, "sources": changes["sources"]}) == fingerprint(without)


def test_policy_fingerprint_follows_the_content_of_a_saved_model_and_not_its_path(tmp_path):
    def fingerprint(folder: str) -> str:
        return IterativeCuration([GOOD], passes=[ScorePass("model", path=str(tmp_path / folder))]).policy_fingerprint(1)

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_text("1")
    first = fingerprint("a")
    assert first == fingerprint("a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint("b") == first
    (tmp_path / "b" / "weights").write_text("2")
    assert fingerprint("b") != first


def test_settings_with_several_faults_lists_them_all():
    with pytest.raises(ConfigError) as caught:
        IterativeCuration([FILTER, {**GOOD, "steps": ["scor"]}], restart="hot")
    assert len(str(caught.value).splitlines()) == 5  # heading, epochs, annotators, step, restart
