"""The keys of a settings dataclass as `--help` shows them: name, default, and what the comment beside the field says."""

from __future__ import annotations

import inspect
import io
import tokenize

from omegaconf import OmegaConf

WIDTH = 32  # of a key and its default, where the comment is to begin


def keys_help(schema: type, what: str = "Keys") -> str:
    """One line a key.

    Args:
        schema: a dataclass that OmegaConf takes, without nested ones. A field's meaning is the comment on its line.
        what: whose keys they are.
    """
    meanings = _comments(schema)
    lines = []
    for line in OmegaConf.to_yaml(OmegaConf.structured(schema)).splitlines():
        told = meanings.get(line.partition(":")[0])
        lines.append(f"  {line}" if told is None else f"  {line:<{WIDTH}}  # {told}")
    return "\n".join([f"{what} and their defaults (??? must be given):", *lines])


def _comments(schema: type) -> dict[str, str]:
    """Field -> the comment on its line, of the class and of those that it is made of; nothing where there is no source."""
    found: dict[str, str] = {}
    for one in reversed(schema.__mro__[:-1]):
        try:
            source = inspect.getsource(one)
        except (OSError, TypeError):
            continue
        words: list[str] = []  # of the line so far
        for token in tokenize.generate_tokens(io.StringIO(inspect.cleandoc(source)).readline):
            if token.type == tokenize.COMMENT and len(words) > 1 and words[1] == ":":
                found[words[0]] = token.string.lstrip("# ")
            if token.type in (tokenize.NAME, tokenize.OP, tokenize.STRING, tokenize.NUMBER):
                words.append(token.string)
            elif token.type in (tokenize.NEWLINE, tokenize.NL):
                words = []
    return found
