"""Shards that lie elsewhere: fetched whole on first use into a bounded cache on this machine.

Several processes may share a cache: one fetches, the others wait for it, and a shard has its name only when it is whole
and has the size and digest that index and manifest say. Where the cache is full, the shards that were not read for the
longest time make room; a download keeps its own from the start, by a partial file whose name tells the whole size. Reading
by index is left to `reading.py`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from datamodules.tarscan import MANIFEST_NAME, file_digest
from mrm.errors import ConfigError, ShardError

log = logging.getLogger(__name__)
# A closed list: fsspec also knows file systems that run commands or other people's code.
PROTOCOLS = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https", "memory")
TRIES = 3
TAG = 16  # digits before a shard's name
WAIT = 1.0  # seconds before the second try; twice as long before the next
_FRESH = 60  # seconds for which a shard that was used is not noted again


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a data set's path is a URL."""
    return "://" in os.fspath(path)


def check_url(url: str) -> None:
    """Refuses what is no plain URL of a file store.

    Raises:
        ShardError: naming the URL and the protocols known here.
    """
    if url.partition("://")[0] not in PROTOCOLS or "::" in url or ".." in url.split("/"):
        raise ShardError(f"{url}: is refused; give a URL of {', '.join(PROTOCOLS)} without `::` and `..`.")


