import pytest

from mrm.construction.calling.key_names import is_key_env, names_secret, scrub


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "auto", "_x1", "GEMINI_API_KEY_2"])
def test_names_of_variables_pass(name):
    assert is_key_env(name)


@pytest.mark.parametrize(
    "name", ["", "sk-abc", "a-b", "1a", "a b", "AIzaSyA1b2C3", "gsk_abc", "x" * 102, "aB3dE6gH9jK2mN5pQ8sT1vW4", "K\n"]
)
def test_what_looks_like_a_key_names_no_variable(name):
    assert not is_key_env(name)


def test_secrets_are_found_however_deep():
    assert names_secret({"a": [{"b": {"X-Api-Key": 1}}]}) and not names_secret({"a": [{"b": "password"}]})


def test_scrub_leaves_a_short_word_in_answers_alone(monkeypatch):
    monkeypatch.setenv("K", "EMPTY")
    assert scrub("an EMPTY box", "K", answer=True) == "an EMPTY box" and scrub("bad EMPTY", "K") == "bad [key]"
    monkeypatch.setenv("K", "sk-123456789")
    assert scrub("is sk-123456789", "K", answer=True) == "is [key]" and scrub("x", None) == "x"
