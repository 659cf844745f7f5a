"""Remote shards: whole in the cache or not at all, fetched once, within its limit."""

import errno
import fcntl
import functools
import http.server
import multiprocessing
import os
import shutil
import threading
from pathlib import Path

import fsspec
import pytest

from datamodules import remote
from datamodules.index import INDEX_NAME, Index
from datamodules.preference_datamodule import DatasetSpec, PreferenceDataModule
from datamodules.reading import read_sample
from datamodules.remote import ShardCache, make_cache
from mrm.errors import ConfigError, ShardError
from tests.datamodules.making import ToyEncoder, make_dataset, make_image, make_sample


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(remote, "WAIT", 0.01)


@pytest.fixture
def samples():
    return [make_sample(f"k{n}", images=[make_image(n)]) for n in range(6)]


@pytest.fixture
def url(tmp_path: Path, samples):
    """Three shards in fsspec's memory."""
    make_dataset(tmp_path / "set", samples, max_samples=2)
    store = fsspec.filesystem("memory")
    for path in (tmp_path / "set").iterdir():
        store.pipe_file(f"/made/{path.name}", path.read_bytes())
    yield "memory://made"
    store.rm("/made", recursive=True)


def cache_of(tmp_path: Path, limit: int = 10**9) -> ShardCache:
    return ShardCache(tmp_path / "cache", limit)


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name.split("-", 1)[1] for path in (tmp_path / "cache").glob("[!.]*"))


def test_index_load_remote_reads_as_local_and_fetches_only_what_is_read(tmp_path, url, samples):
    index = Index.load(url, cache_of(tmp_path))
    assert not (tmp_path / "cache").exists()
    assert read_sample(index, 3) == samples[3]
    assert kept(tmp_path) == ["shard-000001.tar"]
    assert [read_sample(index, row) for row in range(6)] == samples
    assert index.fingerprint == Index.load(tmp_path / "set").fingerprint


def test_fetch_again_downloads_nothing(tmp_path, url, monkeypatch):
    read_sample(Index.load(url, cache_of(tmp_path)), 0)
    monkeypatch.setattr(remote, "download", None)
    read_sample(Index.load(url, cache_of(tmp_path)), 0)


