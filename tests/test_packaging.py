"""The package list in setup.cfg, the pinned versions, and the configuration's place."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from mrm.config import experiments_dir

ROOT = Path(__file__).parent.parent


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_setup_lists_every_package() -> None:
    listed = set(setup()["options"]["packages"].split())
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("mrm", "datamodules", "callbacks")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found | {"mrm.experiments"}


def test_setup_version_is_the_packages() -> None:
    import mrm

    assert setup()["metadata"]["version"] == mrm.__version__


def test_constraints_pin_every_requirement_and_no_bad_release() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M))
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    options = setup()
    lines = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    for line in "\n".join(lines).splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"[\w-]+", line)[0] in pinned, line  # type: ignore[index]
    assert pinned["torch"] == "2.13.0"
    assert {pinned["lightning"], pinned["pytorch-lightning"]}.isdisjoint({"2.6.2", "2.6.3"})


def test_experiments_dir_holds_the_root_config() -> None:
    assert (experiments_dir() / "config.yaml").is_file()


def test_package_data_holds_every_template() -> None:
    data = setup()["options.package_data"]
    listed = {
        path for package, patterns in data.items() for pattern in patterns.split() for path in _files(package, pattern)
    }
    templates = {path for top in ("mrm", "datamodules", "callbacks") for path in (ROOT / top).rglob("*.j2")}
    assert templates and templates <= listed


def _files(package: str, pattern: str) -> list[Path]:
    folder = ROOT / package.removeprefix("mrm.") if package == "mrm.experiments" else ROOT / package.replace(".", "/")
    return list(folder.glob(pattern))
