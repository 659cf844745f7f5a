"""What --help says of a command's keys."""

from dataclasses import dataclass

import pytest

from mrm.audit import ACTIONS
from mrm.compare_config import CompareConfig
from mrm.curate_config import CurateConfig
from mrm.diagnose_config import DiagnoseConfig
from mrm.evaluate_config import EvaluateConfig
from mrm.export import ExportConfig
from mrm.keys_help import keys_help
from mrm.score import ScoreConfig
from mrm.sync import SyncConfig


@dataclass
class Shared:
    seed: int = 0  # of all draws
    limit: int = 2


@dataclass
class Settings(Shared):
    """One of its lines looks like a field: limit: 3  # no"""

    # limit: 4  # nor this
    name: str = "a # b"  # with a "#": told whole
    long_name_of_a_key: str = "and a default that is long, too"  # what it is
    limit: int = 5  # how many


def test_keys_help_tells_default_and_comment_of_each_key() -> None:
    assert keys_help(Settings, "Keys of it").splitlines() == [
        "Keys of it and their defaults (??? must be given):",
        "  seed: 0                           # of all draws",
        "  limit: 5                          # how many",
        "  name: 'a # b'                     # with a \"#\": told whole",
        "  long_name_of_a_key: and a default that is long, too  # what it is",
    ]


def test_keys_help_of_a_class_without_source_or_comments_has_the_defaults() -> None:
    made = dataclass(type("Made", (), {"__annotations__": {"seed": int}, "seed": 3}))
    assert keys_help(made).splitlines()[1:] == ["  seed: 3"]


@pytest.mark.parametrize(
    "schema",
    [
        CompareConfig, CurateConfig, DiagnoseConfig, EvaluateConfig, ExportConfig, ScoreConfig, SyncConfig,
        *(schema for schema, _ in ACTIONS.values()),
    ],
)  # fmt: skip
def test_keys_help_says_what_every_key_of_a_command_means(schema: type) -> None:
    silent = [line for line in keys_help(schema).splitlines()[1:] if "  # " not in line]
    assert not silent
