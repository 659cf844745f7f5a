"""Reading from a web server that, like the simplest ones, only sends whole files."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datamodules.sources import get_source
from datamodules.sources.location import REMOTE_BLOCK
from mrm.errors import ConfigError
from mrm.preference import PreferenceSample
from tests.datamodules.sources.helpers import png, write_files, write_jsonl

pytest.importorskip("aiohttp")
RECORD = {"prompt": "<image>Q", "images": ["images/a.png"], "chosen": "a", "rejected": "b"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_read_file_at_an_address_with_its_images(tmp_path, address):
    write_files(tmp_path, {"images/a.png": png()})
    write_jsonl(tmp_path / "pairs.jsonl", [RECORD, {**RECORD, "images": ["images/none.png"]}])
    good, bad = get_source("jsonl")(f"{address}/pairs.jsonl")
    assert isinstance(good, PreferenceSample) and good.images == (png(),)
    assert bad.reason == "image missing"


def test_read_missing_address_is_one_clear_error(address):
    with pytest.raises(ConfigError, match="no file or folder http://127.0.0.1:.*/none.jsonl"):
        get_source("jsonl")(f"{address}/none.jsonl")


def test_read_parquet_needs_a_server_that_sends_parts(tmp_path, address):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(4 * REMOTE_BLOCK) + b"PAR1")
    with pytest.raises(ConfigError, match="a.parquet is no whole Parquet file"):
        get_source("rlaif_v")(f"{address}/a.parquet")
