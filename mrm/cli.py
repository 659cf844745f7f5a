"""What the commands share: composing the configuration, and telling errors in one clear message instead of a traceback."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar, cast, get_args, get_type_hints

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from rich.console import Console
from rich.logging import RichHandler
from transformers.utils import logging as transformers_logging

from mrm.config import RoundConfig, RunConfig, experiments_dir, register_schema, to_run_config
from mrm.construct_config import register_construct_schema
from mrm.errors import EXIT_BAD_INPUT, ConfigError, MrmError, exit_status, suggest
from mrm.keys_help import keys_help

WIDE = 200  # columns of a table that no terminal limits
LIST_ITEMS = {RoundConfig: "curation.schedule[*]"}  # lists of the schema
console = Console(stderr=True)
Settings = TypeVar("Settings")
Config = TypeVar("Config")


def open_console() -> Console:
    """Standard output, wide enough for a table where it goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def compose_run_config(overrides: Sequence[str]) -> RunConfig:
    """Composes a run as the command line does, for tests and notebooks.

    Raises:
        ConfigError: one clear message for anything that does not compose.
    """
    return compose_config(overrides, root="config", convert=to_run_config)


def compose_config(overrides: Sequence[str], *, root: str, convert: Callable[[DictConfig], Config]) -> Config:
    """Composes a configuration of any root.

    Within a command that Hydra composed, its search path holds: what --config-dir adds is found here too.

    Args:
        overrides: words of the command line.
        root: a yaml of experiments/.
        convert: makes the typed configuration of what was composed.

    Raises:
        ConfigError: one clear message for anything that does not compose.
    """
    _register_schemas()
    try:
        with _search_path():
            return convert(compose(root, overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(explain(error)) from error


def _search_path() -> AbstractContextManager[object]:
    """The one that there is already, which Hydra does not let be set a second time, else experiments/."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(str(experiments_dir()), version_base="1.3")


def hydra_command(
    task: Callable[[Config], Any],
    *,
    root: str,
    convert: Callable[[DictConfig], Config],
    gather: Callable[[DictConfig], None] | None = None,
) -> None:
    """Runs `task` with the configuration that the command line composes, once, or once a member with `-m`.

    Ends the process with status 2 and one message where the input is at fault, with 75 (EX_TEMPFAIL) where the work stopped half-way
    and the same call goes on; other errors keep their traceback. A
    member of a sweep that fails does not end the sweep: the failed ones are named at the end, with status 2.

    Args:
        task: what the command does.
        root, convert: as of `compose_config`.
        gather: gets each member of a sweep instead of `task`, to run them all afterwards; not where the command line chooses
            another of Hydra's launchers or sweepers, which run the members themselves.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints errors itself, with a traceback, before they get here
    set_up_logging()

    failed: list[str] = []
    if gather is not None:  # `gather` tells of each member as it begins and ends; Hydra's would tell of all at once
        logging.getLogger("hydra._internal.core_plugins.basic_launcher").setLevel(logging.WARNING)

    def member(cfg: DictConfig) -> None:
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if in_sweep and gather is not None and _is_plain_sweep():
            gather(cfg)
            return
        status = EXIT_BAD_INPUT
        try:
            task(convert(cfg))
        except MrmError as error:
            show_error(str(error))
            status = exit_status(error)
        except OmegaConfBaseException as error:
            show_error(explain(error))
        except Exception:
            if not in_sweep:
                raise
            console.print_exception()
        else:
            return
        if not in_sweep:
            sys.exit(status)
        failed.append(" ".join(HydraConfig.get().overrides.task))

    try:
        _register_schemas()
        hydra.main(version_base="1.3", config_path=str(experiments_dir()), config_name=root)(member)()
    except MrmError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:  # a key twice, or no yaml at all
        fail(explain(error))
    if failed:
        fail("\n".join([f"{len(failed)} member(s) of the sweep failed, see above:", *(f"  - {one}" for one in failed)]))


def _is_plain_sweep() -> bool:
    """Whether Hydra's own launcher and sweeper are chosen: every member is known beforehand, and runs on this machine."""
    chosen = HydraConfig.get()
    own = "hydra._internal.core_plugins."
    return str(chosen.launcher._target_).startswith(own) and str(chosen.sweeper._target_).startswith(own)


def _register_schemas() -> None:
    register_schema()
    register_construct_schema()


def settings_command(
    schema: type[Settings], task: Callable[[Settings], None], about: str, words: Sequence[str] | None = None
) -> None:
    """Runs `task` with settings given as `key=value` words; `--help` prints `about` and the keys, each with the comment
    beside its field.

    Ends the process with one message and status 2 where the input is at fault, 75 where the work stopped half-way and the same call goes
    on; other errors keep their traceback.

    Args:
        schema: the dataclass of the settings.
        task: what the command does.
        about: the text of `--help`.
        words: the command line; the process' own by default.
    """

    def usage() -> str:
        return f"{about.strip()}\n\n{keys_help(schema)}"

    words_command(partial(parse_settings, schema), task, usage, words)


def words_command(
    parse: Callable[[Sequence[str]], Settings],
    task: Callable[[Settings], None],
    usage: Callable[[], str],
    words: Sequence[str] | None = None,
) -> None:
    """`settings_command` for settings that no single dataclass holds.

    Ends the process with 75 where the work stopped half-way and the same call goes on.

    Args:
        parse: the settings of the words.
        task: what the command does.
        usage: gives the text of `--help`.
        words: the command line; the process' own by default.
    """
    set_up_logging()
    words = sys.argv[1:] if words is None else words
    if set(words) & {"-h", "--help"}:
        print(usage())
        return
    try:
        task(parse(words))
    except MrmError as error:
        show_error(str(error))
        sys.exit(exit_status(error))


def parse_settings(schema: type[Settings], words: Sequence[str]) -> Settings:
    """`key=value` words as an instance of the dataclass `schema`.

    A value is taken as it is written and converted to its field's type; as YAML, the name 2026_01_05 would be a number.

    Raises:
        ConfigError: for a word of another form, a key that is unknown, given twice or missing, or a value of a wrong type;
            names all such keys.
    """
    given = _split_words(words)
    optional = {key for key, hint in get_type_hints(schema).items() if type(None) in get_args(hint)}
    config = OmegaConf.structured(schema)
    problems = []
    for key, value in given.items():
        try:
            config[key] = None if value == "null" and key in optional else value
        except OmegaConfBaseException as error:
            problems.append(explain(error))
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            problems.append(f"{', '.join(missing)}: missing; add {' '.join(f'{key}=...' for key in missing)}.")
        if not problems:
            return cast(Settings, OmegaConf.to_object(config))
    except OmegaConfBaseException as error:
        problems.append(explain(error))
    raise ConfigError("\n".join(problems))


def _split_words(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ConfigError(f"{word!r}: must be of the form key=value.")
        if key in given:
            raise ConfigError(f"{key}: is given twice, as {given[key]!r} and as {value!r}; leave one out.")
        given[key] = value
    return given


def set_up_logging() -> None:
    """One line an event, through rich, so that lines do not break a progress bar."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        datefmt="[%X]",
        handlers=[RichHandler(show_path=False, console=console)],
        force=True,
    )
    transformers_logging.disable_progress_bar()  # of loading and writing weights; downloads show their own
    for noisy in (
        "httpx",
        "httpx2",
        "datamodules.prepare",
        "alembic",
        "mlflow",
        "matplotlib",
        "git",
        "lightning.pytorch.utilities.rank_zero",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def fail(message: str) -> None:
    """Prints the one message and ends the process."""
    show_error(message)
    sys.exit(EXIT_BAD_INPUT)


def show_error(message: str) -> None:
    """Prints the one message."""
    console.print("Error:", style="bold red", end=" ")
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def explain(error: BaseException) -> str:
    """What is wrong with a configuration that does not compose, where, and what is allowed."""
    beneath = error.__cause__ or error.__context__
    told = isinstance(error, OmegaConfBaseException) or not isinstance(beneath, OmegaConfBaseException)
    cause = error if told else beneath
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = sorted(error.options)
        return f"{group}={name}: there is no such choice; known: {', '.join(known)}.{suggest(name, known)}"
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        known = _known_keys(cause)
        full_key = _full_path(cause)
        where = f" in {full_key.rpartition('.')[0]}" if "." in full_key else ""
        return f"{full_key}: there is no such key{where}; known: {', '.join(known)}.{suggest(str(cause.key), known)}{_belongs_to(error)}"
    if isinstance(cause, OmegaConfBaseException):
        path = _full_path(cause) or "configuration"
        if "is not a subclass of" in str(cause):
            return f"{path}: a new entry cannot be added on the command line; write it in a yaml.{_belongs_to(error)}"
        return f"{path}: {_first_line(cause)}.{_belongs_to(error)}"
    if match := re.search(r"Could not override '([^'@]+)[^']*'\. No match in the defaults list", str(error)):
        known = sorted(path.name for path in experiments_dir().iterdir() if path.is_dir())
        return f"{match[1]}: there is no such group; known: {', '.join(known)}.{suggest(match[1], known)}{_belongs_to(error)}"
    return re.sub(r"\s*\nSee https://hydra\S* for details", "", str(error))


def _full_path(error: OmegaConfBaseException) -> str:
    """The dotted path at fault; a list's item that is merged as a whole knows nothing of the list."""
    path = str(error.full_key or "")
    inside = LIST_ITEMS.get(error.object_type) if error.object_type else None
    return f"{inside}.{path}" if inside and "." not in path else path


def _known_keys(error: OmegaConfBaseException) -> list[str]:
    """The keys that would have been right at the place of the error."""
    if dataclasses.is_dataclass(error.object_type):
        names: Iterable[Any] = (f.name for f in dataclasses.fields(error.object_type))
    else:
        parent = error.parent_node
        names = parent.keys() if isinstance(parent, DictConfig) else ()
    return sorted({str(name) for name in names})


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _belongs_to(error: BaseException) -> str:
    """The override or file at fault, where Hydra's message names it."""
    match = re.match(r"Error merging override (.*)", str(error)) or re.match(r"In '(.*?)': ", str(error))
    return f" (from {match[1]})" if match else ""
