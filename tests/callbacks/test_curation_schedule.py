import pytest

from callbacks.curation_schedule import RoundSpec, round_spec
from callbacks.iterative_curation import IterativeCuration
from mrm.construction.judges import ShapeWorldJudge
from mrm.errors import ConfigError

JUDGE = ShapeWorldJudge("a")
GOOD = {"after_epoch": 0, "steps": ["score", "correct"]}
FILTER = {"after_epoch": 1, "steps": ["score", "filter", "annotate"]}


def test_schedule_of_mappings_becomes_round_specs():
    callback = IterativeCuration([GOOD, FILTER], annotators=[JUDGE])
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
        ([{**GOOD, "steps": ["correct", "score"]}], {}, "in the order"),
        ([{**GOOD, "steps": ["score", "score"]}], {}, "in the order"),
        ([{**GOOD, "steps": ["correct"]}], {}, "put `score` before"),
        ([{**GOOD, "correct_mode": "invert"}], {}, "'invert' is none of flip, drop, weight"),
        ([{**GOOD, "down_weight": 0.0}], {}, "down_weight=0.0"),
        ([{**GOOD, "admit_weight": 0.0}], {}, "admit_weight=0.0"),
        ([GOOD, GOOD], {}, r"must rise.*\[0, 0\]"),
        ([{**GOOD, "after_epoch": -1}], {}, "not be negative"),
        ([FILTER], {}, "`annotate` needs annotators"),
        ([{**GOOD, "steps": ["annotate"]}], {"annotators": [JUDGE]}, "no `filter` step before it"),
        ([FILTER], {"annotators": [JUDGE, JUDGE]}, r"different names, found \['a', 'a'\]"),
        ([GOOD], {"restart": "hot"}, "'hot' is none of warm, cold"),
        ([GOOD], {"min_active_share": 1.5}, "min_active_share=1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(schedule, options, message):
    with pytest.raises(ConfigError, match=message):
        IterativeCuration(schedule, **options)


def test_settings_with_several_faults_lists_them_all():
    with pytest.raises(ConfigError) as caught:
        IterativeCuration([FILTER, {**GOOD, "steps": ["scor"]}], restart="hot")
    assert len(str(caught.value).splitlines()) == 5  # heading, epochs, annotators, step, restart
