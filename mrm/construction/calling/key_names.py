"""Keys stay out of files and messages: what may name a key's variable, and taking a key out of texts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

KEY_ENV_RULE = "must be the name of an environment variable (letters, digits, _), never the key itself"
SECRET_WORDS = ("api_key", "apikey", "api-key", "authorization", "password", "secret")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,100}")
_KEY_BEGINNINGS = ("sk_", "gsk_", "hf_", "AIza", "r8_", "ghp_", "fw_")  # of providers whose keys could be names
_LONG = 24  # characters; a name so long is of one case, or has no digits
_HIDDEN = "[key]"
_IN_ANSWERS = 8  # characters; a shorter "key" such as EMPTY is a word that an answer may hold


def is_key_env(name: str) -> bool:
    """Whether this names an environment variable; False for what looks like a key."""
    mixed = name.upper() != name != name.lower() and any(letter.isdigit() for letter in name)
    looks_like_key = name.startswith(_KEY_BEGINNINGS) or (mixed and len(name) >= _LONG)
    return _NAME.fullmatch(name) is not None and not looks_like_key


def names_secret(value: Any) -> bool:
    """Whether a field of a setting, however deep, is named like a secret."""
    if isinstance(value, Mapping):
        named = any(word in str(field).lower() for field in value for word in SECRET_WORDS)
        return named or any(map(names_secret, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return any(map(names_secret, value))
    return False


def scrub(text: str, key_env: str | None, *, answer: bool = False) -> str:
    """A text without the key.

    Args:
        text: whole: what was cut may end in a part of the key, which nobody finds.
        key_env: the key's variable; None where there is no key.
        answer: whether it is a model's answer, in which a short key is a word like others.
    """
    key = os.environ.get(key_env, "").strip() if key_env else ""
    return text if not key or (answer and len(key) < _IN_ANSWERS) else text.replace(key, _HIDDEN)
