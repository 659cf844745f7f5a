"""A file system that counts the bytes that are read from it."""

from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from datamodules.sources.location import Location


class CountingFile(MemoryFile):
    """Counts into its file system's `bytes_read`."""

    def read(self, size=-1):
        data = super().read(size)
        self.fs.bytes_read += len(data)
        return data

    def readinto(self, buffer):
        count = super().readinto(buffer)
        self.fs.bytes_read += count
        return count

    def readline(self, size=-1):
        data = super().readline(size)
        self.fs.bytes_read += len(data)
        return data


class CountingFileSystem(MemoryFileSystem):
    """Files in memory of its own, and how many bytes of them were read."""

    protocol = "counting"
    cachable = False

    def __init__(self):
        super().__init__()
        self.store = {}
        self.pseudo_dirs = [""]
        self.bytes_read = 0

    def _open(self, path, mode="rb", **_):
        file = CountingFile(self, path, self.store[path].getvalue() if mode == "rb" else b"")
        if mode == "rb":
            file.seek(0)
        return file

    def pipe_file(self, path, value, **_):
        self.store[path] = MemoryFile(self, path, value)


def counting(data: bytes, name: str) -> tuple[CountingFileSystem, Location]:
    """A file system that holds one file of that content, and where the file is."""
    fs = CountingFileSystem()
    fs.pipe_file(f"/{name}", data)
    return fs, Location(fs, f"/{name}")
