"""Where the pairs of a run's or a curation's ledgers lie, for `mrm.audit`: as its folder remembers, or as a person says.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datamodules.dataset_spec import TRAINED
from datamodules.index import Index
from datamodules.ledger import Array, Ledger
from datamodules.ledger_audit import LEDGERS
from datamodules.pair_pools import PairPool, ShardPool, open_pool
from datamodules.remote import make_cache
from mrm.curate import MARKER
from mrm.errors import ConfigError, MrmError
from mrm.preference import PreferenceSample
from mrm.run_dirs import read_state


def open_data(folder: Path, ledger: Ledger, given: Any = None) -> PairPool:
    """The pool that a ledger is of.

    Args:
        folder: of the ledgers.
        ledger: whose pairs are wanted.
        given: where the data lie: a path, or for several data sets a mapping of their names to paths, also as text; None as
            the folder remembers.

    Raises:
        MrmError: where they are not to be had, or are other data; says what to give.
    """
    home = folder.parent if folder.name == LEDGERS else folder
    try:
        pool = _given(given) if given is not None else _remembered(home)
    except MrmError as error:
        hint = (
            ""
            if given is not None
            else " Say where they lie: data=DIR, or data='{NAME: DIR, ...}' for several data sets."
        )
        raise type(error)(f"the data of {home} cannot be opened: {error}{hint}") from error
    if pool.fingerprint != ledger.index_fingerprint or pool.n_pairs != len(ledger):
        raise ConfigError(
            f"the data ({pool.n_pairs} pairs, {pool.fingerprint[:12]}) are not those of the ledger ({len(ledger)} pairs,"
            f" {ledger.index_fingerprint[:12]}): they changed since, or data= names others (of a run, all its training sets by their"
            " names and in their order)."
        )
    return pool


def _given(given: Any) -> PairPool:
    try:
        found = yaml.safe_load(given) if isinstance(given, str) and given.lstrip().startswith("{") else given
    except yaml.YAMLError as error:
        raise ConfigError(f"data={given!r}: must be a path or a mapping of names to paths: {error}.") from error
    return (
        _joined({str(name): str(path) for name, path in found.items()}) if isinstance(found, dict) else open_pool(found)
    )


def _remembered(home: Path) -> PairPool:
    if (home / MARKER).is_file():
        try:
            place = json.loads((home / MARKER).read_text())["input"]
            return open_pool(place["path"], cache=make_cache(None, 100.0), media_dir=place["media_dir"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, MrmError):
                raise
            raise ConfigError(f"{home / MARKER} cannot be read: {error!r}.") from error
    datasets = read_state(home).get("datasets")
    if not isinstance(datasets, list):
        raise ConfigError(f"{home} does not say where its data lie.")
    return _joined({name: path for name, path, role in datasets if role in TRAINED})


def _joined(places: dict[str, str]) -> ShardPool:
    cache = make_cache(None, 100.0)
    return ShardPool(Index.concat({name: Index.load(path, cache) for name, path in places.items()}), ", ".join(places))


def samples_of(pool: PairPool, rows: Array) -> dict[int, PreferenceSample | MrmError]:
    """The samples of some pairs, by their number in the pool; what cannot be read is its error."""
    wanted = np.zeros(len(pool), bool)
    wanted[pool.pair_sample[rows]] = True
    return dict(pool.samples(wanted))
