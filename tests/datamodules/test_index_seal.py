"""The seal: a file's digest inside itself."""

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules import index_seal
from datamodules.index_seal import SEAL, UNSEALED, is_sealed, seal, seal_holds


def sealed_file(path: Path) -> bytes:
    table = pa.table({"number": list(range(1000))}).replace_schema_metadata({SEAL: UNSEALED})
    pq.write_table(table, path)
    seal(path)
    return path.read_bytes()


def test_seal_is_the_digest_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    data = sealed_file(tmp_path / "x")
    found = pq.read_metadata(tmp_path / "x").metadata[SEAL.encode()].removeprefix(b"sealed by sha256:")
    assert hashlib.sha256(data.replace(found, b"0" * 64)).hexdigest() == found.decode()
    assert pq.read_table(tmp_path / "x")["number"].to_pylist() == list(range(1000))


def test_seal_holds_in_pieces_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sealed_file(tmp_path / "x")
    monkeypatch.setattr(index_seal, "_PIECE", 7)
    assert seal_holds(io.BytesIO(data)) and seal_holds(pa.BufferReader(data))


def test_seal_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    data = sealed_file(tmp_path / "x")
    for at in range(len(data)):
        assert not seal_holds(io.BytesIO(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])), at


@pytest.mark.parametrize("data", [b"", b"PAR1", b"\xff" * 100, bytes(100), b"sealed by sha256:" + bytes(8)])
def test_is_sealed_of_other_files_is_false(data: bytes) -> None:
    assert not is_sealed(io.BytesIO(data)) and not seal_holds(io.BytesIO(data))
