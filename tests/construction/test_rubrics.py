"""Rubrics: the packaged ones hold what the method says, and a user's file is checked key by key."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

from mrm.construction.mentions import NAMES_ASSISTANT, mentions
from mrm.construction.rubrics import FOLDER, LANGUAGES, load_rubric
from mrm.errors import ConfigError

CRITERIA = ("accuracy", "helpfulness", "completeness", "language_quality", "creativity", "ethics")


@pytest.fixture
def edited(tmp_path):
    """Writes the English rubric with a change made to its content; gives the path."""

    def write(change):
        content = yaml.safe_load((FOLDER / "en.yaml").read_text("utf-8"))
        change(content)
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
        return path

    return write


@pytest.mark.parametrize("language", LANGUAGES)
def test_load_rubric_packaged_has_the_six_criteria_of_the_method(language):
    rubric = load_rubric(language)
    assert rubric.language == language
    assert rubric.names == CRITERIA


@pytest.mark.parametrize("mode", ["listwise", "pointwise"])
def test_load_rubric_english_says_what_the_method_asks(mode):
    system = getattr(load_rubric("en"), mode).system
    for said in (
        "It may be wrong",
        "from 0 (",
        "sum to 1",
        "two decimals",
        "Length is not quality",
        "Style is not content",
    ):
        assert said in system
    assert ("order of the responses carries no meaning" in system) == (mode == "listwise")
    assert system.index('"reference"') < system.index("weight") < system.index("integer score")


@pytest.mark.parametrize("mode", ["listwise", "pointwise"])
def test_load_rubric_chinese_says_what_the_method_asks(mode):
    system = getattr(load_rubric("zh"), mode).system
    for said in ("可能是错的", "整数分", "总和为 1", "两位小数", "长度不等于质量", "风格不是内容"):
        assert said in system
    assert ("先后顺序没有任何含义" in system) == (mode == "listwise")


@pytest.mark.parametrize("language", LANGUAGES)
def test_load_rubric_packaged_names_no_assistant_itself(language):
    assert NAMES_ASSISTANT not in mentions((FOLDER / f"{language}.yaml").read_text("utf-8"))


def test_load_rubric_copy_elsewhere_is_the_same_rubric(edited):
    copy = load_rubric(edited(lambda content: None))
    assert copy == load_rubric("en")
    assert copy.digest == load_rubric("en").digest


def test_load_rubric_other_words_have_another_digest(edited):
    def change(content):
        content["criteria"][0]["description"] += " Really."

    assert load_rubric(edited(change)).digest != load_rubric("en").digest


def test_load_rubric_with_one_criterion_of_ones_own_is_taken(edited):
    rubric = load_rubric(
        edited(lambda content: content.update(criteria=[{"name": "safety_2", "description": "Safe."}]))
    )
    assert rubric.names == ("safety_2",)


def test_load_rubric_braces_and_dollars_in_texts_stay(edited):
    def change(content):
        content["pointwise"]["system"] += " {x} {} ${y}"

    assert load_rubric(edited(change)).pointwise.system.endswith("{x} {} ${y}")


def _drop(*path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def _put(value, *path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop("labels"), "missing key `labels`"),
        (_drop("labels", "response"), "missing key `labels.response`"),
        (_drop("criteria", 0, "name"), "missing key `criteria[0].name`"),
        (_put("x", "listwize"), "unknown key `listwize`. Did you mean 'listwise'?"),
        (_put("x", "listwise", "sistem"), "unknown key `listwise.sistem`. Did you mean 'system'?"),
        (_put("x", "listwise"), "`listwise` must be a mapping with system, user"),
        (_put([], "criteria"), "`criteria` must be a list of at least one"),
        (_put(["accuracy"], "criteria"), "`criteria[0]` must be a mapping"),
        (_put("accuracy", "criteria", 1, "name"), "`criteria[1].name` 'accuracy' is there twice"),
        (_put("Language Quality", "criteria", 1, "name"), "`criteria[1].name` is 'Language Quality'"),
        (_put(" ", "criteria", 1, "description"), "`criteria[1].description` must be a text that is not empty"),
        (_put(7, "labels", "user"), "`labels.user` must be a text"),
        (_put("a\nb", "labels", "user"), "`labels.user` must be one line"),
        (_put("fr", "language"), "`language` is 'fr'; allowed are en, zh"),
        (_put("{criteria}", "pointwise", "system"), "`pointwise.system` has no placeholder {format}"),
        (
            _put("{marker} {conversation} {reference}", "listwise", "user"),
            "`listwise.user` has no placeholder {responses}",
        ),
        (
            _put("{criteria} {format} {format}", "listwise", "system"),
            "`listwise.system` has the placeholder {format} twice",
        ),
    ],
)
def test_load_rubric_broken_names_file_and_key(edited, change, said):
    path = edited(change)
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        load_rubric(path)
    assert str(path) in str(error.value)


def test_load_rubric_names_every_problem_at_once(edited):
    def change(content):
        del content["labels"]
        content["extra"] = 1

    with pytest.raises(ConfigError, match=r"unknown key `extra`.*missing key `labels`"):
        load_rubric(edited(change))


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- 1\n- 2\n", b"", b"just words"])
def test_load_rubric_what_is_no_mapping_is_a_config_error_with_the_file(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load_rubric(path)


def test_load_rubric_unknown_language_says_what_is_allowed():
    with pytest.raises(ConfigError, match="'fr' is not a file; give en or zh, or the path"):
        load_rubric("fr")


def test_setup_packs_the_rubrics():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = setup["options.package_data"]["mrm"].split()
    packed = {path for pattern in patterns for path in FOLDER.parents[1].glob(pattern)}
    assert {FOLDER / f"{language}.yaml" for language in LANGUAGES} <= packed
