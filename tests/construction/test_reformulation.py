"""T2I preferences as text-response pairs: hand-worked samples, and the exact balance of sides."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrm.construction.reformulation import (
    T2I_PROMPT,
    T2I_PROMPTS,
    VERDICTS,
    T2IPreference,
    asking_for_ties,
    balanced_sides,
    check_templates,
    reformulate,
    sides,
)
from mrm.errors import ConfigError, RecordError
from mrm.preference import Pair


def preference(**changes):
    fields = {"key": "k", "source": "s", "caption": "a {red} cat", "preferred": b"good", "other": b"bad"}
    return T2IPreference(**{**fields, **changes})


def test_reformulate_preferred_first_shows_it_as_image_1_and_chooses_the_first_verdict():
    sample = reformulate(preference(strength=0.25, meta={"model": "m"}), preferred_first=True)
    assert sample.images == (b"good", b"bad")
    assert sample.responses == ("Image 1 is better than Image 2.", "Image 2 is better than Image 1.")
    assert sample.pairs == (Pair(0, 1, 0.25),)
    assert sample.prompt[0].content.startswith("Image 1: <image>\nImage 2: <image>\n")
    assert sample.prompt[0].content.endswith("Caption: a {red} cat")
    assert sample.meta["model"] == "m" and sample.meta["preferred_first"] is True


def test_reformulate_preferred_second_chooses_the_second_verdict():
    sample = reformulate(preference(), preferred_first=False)
    assert sample.images == (b"bad", b"good")
    assert sample.responses == VERDICTS
    assert sample.pairs == (Pair(1, 0, None),)


def test_reformulate_both_sides_differ_only_in_what_must():
    first, second = (reformulate(preference(), preferred_first=side) for side in (True, False))
    assert first.prompt == second.prompt and first.responses == second.responses
    assert first.images == second.images[::-1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"caption": "  "}, "empty caption"),
        ({"caption": None}, "empty caption"),
        ({"caption": "a <image> cat"}, "image count"),
        ({"other": b"good"}, "equal images"),
        ({"tie": True, "strength": 0.5}, "bad strength"),
    ],
)
def test_preference_broken_names_the_reason(changes, reason):
    with pytest.raises(RecordError, match="'k'") as error:
        preference(**changes)
    assert error.value.reason == reason


@settings(deadline=None)
@given(n=st.integers(0, 200), seed=st.integers(0, 1000))
def test_balanced_sides_any_number_is_exact_and_deterministic(n, seed):
    made = balanced_sides(n, seed)
    assert len(made) == n
    assert abs(sum(made) - (n - sum(made))) == n % 2
    assert made == balanced_sides(n, seed)


def test_balanced_sides_odd_one_depends_on_the_seed():
    odd_ones = [sum(balanced_sides(3, seed)) for seed in range(400)]
    assert set(odd_ones) == {1, 2}
    assert 160 < odd_ones.count(1) < 240  # 200 expected, 4 standard deviations are 40


def test_sides_each_place_is_even_over_seeds():
    firsts = [list(itertools.islice(sides(seed), 4)) for seed in range(400)]
    for place in range(4):
        assert 160 < sum(row[place] for row in firsts) < 240


@pytest.mark.parametrize("template", T2I_PROMPTS)
@pytest.mark.parametrize("ties", [False, True])
def test_reformulate_in_every_wording_shows_both_images_and_the_caption(template, ties):
    text = reformulate(preference(), preferred_first=True, template=template, ties=ties).prompt[0].content
    assert text.count("<image>") == 2 and text.count("a {red} cat") == 1
    assert text.index("Image 1: <image>") < text.index("Image 2: <image>")
    assert ("equally good" in text) is ties


def test_wordings_are_valid_and_the_first_is_the_default():
    check_templates(T2I_PROMPTS)
    assert T2I_PROMPTS[0] == T2I_PROMPT and len(T2I_PROMPTS) >= 3


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ([], "at least one"),
        (["<image> {caption}"], "wording 0: holds 1 `<image>`"),
        ([T2I_PROMPT, "<image><image>"], "wording 1: holds `{caption}` 0 times"),
        ([T2I_PROMPT, T2I_PROMPT], "twice"),
    ],
)
def test_check_templates_names_the_problem(templates, message):
    with pytest.raises(ConfigError, match=message):
        check_templates(templates)


def test_reformulate_tie_without_ties_is_refused():
    with pytest.raises(RecordError, match="'k': is a tie") as error:
        reformulate(preference(tie=True), preferred_first=True)
    assert error.value.reason == "tie"


def test_reformulate_tie_chooses_the_third_verdict_over_both():
    for first in (True, False):
        sample = reformulate(preference(tie=True), preferred_first=first, ties=True)
        assert sample.responses == (*VERDICTS, "Image 1 and Image 2 are equally good.")
        assert sample.pairs == (Pair(2, 0, None), Pair(2, 1, None))
        assert sample.meta["tie"] is True


@pytest.mark.parametrize(("strength", "half"), [(0.5, 0.25), (None, None)])
def test_reformulate_preference_among_ties_is_chosen_over_the_third_verdict_too(strength, half):
    sample = reformulate(preference(strength=strength), preferred_first=False, ties=True)
    assert sample.pairs == (Pair(1, 0, strength), Pair(1, 2, half))
    assert "tie" not in sample.meta


def test_asking_for_ties_of_a_template_that_does_not_ask_is_refused():
    with pytest.raises(ConfigError, match="State which image is better."):
        asking_for_ties("<image><image>{caption}")
