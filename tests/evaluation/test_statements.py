"""Two responses with images, told as statements."""

from __future__ import annotations

import pytest

from mrm.construction.reformulation import VERDICTS, T2IPreference, reformulate
from mrm.errors import RecordError
from mrm.evaluation.statements import RESPONSE_VERDICTS, statement_sample
from mrm.preference import Pair, PreferenceSample

A, B, SOURCE = b"a", b"b", b"source"


def make(request, chosen, rejected, chosen_first=True) -> PreferenceSample:  # type: ignore[no-untyped-def]
    return statement_sample("k", "s", request, chosen, rejected, chosen_first=chosen_first)


@pytest.mark.parametrize("first", [True, False])
def test_statement_sample_of_two_images_is_worded_as_in_training(first: bool) -> None:
    found = make(["A red cat."], [A], [B], first)
    trained = reformulate(T2IPreference("k", "s", "A red cat.", A, B), preferred_first=first)
    assert (found.prompt, found.images, found.responses, found.pairs) == (
        trained.prompt, trained.images, trained.responses, trained.pairs,
    )  # fmt: skip


def test_statement_sample_of_an_edit_shows_the_source_first() -> None:
    found = make([SOURCE, "Make {it} blue <image>."], [A], [B], chosen_first=False)
    assert found.images == (SOURCE, B, A) and found.responses == VERDICTS and found.pairs == (Pair(1, 0),)
    text = found.prompt[0].content
    assert text.startswith("Source: <image>\nImage 1: <image>\nImage 2: <image>\n")
    assert text.endswith("Instruction: Make {it} blue (image).")
    two = make([SOURCE, b"other", "Blend."], [A], [B]).prompt[0].content
    assert two.startswith("Source 1: <image>\nSource 2: <image>\nImage 1: <image>")


def test_statement_sample_of_mixed_responses_keeps_texts_and_images_in_order() -> None:
    found = make(["Tell {request} a story."], ["Once ", A, " then"], [B, "The end <image>"])
    assert found.images == (A, B) and found.responses == RESPONSE_VERDICTS and found.pairs == (Pair(0, 1),)
    text = found.prompt[0].content
    assert "Request:\nTell {request} a story.\n\nResponse 1:\nOnce <image> then\n" in text
    assert "Response 2:\n<image>The end (image)\n" in text
    swapped = make(["Tell {request} a story."], ["Once ", A, " then"], [B, "The end <image>"], chosen_first=False)
    assert swapped.images == (B, A) and swapped.pairs == (Pair(1, 0),)


def test_statement_sample_of_the_same_image_twice_is_refused() -> None:
    with pytest.raises(RecordError, match="same file"):
        make(["A cat."], [A], [A])
