"""A ledger as a table, and the pool as a ledger says: `export` of `mrm.audit`.

For the commands, which compose: nothing in the rooms of `mrm/` imports this module.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from datamodules.curated import Written, write_pool
from datamodules.ledger import Array, Ledger
from datamodules.ledger_audit import find_ledgers, read_round, select
from datamodules.pair_pools import LLAMA_FACTORY, SHARDS, PairPool, ShardPool
from mrm.audit_config import ExportConfig
from mrm.audit_data import open_data
from mrm.audit_lines import check_output, print_lines
from mrm.audit_show import check_named
from mrm.cli import open_console
from mrm.errors import ConfigError, UnreadableSamplesError, suggest

TABLES = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}
FORMS = (*TABLES, LLAMA_FACTORY, SHARDS)
BLOCK = 1 << 16  # rows that are made Python objects at a time


@dataclass(frozen=True)
class ExportResult:
    """The output and how many pairs it has; `written` tells more of a pool."""

    path: Path
    pairs: int
    written: Written | None = None


def export(config: ExportConfig) -> ExportResult:
    """Writes a ledger as a table, or the pool as it says.

    Raises:
        ConfigError: for a form, round, decision or source that is not there, data that are not to be had, or an output in the way.
        UnreadableSamplesError: past `max_bad`; nothing is written.
    """
    folder = find_ledgers(config.run)
    form, output = _form(config), Path(config.output)
    if config.ledger is not None and config.round is not None:
        raise ConfigError("ledger, round: give one of both.")
    if config.ledger is not None and not Path(config.ledger).is_file():
        raise ConfigError(f"ledger={config.ledger!r}: there is no such file.")
    ledger = read_round(folder, config.round) if config.ledger is None else Ledger.read(config.ledger)
    check_named(ledger, config.decision, config.source)
    check_output(output, folder)
    rows = select(ledger, decision=config.decision, source=config.source)
    if form not in TABLES:
        return _export_pool(config, folder, ledger, rows, form, output)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet" and rows.all():
            ledger.write_file(output)
        else:
            _write_table(ledger.table().filter(pa.array(rows)), form, partial)
            partial.replace(output)
    except OSError as error:
        raise ConfigError(f"output={config.output!r}: cannot be written: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return ExportResult(output, int(rows.sum()))


def _form(config: ExportConfig) -> str:
    if config.form is None:
        endings = {**{ending: form for form, ending in TABLES.items()}, ".json": LLAMA_FACTORY, "": SHARDS}
        ending = Path(config.output).suffix
        if ending not in endings:
            raise ConfigError(
                f"output={config.output!r}: its ending {ending!r} tells no form; give form={'|'.join(FORMS)}."
            )
        return endings[ending]
    if config.form not in FORMS:
        raise ConfigError(f"form={config.form!r}: must be one of {', '.join(FORMS)}.{suggest(config.form, FORMS)}")
    return config.form


def _export_pool(
    config: ExportConfig, folder: Path, ledger: Ledger, rows: Array, form: str, output: Path
) -> ExportResult:
    used = rows & ledger.active
    if not used.any():
        raise ConfigError(f"output={config.output!r}: of the {int(rows.sum())} pairs asked for, none is in use.")
    pool = open_data(folder, ledger, config.data)
    images = output.with_name(f"{output.stem}_images")
    if form == LLAMA_FACTORY and _has_images(pool, used & (ledger.weight > 0)):
        check_output(images, folder)
    staging = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        extracted = staging / images.name
        target = staging / (output.name or "pool")
        written = write_pool(pool, ledger, form, target, chosen_rows=rows, images=extracted)
        _check_bad(written, len(pool), config.max_bad)
        if extracted.exists():
            extracted.rename(images)
        target.rename(output)
        written.path = output
    except OSError as error:
        raise ConfigError(f"output={config.output!r}: cannot be written: {error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ExportResult(output, written.pairs, written)


def _has_images(pool: PairPool, pairs: Array) -> bool:
    """Whether images leave shards with these pairs bool [P]; those of a file stay where they are."""
    return isinstance(pool, ShardPool) and bool(np.diff(pool.index.image_start)[pool.pair_sample[pairs]].any())


def _check_bad(written: Written, samples: int, max_bad: float) -> None:
    bad = written.unreadable
    if len(bad) > max_bad * samples:
        first = "; ".join(f"{key}: {why}" for key, why in list(bad.items())[:3])
        raise UnreadableSamplesError(
            f"{len(bad)} of {samples} samples cannot be written, more than max_bad={max_bad:g}: {first}. Mend them, or raise max_bad"
            " to go on without them."
        )


def _write_table(table: pa.Table, form: str, path: Path) -> None:
    """A row a pair; what is unknown (NaN) is null, or nothing in CSV."""
    for number, column in enumerate(table.columns):
        if pa.types.is_floating(column.type):
            told = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
            if form != "parquet":  # 0.1 in 32 bits is 0.1, not 0.10000000149
                told = told.cast(pa.string()).cast(pa.float64())
            table = table.set_column(number, table.schema.names[number], told)
    if form == "parquet":
        pq.write_table(table, path)
    elif form == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        encode = json.JSONEncoder(ensure_ascii=False).encode
        with path.open("w") as file:
            for batch in table.to_batches(max_chunksize=BLOCK):
                file.writelines(f"{encode(row)}\n" for row in batch.to_pylist())


def print_export(config: ExportConfig) -> None:
    """Exports and says what was written."""
    result = export(config)
    lines = [f"{result.pairs} pairs: {result.path}"]
    if result.written is not None:
        told = result.written
        lines[0] = f"{told.pairs} pairs ({told.flipped} flipped) in {told.samples} samples: {result.path}"
        if told.unreadable:
            first = "; ".join(f"{key}: {why}" for key, why in list(told.unreadable.items())[:3])
            lines.append(f"{len(told.unreadable)} samples could not be written, such as {first}")
        for number, what in (
            (told.weights_lost, "a weight that the form has no place for"),
            (told.strengths_lost, "a strength as published and none as written"),
        ):
            lines += [f"{number} pairs have {what}."] if number else []
    print_lines(open_console(), lines)
