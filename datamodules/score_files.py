"""Scores of pairs in JSON Lines: a line a pair in the pool's order, by whoever scored them.

    {"chosen": 1.25, "rejected": -0.5}

Both are of the published orientation. What could not be scored says so: {"unreadable": "why"}. Where a line has `key` or
`pair` too, as the files written here have both, they must be those of the pool's pair in its place. A field that is null is as if
it were not there, and other fields are ignored.

Dimension letters: P pairs.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from datamodules.ledger import Array
from datamodules.texts import Texts
from mrm.errors import ConfigError

_SCHEMA = pa.schema(
    [
        ("chosen", pa.float64()),
        ("rejected", pa.float64()),
        ("unreadable", pa.string()),
        ("key", pa.string()),
        ("pair", pa.int64()),
    ]
)
_MOST = float(np.finfo(np.float32).max)  # the spread of several passes is kept in 32 bits
_BLOCK = 1 << 24
_ALLOWED = '{"chosen": NUMBER, "rejected": NUMBER}, or {"unreadable": "why"}'


def read_scores(path: Path, keys: Texts, pairs: Array, *, form: str = "one line a pair") -> tuple[Array, Array, Array]:
    """The scores of one pass.

    Args:
        path: the file.
        keys: [P], the keys of the pool's pairs in order.
        pairs: int [P], their numbers within their samples.
        form: what lines the file must have, for the message where their number does not fit.

    Returns:
        float64 [P] of chosen, float64 [P] of rejected, NaN where unreadable; object [P], why, or "".

    Raises:
        ConfigError: for a file that cannot be read, has more or fewer lines than there are pairs, or has a line of another form;
            names the first such line.
    """
    if not path.is_file():
        raise ConfigError(f"scores: there is no file {path}.")
    table = _quickly(path, len(keys))
    if table is None:
        table = pa.Table.from_pylist(_by_line(path, len(keys), form), schema=_SCHEMA)
    _check_names(path, table, keys, pairs)
    chosen, rejected = (table[name].to_numpy().astype(np.float64) for name in ("chosen", "rejected"))
    reasons = np.full(len(keys), "", object)
    said = table["unreadable"].is_valid().to_numpy()
    reasons[said] = table["unreadable"].drop_null().to_pylist()
    return chosen, rejected, reasons


def write_scores(path: Path, keys: Texts, pairs: Array, chosen: Array, rejected: Array, reasons: Array) -> None:
    """Writes a pass, whole or not at all.

    Args:
        path: the file; an earlier one is replaced.
        keys, pairs: names of the pairs [P].
        chosen, rejected: float [P], finite where there is no reason.
        reasons: object [P].
    """
    sides = [
        side.astype(np.float64).astype(str) for side in (chosen, rejected)
    ]  # read again, they are the same to the bit
    columns = (keys.tolist(), pairs.tolist(), *sides, reasons)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w") as file:
            for key, pair, one, other, reason in zip(*columns, strict=True):  # keys hold no character to escape
                told = f'"unreadable": {json.dumps(reason)}' if reason else f'"chosen": {one}, "rejected": {other}'
                file.write(f'{{{told}, "key": "{key}", "pair": {pair}}}\n')
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _quickly(path: Path, pairs: int) -> pa.Table | None:
    """The table, if nothing is wrong with the file; who finds out what is wrong looks line by line."""
    options = arrow_json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    try:
        with path.open("rb") as file:
            lines, last = 0, b"\n"
            while block := file.read(_BLOCK):
                lines += block.count(b"\n")
                last = block[-1:]
        table = arrow_json.read_json(
            path, read_options=arrow_json.ReadOptions(block_size=_BLOCK), parse_options=options
        )
    except (pa.ArrowException, OSError):
        return None
    if len(table) != pairs or lines + (last != b"\n") != pairs:
        return None
    said = table["unreadable"].is_valid()
    if pc.any(pc.equal(table["unreadable"], "")).as_py():
        return None
    for name in ("chosen", "rejected"):
        usable = pc.less_equal(pc.abs(table[name]), _MOST).fill_null(False)  # NaN is not
        if not pc.all(pc.xor(usable, said)).as_py() or pc.any(pc.and_(said, table[name].is_valid())).as_py():
            return None
    return table


def _by_line(path: Path, pairs: int, form: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    number = written = 0  # lines, and those up to the last one that is not blank
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    written = number
                if number <= pairs:
                    rows.append(_row(f"{path}, line {number}", line))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"scores: {path} cannot be read: {error}.") from error
    if number != pairs:
        blank = f" ({number - written} of them blank, at the end)" if written < number else ""
        lacking = "" if written >= pairs else f": the first without a line is pair {written + 1}"
        raise ConfigError(
            f"scores: {path} has {number} lines{blank}, but the input has {pairs} pairs; it must have {form}, in the input's"
            f" order{lacking}."
        )
    return rows


def _row(place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        _refuse(place, "is empty" if not line.strip() else f"is not JSON: {error}")
    if not isinstance(row, dict):
        _refuse(place, "is no JSON object")
    named = {"key": row.get("key"), "pair": row.get("pair")}
    for name, kind in (("key", str), ("pair", int)):
        if named[name] is not None and type(named[name]) is not kind:
            told = json.dumps(named[name])[:80]
            _refuse(
                place, f"has {name}={told}, which names no pair of the input, and is left out where lines name none"
            )
    if row.get("unreadable") is not None:
        scored = any(row.get(name) is not None for name in ("chosen", "rejected"))
        if not isinstance(row["unreadable"], str) or not row["unreadable"] or scored:
            _refuse(place, "has `unreadable`, which must be a text and stand without scores")
        return {"chosen": None, "rejected": None, "unreadable": row["unreadable"], **named}
    return {name: _score(place, row, name) for name in ("chosen", "rejected")} | {"unreadable": None, **named}


def _score(place: str, row: dict[str, Any], name: str) -> float:
    if name not in row:
        _refuse(place, f"has no `{name}`, only {', '.join(map(str, row)) or 'nothing'}")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(place, f"has {name}={json.dumps(value)[:80]}, which is no number")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(place, f"has {name}={value}, which is not finite")
    if not abs(value) <= _MOST:
        _refuse(place, f"has {name}={str(value)[:40]}, which is beyond {_MOST:.3g}")
    return float(value)


def _refuse(place: str, problem: str) -> NoReturn:
    raise ConfigError(f"scores: {place}: {problem}; a line must be {_ALLOWED}.")


def _check_names(path: Path, table: pa.Table, keys: Texts, pairs: Array) -> None:
    """Lines that tell whose they are must stand in their place."""
    same = pc.and_kleene(  # false where one of both is another's, null where what there is is right
        pc.equal(table["key"].cast(pa.large_string()).combine_chunks(), keys.arrow()),
        pc.equal(table["pair"].combine_chunks(), pa.array(pairs, pa.int64())),
    )
    other = pc.fill_null(pc.invert(same), False).to_numpy(zero_copy_only=False)  # null where a line names nothing
    if other.any():
        at = int(np.flatnonzero(other)[0])
        key, pair = table["key"][at].as_py(), table["pair"][at].as_py()
        named = (key is not None, f"sample {key!r}"), (pair is not None, f"pair {pair}")
        found = ", ".join(text for given, text in named if given)
        raise ConfigError(
            f"scores: {path}, line {at + 1}: is of {found}, but there the input has {keys[at]!r}, pair {int(pairs[at])}; the"
            " scores are of another pool, or in another order. Without `key` and `pair` lines are taken as they stand."
        )
