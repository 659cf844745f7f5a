"""Wordings by key, sides balanced within each."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrm.construction.placements import Placements
from mrm.construction.reformulation import sides


@given(st.integers(0, 60), st.integers(1, 4), st.integers(0, 100))
def test_placements_are_balanced_within_each_wording(count, wordings, seed):
    placements = Placements(wordings, seed)
    taken = [placements.take(f"k{i}") for i in range(count)]
    for wording in range(wordings):
        first = [p.preferred_first for p in taken if p.wording == wording]
        assert abs(2 * sum(first) - len(first)) == len(first) % 2
    assert sum(placements.used) == count


def test_placements_of_one_wording_are_the_sides():
    placements = Placements(1, 7)
    assert [placements.take(str(i)).preferred_first for i in range(50)] == list(islice(sides(7), 50))


def test_placements_wording_goes_by_key_and_seed_alone():
    one, other = Placements(3, 0), Placements(3, 0)
    keys = [f"k{i}" for i in range(300)]
    forward = {key: one.take(key).wording for key in keys}
    assert forward == {key: other.take(key).wording for key in reversed(keys)}
    assert forward != {key: Placements(3, 1).look(key).wording for key in keys}
    assert all(70 < count < 130 for count in Counter(forward.values()).values())  # 100 expected, 8 is one deviation


def test_placements_look_uses_nothing_up():
    placements = Placements(2, 0)
    assert placements.look("a") == placements.look("a") == placements.take("a")
    assert placements.take("a").preferred_first is not Placements(2, 0).take("a").preferred_first


def test_placements_go_on_behind_an_earlier_run():
    whole = Placements(3, 5)
    expected = [whole.take(str(i)) for i in range(40)]
    part = Placements(3, 5)
    begun = [part.take(str(i)) for i in range(17)]
    rest = Placements(3, 5, used=part.used)
    assert begun + [rest.take(str(i)) for i in range(17, 40)] == expected


@pytest.mark.parametrize(("wordings", "used"), [(0, None), (2, [1])])
def test_placements_wrong_counts_are_refused(wordings, used):
    with pytest.raises(ValueError, match="wordings="):
        Placements(wordings, 0, used)
