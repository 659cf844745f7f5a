import dataclasses

import pytest

from mrm.curation.rules import STEPS_OF, Rules, by_source, source_problems
from mrm.errors import ConfigError


def test_rules_defaults_are_fit_and_every_field_has_its_steps():
    assert Rules().problems() == []
    assert set(STEPS_OF) == {field.name for field in dataclasses.fields(Rules)}
    assert Rules(distrust_share=None).problems() == []


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("correct_mode", "invert", "'invert' is none of flip, drop, weight"),
        ("distrust_share", 1.5, r"1.5 must be in \[0, 1\], or auto"),
        ("distrust_share", "half", "'half' must be in"),
        ("distrust_share", True, "True must be in"),
        ("down_weight", 1.0, "between 0 and 1"),
        ("admit_weight", 0.0, r"must be in \(0, 1\]"),
        ("dead_zone", -0.5, "at least 0"),
        ("dead_zone", float("inf"), "at least 0"),
        ("agreement", "most", "'most' is none of mean, unanimous"),
    ],
)
def test_rules_value_that_cannot_be_is_named(field, value, expected):
    (problem,) = Rules(**{field: value}).problems()
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(problem)


def test_by_source_overrides_some_fields_of_some_sources():
    rules = by_source(Rules(dead_zone=0.2), {"a": {"correct_mode": "drop"}, "b": {"distrust_share": "auto"}}, "abc")
    assert rules.of("a") == Rules(dead_zone=0.2, correct_mode="drop")
    assert rules.of("b") == Rules(dead_zone=0.2, distrust_share=None)
    assert rules.of("c") == Rules(dead_zone=0.2)
    assert rules.apart == {"b"}  # ranked by itself: it sets a share


def test_by_source_unknown_source_field_or_value_lists_the_known_ones():
    overrides = {"vlfedback": {"dead_zone": 1.0}, "povid": {"dead_zon": 1.0}, "rlaif": {"dead_zone": -1.0}, "x": {}}
    with pytest.raises(ConfigError) as caught:
        by_source(Rules(), overrides, ["vlfeedback", "povid", "rlaif", "x"])
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 4
    assert (
        "sources.vlfedback" in lines[0]
        and "povid, rlaif, vlfeedback, x" in lines[0]
        and "Did you mean 'vlf" in lines[0]
    )
    assert "sources.povid.dead_zon" in lines[1] and "agreement" in lines[1] and "Did you mean 'dead_zone'" in lines[1]
    assert "sources.rlaif: dead_zone=-1.0" in lines[2]
    assert "sources.x: must be fields with values" in lines[3]


def test_source_problems_sources_not_known_yet_are_not_held_against_it():
    assert source_problems(Rules(), {"whatever": {"dead_zone": 1.0}}, None) == []
