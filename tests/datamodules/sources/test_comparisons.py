"""Judges' prompts and verdicts: the known forms are taken apart, all others are refused."""

import pytest

from datamodules.sources.comparisons import parse_caption, parse_comparison, parse_verdict, shows_comparison
from mrm.errors import RecordError


@pytest.mark.parametrize(
    "prompt",
    [
        "<image>\nBe fair.\nQuestion: [Why [so]?]\nThe first response: [One.\n\nTwo.]\nThe second response: [Three]\nASSISTANT:\n",
        "Question: [Why [so]?]\nResponse 1: [One.\n\nTwo.]\nResponse 2: [Three]",
        "Question: [Why [so]?]\nResponse A: [One.\n\nTwo.]\nResponse B: [Three]\n",
        "**Question**: [Why [so]?]\nAnswer 1: [One.\n\nTwo.]\nAnswer 2: [Three]\n",
        "Judge.\n\n#### **Input:**  \n#### [Question]:\nWhy [so]?  \n\n#### [Response 1]:\nOne.\n\nTwo.  \n\n#### [Response 2]:\nThree  \n\n"
        "#### **Output Format (strictly follow):**  \n<answer>1/2</answer>",
        "###### [Question]:\nWhy [so]?\n###### [Response 1]:\nOne.\n\nTwo.\n###### [Response 2]:\nThree",
    ],
)
def test_parse_comparison_known_forms(prompt):
    assert parse_comparison(prompt) == ("Why [so]?", "One.\n\nTwo.", "Three")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Question: [Q]\nResponse 1: [A]",
        "Question: [Q]\nResponse 1: [A]\nResponse 1: [B]\nResponse 2: [C]",
        "Question: [Q]\nResponse 2: [B]\nResponse 1: [A]",
        "Question: [Q]\nResponse 1: [A]\nResponse 2: [B",
        "#### [Question]:\nQ\n#### [Response 1]:\nA\n#### [Response 2]:\nB\n#### [Response 2]:\nC",
    ],
)
def test_parse_comparison_other_forms_are_refused(prompt):
    with pytest.raises(RecordError) as error:
        parse_comparison(prompt)
    assert error.value.reason == "unparsed prompt"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### [Question]:\nWhy?", True),
        ("Judge.\nResponse 1: [One]", True),
        ("Question: [Why?]", False),
        ("Which response 1: [a] or [b] is it?", False),
    ],
)
def test_shows_comparison_only_where_headings_are(text, expected):
    assert shows_comparison(text) == expected


def test_parse_caption_is_what_the_prompt_ends_in():
    assert parse_caption("Judge.\nYour task is provided as follows:\nText Caption: [a cat [sic]]\n") == "a cat [sic]"
    for prompt in ("a cat", "Text Caption: [a] and more", "Text Caption: [a]\nText Caption: [b]"):
        with pytest.raises(RecordError, match="Text Caption"):
            parse_caption(prompt)


@pytest.mark.parametrize(
    ("text", "preferred"),
    [
        ("<answer>2</answer>", 1),
        ("<think>Image 2 is better in detail.</think><answer>Image 1 is better</answer>", 0),
        ("Response 2 is better at this. All in all ...\nThe better response: [first]. It names the cat.", 0),
        ("The better response: [2]", 1),
        ("The better response: B", 1),
        ("<answer>2</answer> no: <Answer> 1 </Answer>", 0),
        ("**The better response: [B]**", 1),
        ("Image 2 is better.\nImage 1 is better in colour, though.", 1),
        ("Response B is slightly better than Response A.", 1),
        ("The second response is much better.", 1),
        ("Both images are equally good.", None),
        ("Answer 1 is better", 0),
        ("**Response 2** is better.", 1),
        ("I do not think that Response A is better; in the end Response B is superior.", 1),
        ("I would not say the first response is better. The second one is better.", 1),
    ],
)
def test_parse_verdict_known_forms(text, preferred):
    assert parse_verdict(text) == preferred


@pytest.mark.parametrize(
    "text",
    ["", "Both have merits.", "The better response: a detailed one.", "<answer>1", "</answer>1<answer>", "Response 1 is not better.", "<answer>3</answer>",
     "Response 1 is better in style, but response 2 is better in substance.",
     "Response 1 is better in style, but in the end they are equally good.",
     "It is unclear whether the first response is better.", "It is not true that Response 1 is better.",
     "Neither Response 1 is better nor worse.", "Response 1 is hardly better, since Response 2 answers all.",
     "In detail the second response is better. However, overall the first one is better."],
)  # fmt: skip
def test_parse_verdict_is_never_guessed(text):
    with pytest.raises(RecordError) as error:
        parse_verdict(text)
    assert error.value.reason == "no verdict"


def test_parse_verdict_and_prompt_long_odd_text_takes_no_time_worth_telling():
    for odd in ("<answer>", "\n", "*", "Question: [", "the better response: ", "#", "# ", " ", "[Question]"):
        text = odd * (200_000 // len(odd))
        assert not shows_comparison(text)
        for parse in (parse_verdict, parse_comparison, parse_caption):
            with pytest.raises(RecordError):
                parse(text)