def test_fetch_over_the_limit_removes_what_was_not_used_for_longest(tmp_path, url):
    size = (tmp_path / "set/shard-000000.tar").stat().st_size
    index = Index.load(url, cache_of(tmp_path, 2 * size + size // 2))
    for row in (0, 2):
        read_sample(index, row)
    for path in (tmp_path / "cache").glob("[!.]*"):  # the first was used after the second
        age = 1000 if "000000" in path.name else 2000
        os.utime(path, ns=(path.stat().st_mtime_ns - age * 10**9, path.stat().st_mtime_ns))
    read_sample(index, 4)
    assert kept(tmp_path) == ["shard-000000.tar", "shard-000002.tar"]
    assert read_sample(index, 2).key == "k2"  # comes again


def test_fetch_shard_larger_than_the_cache_says_what_to_raise(tmp_path, url):
    with pytest.raises(ShardError, match=r"memory://made/shard-000000\.tar: of \d+ bytes does not fit data\.cache_gb"):
        read_sample(Index.load(url, cache_of(tmp_path, 100)), 0)


@pytest.mark.parametrize("harm", ["cut", "flipped", "error"])
def test_fetch_interrupted_download_is_tried_again(tmp_path, url, samples, monkeypatch, harm):
    real, tries = remote.download, []

    def flaky(address, target):
        tries.append(address)
        if len(tries) < 3 and harm == "error":
            raise ConnectionResetError("gone")
        real(address, target)
        if len(tries) < 3:
            data = target.read_bytes()
            target.write_bytes(data[:-100] if harm == "cut" else b"x" + data[1:])

    monkeypatch.setattr(remote, "download", flaky)
    assert read_sample(Index.load(url, cache_of(tmp_path)), 0) == samples[0]
    assert len(tries) == 3


def test_fetch_that_never_comes_whole_is_named_and_leaves_nothing(tmp_path, url, monkeypatch):
    monkeypatch.setattr(remote, "download", lambda address, target: target.write_bytes(b"half"))
    with pytest.raises(ShardError, match=r"shard-000000\.tar: could not be fetched in 3 tries: 4 bytes came, \d+ were"):
        read_sample(Index.load(url, cache_of(tmp_path)), 0)
    assert kept(tmp_path) == [] and not list((tmp_path / "cache").glob("*.partial"))


def test_fetch_full_disk_makes_room_and_where_it_cannot_says_so(tmp_path, url, monkeypatch):
    index = Index.load(url, cache_of(tmp_path))
    read_sample(index, 0)
    real = remote.download

    def full(address, target):
        if kept(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(address, target)

    monkeypatch.setattr(remote, "download", full)
    assert read_sample(index, 2).key == "k2"
    assert kept(tmp_path) == ["shard-000001.tar"]

    def always(address, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(remote, "download", always)
    with pytest.raises(ShardError, match="no space left in .*cache and nothing there to remove.*data.cache_dir"):
        read_sample(index, 4)


@pytest.mark.parametrize("harm", ["no index", "bad index", "no such place", "bad manifest"])
def test_index_load_remote_harm_is_named(tmp_path, url, harm):
    store = fsspec.filesystem("memory")
    if harm == "no index":
        store.rm(f"/made/{INDEX_NAME}")
    elif harm == "bad index":
        store.pipe_file(f"/made/{INDEX_NAME}", b"PAR1")
    elif harm == "bad manifest":
        store.pipe_file("/made/manifest.json", b"{}")
    with pytest.raises(ShardError, match="memory://made|memory://nowhere"):
        Index.load("memory://nowhere" if harm == "no such place" else url, cache_of(tmp_path))


@pytest.mark.parametrize(
    "url",
    ["pipe://ls", "ssh://host/set", "file:///etc", "zip://a::memory://b", "s3://bucket/../other", "github://a:b@c/d"],
)
def test_index_load_other_protocols_are_refused(tmp_path, url):
    with pytest.raises(ShardError, match="is refused; give a URL of s3, gs"):
        Index.load(url, cache_of(tmp_path))


def test_make_cache_size_must_hold_something(tmp_path):
    assert make_cache(str(tmp_path), 2.5) == ShardCache(tmp_path, 2_500_000_000)
    with pytest.raises(ConfigError, match="cache_gb=0"):
        make_cache(None, 0)


class Server(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        Server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def loopback(tmp_path: Path, samples):
    make_dataset(tmp_path / "set", samples, max_samples=2)
    Server.asked = []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, directory=str(tmp_path / "set"))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def _read_all(url: str, folder: str, answers) -> None:
    index = Index.load(url, ShardCache(Path(folder), 10**9))
    answers.put([read_sample(index, row).key for row in range(len(index))])


def test_several_processes_fetch_each_shard_once(tmp_path, loopback):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    readers = [context.Process(target=_read_all, args=(loopback, str(tmp_path / "cache"), answers)) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert [answers.get(timeout=120) for _ in readers] == [[f"k{n}" for n in range(6)]] * 3
    for reader in readers:
        reader.join()
    shards = [path for path in Server.asked if path.endswith(".tar")]
    assert sorted(shards) == [f"/shard-00000{n}.tar" for n in range(3)]


def test_workers_read_remote_shards(tmp_path, loopback):
    module = PreferenceDataModule(
        [DatasetSpec("far", loopback, "test")],
        ToyEncoder(),
        ledger_dir=None,
        batch_size=2,
        score_batch_size=2,
        row_tokens=None,
        num_workers=2,
        seed=0,
        cache=cache_of(tmp_path),
    )
    module.setup("test")
    (loader,) = module.test_dataloader()
    assert [key for batch in loader for key in batch.keys] == [f"k{n}" for n in range(6)]


def test_remote_shard_that_is_gone_is_named(tmp_path, loopback):
    index = Index.load(loopback, cache_of(tmp_path))
    shutil.rmtree(tmp_path / "set")
    with pytest.raises(ShardError, match=r"127\.0\.0\.1:\d+/shard-000000\.tar: could not be fetched in 3 tries"):
        read_sample(index, 0)


def open_files_of(folder: Path) -> list[str]:
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    found = [os.readlink(link) for link in links if link.is_symlink()]
    return [name for name in found if name.startswith(str(folder))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which files are open")
def test_evicted_shard_is_closed_and_gives_its_room_back(tmp_path, url):
    size = max(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
    index = Index.load(url, cache_of(tmp_path, int(1.5 * size)))
    for row in range(6):
        read_sample(index, row)
    assert len(kept(tmp_path)) == 1
    assert [name for name in open_files_of(tmp_path / "cache") if name.endswith("(deleted)")] == []


def test_cached_shard_that_was_cut_is_fetched_again(tmp_path, url, samples):
    read_sample(Index.load(url, cache_of(tmp_path)), 0)
    (cached,) = (tmp_path / "cache").glob("[!.]*")
    cached.write_bytes(b"")
    assert read_sample(Index.load(url, cache_of(tmp_path)), 0) == samples[0]


def test_cache_that_cannot_be_made_is_named(tmp_path, url):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ShardError, match="cannot hold remote shards.*data.cache_dir"):
        read_sample(Index.load(url, cache_of(tmp_path)), 0)


def replace_set(tmp_path: Path, samples) -> None:
    """Another data set of the same sizes at the same address."""
    make_dataset(tmp_path / "other", samples, max_samples=2)
    store = fsspec.filesystem("memory")
    for path in (tmp_path / "other").iterdir():
        store.pipe_file(f"/made/{path.name}", path.read_bytes())
    sizes = [[path.stat().st_size for path in sorted((tmp_path / name).glob("*.tar"))] for name in ("set", "other")]
    assert sizes[0] == sizes[1]


def test_changed_set_of_the_same_sizes_without_a_manifest_is_fetched_again(tmp_path, url, samples):
    store = fsspec.filesystem("memory")
    store.rm("/made/manifest.json")
    assert read_sample(Index.load(url, cache_of(tmp_path)), 0) == samples[0]
    others = [make_sample(f"j{n}", images=sample.images) for n, sample in enumerate(samples)]
    replace_set(tmp_path, others)
    store.rm("/made/manifest.json")
    assert read_sample(Index.load(url, cache_of(tmp_path)), 0) == others[0]


def hold_download(folder: Path, tag: str, size: int):
    """As another process that has begun to fetch a shard of that size: its lock, and an empty partial."""
    folder.mkdir(exist_ok=True)
    lock = (folder / f".{tag}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / f".{tag}-far.tar.{size}.partial").touch()
    return lock


def test_fetch_counts_the_whole_size_of_what_others_are_fetching(tmp_path, url):
    size = max(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
    index = Index.load(url, cache_of(tmp_path, 3 * size))
    for row in (0, 2):
        read_sample(index, row)
    lock = hold_download(tmp_path / "cache", "a" * 16, size)
    read_sample(index, 4)
    lock.close()
    assert len(kept(tmp_path)) == 2


def test_fetch_waits_while_others_fill_the_cache_and_evicts_nothing_in_vain(tmp_path, url, monkeypatch):
    size = max(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
    index = Index.load(url, cache_of(tmp_path, 2 * size))
    read_sample(index, 0)
    lock = hold_download(tmp_path / "cache", "a" * 16, 2 * size)
    waits = []

    def wait(seconds):
        waits.append(kept(tmp_path))
        if len(waits) == 3:
            lock.close()  # the other process died

    monkeypatch.setattr(remote.time, "sleep", wait)
    assert read_sample(index, 2).key == "k2"
    assert waits == [["shard-000000.tar"]] * 3
    assert kept(tmp_path) == ["shard-000000.tar", "shard-000001.tar"]


@pytest.mark.parametrize("name", [".{}-far.tar.1000.partial", ".{}-far.tar.partial"])
def test_fetch_removes_partials_of_dead_processes(tmp_path, url, name):
    left = tmp_path / "cache" / name.format("b" * 16)
    left.parent.mkdir()
    left.write_bytes(b"half")
    read_sample(Index.load(url, cache_of(tmp_path)), 0)
    assert not left.exists()


def test_fetch_leaves_partials_of_living_processes(tmp_path, url):
    with hold_download(tmp_path / "cache", "a" * 16, 1000):
        read_sample(Index.load(url, cache_of(tmp_path)), 0)
        assert [path.name for path in (tmp_path / "cache").glob("*.partial")] == [f".{'a' * 16}-far.tar.1000.partial"]


def test_cache_on_a_file_system_without_locks_says_what_to_set(tmp_path, url, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(remote.fcntl, "flock", flock)
    with pytest.raises(ShardError, match=r"cache: no locks .*No locks available.*set data\.cache_dir"):
        read_sample(Index.load(url, cache_of(tmp_path)), 0)
