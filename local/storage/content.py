"""Object bytes: hashed while they stream, never whole in memory, on disk before anyone is told."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import google_crc32c

BLOCK = 1 << 20


class Hashes:
    """Size, MD5 and CRC32C of the bytes seen so far."""

    def __init__(self) -> None:
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        self._md5.update(data)
        self._crc32c = google_crc32c.extend(self._crc32c, data)

    @property
    def md5(self) -> str:
        """Base64 of the 16 bytes, as in `md5Hash`."""
        return base64.b64encode(self._md5.digest()).decode()

    @property
    def crc32c(self) -> str:
        """Base64 of the 4 bytes, big-endian, as in `crc32c`."""
        return base64.b64encode(self._crc32c.to_bytes(4, "big")).decode()


class Sink:
    """A file being written from `offset` on; what stood behind the offset is cut off."""

    def __init__(self, path: Path, hashes: Hashes) -> None:
        self.path = path
        self.hashes = hashes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, hashes.size)
        os.lseek(self._file, 0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        """Append, and count into the hashes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self.hashes.update(data)

    def cut(self, size: int) -> None:
        """Forget what stands behind `size`."""
        os.ftruncate(self._file, size)
        self.hashes = hashes_of(self.path, size)

    def sync(self) -> None:
        """Bring the bytes to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Give the file descriptor back; the file stays."""
        os.close(self._file)


async def pour(source: AsyncIterator[bytes], sink: Sink) -> None:
    """Write a stream into a sink, block by block, outside the event loop."""
    held = bytearray()
    async for piece in source:
        held += piece
        if len(held) >= BLOCK // 2:
            await asyncio.to_thread(sink.write, bytes(held))
            held.clear()
    if held:
        await asyncio.to_thread(sink.write, bytes(held))


def hashes_of(path: Path, size: int) -> Hashes:
    """Hash the first `size` bytes of a file again (after a restart in the middle of an upload)."""
    hashes = Hashes()
    if size == 0:
        return hashes
    with path.open("rb") as file:
        while hashes.size < size and (data := file.read(min(BLOCK, size - hashes.size))):
            hashes.update(data)
    return hashes


def sync_folder(path: Path) -> None:
    """Make renames and deletions in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
