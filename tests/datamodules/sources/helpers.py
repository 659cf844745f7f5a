"""Small files for the readers' tests."""

import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(colour: str = "red") -> bytes:
    """A tiny image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_jsonl(path: Path, records: list) -> Path:
    """Writes objects as JSON Lines; strings as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_math_v(folder: Path, questions: list[dict], answers: dict[str, list[dict]]) -> Path:
    """A MATH-V folder with one red picture for all questions."""
    write_jsonl(folder / "questions.jsonl", [{"image": "images/a.png", "options": [], **q} for q in questions])
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(png())
    for run, rows in answers.items():
        write_jsonl(folder / "outputs" / f"{run}.jsonl", rows)
    return folder


def make_mj_bench(folder: Path, records: list[dict], images: list[str]) -> Path:
    """An MJ-Bench folder; every named image has another colour."""
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate(images):
        (folder / "images" / name).write_bytes(png(f"rgb({number % 256},{number // 256},7)"))
    (folder / "captions.json").write_text(json.dumps(records))
    return folder


def hf_image(colour: str = "red", path: str | None = None) -> dict:
    """An image as the Hugging Face hub's Parquet files hold it."""
    return {"bytes": png(colour), "path": path}


def write_parquet(path: Path, rows: list[dict], **options) -> Path:
    """Writes rows as a Parquet file, column types from the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_json(path: Path, content: object) -> Path:
    """Writes one JSON value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Writes a zip file of the named contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files of the named contents, with the folders they need."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
