"""Words of a member, and what tells members apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from mrm.config import RunConfig, SweepConfig
from mrm.sweeps.members import Member, distinct, is_of, quote, run_words, telling_words


def test_run_words_leave_out_the_sweeps_and_show_no_bar() -> None:
    member = Member(1, ["experiment=e", "+sweep.jobs=2", "sweep={name: a}", "seed=1"], RunConfig())
    assert run_words(member) == ["experiment=e", "seed=1", "trainer.progress=false"]
    member = Member(1, ["trainer.progress=true", "resume=auto"], RunConfig())
    assert run_words(member) == ["trainer.progress=true", "resume=auto"]
    member.resume = Path("/runs/a b")
    assert run_words(member) == ["trainer.progress=true", "resume='/runs/a b'"]


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(lambda text: "\\" not in text))
def test_quote_survives_hydras_grammar(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quote(text)}").value() == text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sweep.jobs=1", True),
        ("~sweep.name", True),
        ("++sweep=x", True),
        ("sweeper=1", False),
        ("a.sweep.jobs=1", False),
    ],
)
def test_is_of_a_key(word: str, expected: bool) -> None:
    assert is_of(word, "sweep") is expected


def test_telling_words_are_those_not_shared() -> None:
    members = [Member(n, ["a=1", f"seed={n}", "sweep.name=x"], RunConfig(seed=n)) for n in (1, 2)]
    assert telling_words(members) == [["seed=1"], ["seed=2"]]
    assert telling_words(members[:1]) == [["a=1", "seed=1", "sweep.name=x"]]


def test_distinct_members_by_what_they_compute() -> None:
    same = [
        Member(1, ["seed=1"], RunConfig(sweep=SweepConfig(jobs=3))),
        Member(2, ["+seed=1"], RunConfig(output_root="b")),
        Member(3, ["seed=2"], RunConfig(seed=2)),
        Member(4, ["x"], None),
        Member(5, ["y"], None),
    ]
    members, twins = distinct(same)
    assert [member.number for member in members] == [1, 3, 4, 5]
    assert [(member.number, other.number) for member, other in twins] == [(2, 1)]


def test_label_names_experiment_seed_and_digest() -> None:
    member = Member(7, ["seed=3"], RunConfig(experiment="e", seed=3))
    assert member.label == f"e-s3-{member.fingerprint[:8]}"
    assert Member(1, ["seed=3"], RunConfig(experiment="e", seed=3)).label == member.label