@dataclass(frozen=True)
class ShardCache:
    """A folder of shards that were fetched.

    Args:
        folder: made when it is needed.
        limit: bytes that its shards may take together.
    """

    folder: Path
    limit: int

    def fetch(self, url: str, size: int, digest: str | None, version: str = "") -> Path:
        """The shard's local copy, fetched if it is not there.

        Args:
            url: of the shard.
            size: its bytes.
            digest: its sha256 in hex; None where nobody knows it.
            version: of the whole data set; tells copies apart where there is no digest.

        Raises:
            ShardError: naming the URL, if it cannot be fetched whole or does not fit.
        """
        tag = hashlib.sha256(f"{url} {size} {digest or version}".encode()).hexdigest()[:TAG]
        target = self.folder / f"{tag}-{url.rsplit('/', 1)[-1]}"
        if _use(target, size):
            return target
        if size > self.limit:
            raise ShardError(f"{url}: of {size} bytes does not fit data.cache_gb={self.limit / 1e9:g}; raise it.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / f".{tag}.lock").open("w")
        except OSError as error:
            raise ShardError(f"{self.folder}: cannot hold remote shards: {error}; set data.cache_dir.") from error
        with _locked(lock):
            if not _use(target, size):  # else somebody fetched it while this process waited
                self._fetch(url, size, digest, target)
        return target

    def _fetch(self, url: str, size: int, digest: str | None, target: Path) -> None:
        partial = target.with_name(f".{target.name}.{size}.partial")
        problem, tried = "", 0
        while tried < TRIES:
            try:
                self._reserve(partial, size)
                download(url, partial)
                problem = _problem(partial, size, digest)
                if not problem:
                    with partial.open("rb") as file:
                        os.fsync(file.fileno())
                    with self._evicting():  # who counts meanwhile would see neither name
                        os.replace(partial, target)
                    return
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    partial.unlink(missing_ok=True)
                    if self._evict_one():
                        continue  # room was made: no try is lost
                    raise ShardError(
                        f"{url}: no space left in {self.folder} and nothing there to remove; free some, or set data.cache_dir."
                    ) from error
                problem = f"{type(error).__name__}: {error}"
            finally:
                partial.unlink(missing_ok=True)
            tried += 1
            if tried < TRIES:
                log.warning("%s: %s; trying again.", url, problem)
                time.sleep(WAIT * 2 ** (tried - 1))
        raise ShardError(f"{url}: could not be fetched in {TRIES} tries: {problem}.")

    def _reserve(self, partial: Path, size: int) -> None:
        """Makes room for a download and keeps it; waits for other downloads, which hold none while they wait themselves."""
        partial.unlink(missing_ok=True)  # the shard's lock is ours: whoever left it is dead
        for wait in itertools.count():
            with self._evicting():
                under_way = self._under_way()
                if under_way + size <= self.limit:
                    shards = self._by_use()
                    over = sum(status.st_size for _, status in shards) + under_way + size - self.limit
                    for path, status in shards:
                        if over > 0:
                            path.unlink(missing_ok=True)  # whoever has it open goes on reading
                            over -= status.st_size
                    partial.touch()
                    return
            if not wait:
                log.info("%s: waiting for room: other downloads fill data.cache_gb=%g.", partial, self.limit / 1e9)
            time.sleep(WAIT)

    def _under_way(self) -> int:
        """Bytes that the downloads of all processes will take; removes what dead ones left. Under the lock of evicting."""
        total = 0
        for path in self.folder.glob(".*.partial"):
            size = path.name.rsplit(".", 2)[1]  # of .TAG-NAME.SIZE.partial
            if self._is_fetching(path.name[1 : 1 + TAG]):
                total += int(size) if size.isdecimal() else 0
            else:
                path.unlink(missing_ok=True)
        return total

    def _is_fetching(self, tag: str) -> bool:
        """Whether a process holds the shard's lock."""
        with (self.folder / f".{tag}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _evict_one(self) -> bool:
        """Removes the shard that was not used for the longest time; False where there is none."""
        with self._evicting():
            for path, _ in self._by_use():
                path.unlink(missing_ok=True)
                return True
        return False

    def _by_use(self) -> list[tuple[Path, os.stat_result]]:
        """The shards, first the one that was not used for the longest time."""
        shards = []
        for path in self.folder.glob("[!.]*"):
            with suppress(FileNotFoundError):  # removed by a person
                shards.append((path, path.stat()))
        return sorted(shards, key=lambda shard: shard[1].st_atime_ns)

    def _evicting(self) -> AbstractContextManager[None]:
        """What is counted and what makes room, by one process at a time."""
        return _locked((self.folder / ".evict.lock").open("w"))


@dataclass(frozen=True)
class RemoteShard:
    """A shard that is fetched when it is read first; its arguments are those of `ShardCache.fetch`."""

    url: str
    size: int
    digest: str | None
    cache: ShardCache
    version: str = ""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url

    def local(self) -> Path:
        """Its local copy; raises as `ShardCache.fetch`."""
        return self.cache.fetch(self.url, self.size, self.digest, self.version)


def read_remote(url: str) -> bytes:
    """The bytes of a small remote file, an index or a manifest.

    Raises:
        FileNotFoundError: if there is none.
        ShardError: if it cannot be read.
    """
    try:
        store, path = _store(url)
        return store.cat_file(path)
    except (FileNotFoundError, ShardError):
        raise
    except Exception as error:  # every store has errors of its own
        raise ShardError(f"{url}: cannot be read: {type(error).__name__}: {error}.") from error


def remote_digests(url: str) -> dict[str, str]:
    """Shard name -> sha256 of the manifest beside remote shards; empty where there is none."""
    try:
        entries = json.loads(read_remote(f"{url}/{MANIFEST_NAME}"))["shards"]
        return {entry["name"]: entry["sha256"] for entry in entries}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{url}/{MANIFEST_NAME}: not a manifest ({error!r}); copy the data set again.") from error


def download(url: str, target: Path) -> None:
    """Copies a remote file.

    Raises:
        OSError: if it fails.
        ShardError: for a protocol that is not known or not installed.
    """
    store, path = _store(url)
    try:
        store.get_file(path, str(target))
    except OSError:
        raise
    except Exception as error:  # every store has errors of its own
        raise OSError(f"{type(error).__name__}: {error}") from error


def _store(url: str) -> tuple[Any, str]:
    check_url(url)
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ShardError(f"{url}: {error}") from error


def _use(target: Path, size: int) -> bool:
    """Whether the shard is there; notes that it was used, for the choice of what makes room."""
    try:
        status = os.stat(target)
        if status.st_size != size:  # a machine that lost power can leave a name without its bytes
            return False
        if time.time() - status.st_atime > _FRESH:
            os.utime(target, ns=(time.time_ns(), status.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _problem(partial: Path, size: int, digest: str | None) -> str:
    found = partial.stat().st_size
    if found != size:
        return f"{found} bytes came, {size} were expected"
    if digest is not None and file_digest(partial) != digest:
        return "its sha256 differs from the manifest's"
    return ""


@contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the process ends, however it ends
        except OSError as error:
            folder = os.path.dirname(file.name)
            raise ShardError(f"{folder}: no locks ({error}); set data.cache_dir to a disk of this machine.") from error
        yield


def make_cache(folder: str | None, gigabytes: float) -> ShardCache:
    """The cache of the configuration; its default folder is the user's cache.

    Raises:
        ConfigError: for a size that holds nothing.
    """
    if not gigabytes > 0:
        raise ConfigError(f"data.cache_gb={gigabytes}: must be above 0.")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return ShardCache(Path(folder).expanduser() if folder else Path(home) / "mrm" / "shards", int(gigabytes * 1e9))
