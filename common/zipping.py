"""A ZIP written as a stream, in which a file may be joined from pieces that were compressed before, apart.

Raw deflate that ends with a sync flush ends at a whole byte and holds no last block: such pieces, one after the other,
are one stream, and joining them costs no compression. Memory holds a block at a time, however large the file.
Sources: RFC 1951; APPNOTE.TXT 6.3.10, .ZIP File Format Specification (zip64, data descriptors, names in UTF-8).
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from isal import isal_zlib

LEVEL = 1  # of ISA-L: as small as zlib at level 3, in an eighth of its time (measured on rows of JSON)
BROKEN: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub takes the class for an object
RAW = -15  # deflate without header and trailer, 32 KiB of window
FED, INFLATED = 64 * 1024, 1024 * 1024  # bytes into the inflater and out of it at once: a bomb fills no memory
STORED_AT_MOST = 0xFFFF  # of a block that is stored as it is
LARGE, MANY = 0xFFFFFFFF, 0xFFFF  # from here on a size or a number stands in a zip64 field
DEFLATED, STREAMED, NAME_IS_UTF8 = 8, 1 << 3, 1 << 11
V20, V45 = 20, 45  # what a reader must know: deflate, or zip64 as well
UNIX, PLAIN_FILE = 3 << 8, 0o100644 << 16
LOCAL, DESCRIPTOR, CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4sLQQ"), struct.Struct("<4s6H3L5H2L")
END, END64, LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")


class Target(Protocol):
    """Where bytes go: a file, or an upload."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class NotAPiece(ValueError):
    """The bytes are not raw deflate that another piece may follow."""


class Piece:
    """Compresses into `target` what later becomes a piece of a file. `size` counts the bytes that came in."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, RAW)
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if packed := self._deflate.compress(data):
            self._target.write(packed)

    def end(self) -> None:
        """End at a whole byte, so that another piece may follow."""
        self._target.write(self._deflate.flush(isal_zlib.Z_SYNC_FLUSH))


def stored(data: bytes, *, last: bool = False) -> bytes:
    """A piece that holds a few bytes as they are; the last one ends the stream. Raises ValueError over 65,535 bytes."""
    if len(data) > STORED_AT_MOST:
        raise ValueError(f"{len(data)} bytes are too many for one stored block")
    return struct.pack("<BHH", last, len(data), len(data) ^ 0xFFFF) + data


@dataclass(frozen=True)
class Written:
    """A file of the archive: where it begins, how large it is and packed, its checksums."""

    path: str
    offset: int
    size: int
    packed: int
    crc: int
    sha256: str
    flags: int = NAME_IS_UTF8


class Entry:
    """A file while it grows from pieces; what they hold is inflated on its way through, counted and hashed."""

    def __init__(self, pass_on: Callable[[bytes], None], seen: Callable[[bytes], object]) -> None:
        self._pass_on, self._seen = pass_on, seen
        self._digest = hashlib.sha256()
        self.size = self.packed = self.crc = 0

    def write(self, data: bytes) -> None:
        """A few bytes between pieces."""
        self._send(stored(data))
        self._count(data)

    def piece(self, blocks: Iterable[bytes]) -> int:
        """One piece, as `Piece` made it, in blocks of any size; how many bytes it held. Raises NotAPiece.

        What a block holds is looked at beside its way out and the next one's way in, on another processor.
        """
        before, inflate = self.size, isal_zlib.decompressobj(RAW)
        try:
            with ThreadPoolExecutor(1) as beside:
                looking: Future[None] | None = None
                for block in blocks:
                    if looking is not None:
                        looking.result()
                    looking = beside.submit(self._look, inflate, block)
                    self._send(block)
                if looking is not None:
                    looking.result()
            self._count(inflate.flush())
        except BROKEN as error:
            raise NotAPiece(str(error)) from error
        if inflate.eof:
            raise NotAPiece("a last block, after which nothing may follow")
        return self.size - before

    def _look(self, inflate: Any, block: bytes) -> None:
        for start in range(0, len(block), FED):
            self._count(inflate.decompress(block[start : start + FED], INFLATED))
            while inflate.unconsumed_tail:
                self._count(inflate.decompress(inflate.unconsumed_tail, INFLATED))

    def end(self) -> None:
        """End the stream."""
        self._send(stored(b"", last=True))

    @property
    def sha256(self) -> str:
        """The hash of the content, in hex."""
        return self._digest.hexdigest()

    def _send(self, packed: bytes) -> None:
        self.packed += len(packed)
        self._pass_on(packed)

    def _count(self, data: bytes) -> None:
        if data:
            self.size += len(data)
            self.crc = isal_zlib.crc32(data, self.crc)
            self._digest.update(data)
            self._seen(data)


class Archive:
    """A ZIP on its way into `target`; `close` writes the directory. `large` and `many` say when zip64 begins."""

    def __init__(self, target: Target, moment: datetime, *, large: int = LARGE, many: int = MANY) -> None:
        self._target, self._large, self._many = target, large, many
        self._at = 0
        self._time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
        self._date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
        self._files: list[Written] = []

    def add(self, path: str, content: bytes) -> Written:
        """A file that is at hand: its sizes and checksum stand in front of it."""
        deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, RAW)
        packed = deflate.compress(content) + deflate.flush()
        crc, sha256 = isal_zlib.crc32(content), hashlib.sha256(content).hexdigest()
        written = Written(path, self._at, len(content), len(packed), crc, sha256)
        if len(content) >= self._large or len(packed) >= self._large:
            raise ValueError(f"{path} is too large to be held in memory")
        self._write(self._local_header(written, V20, (crc, len(packed), len(content))) + packed)
        self._files.append(written)
        return written

    @contextmanager
    def file(self, path: str, seen: Callable[[bytes], object] = len) -> Iterator[Entry]:
        """A file from pieces; its sizes and checksum follow it. `seen` gets the content as it passes."""
        offset, entry, flags = self._at, Entry(self._write, seen), NAME_IS_UTF8 | STREAMED
        begun = Written(path, offset, 0, 0, 0, "", flags)
        sizes_follow = struct.pack("<HHQQ", 1, 16, 0, 0)
        self._write(self._local_header(begun, V45, (0, LARGE, LARGE), sizes_follow))
        yield entry
        entry.end()
        self._write(DESCRIPTOR.pack(b"PK\x07\x08", entry.crc, entry.packed, entry.size))
        self._files.append(Written(path, offset, entry.size, entry.packed, entry.crc, entry.sha256, flags))

    @property
    def last(self) -> Written:
        """The file that was ended last."""
        return self._files[-1]

    def close(self) -> None:
        """Write the directory; nothing comes after it."""
        start = self._at
        for written in self._files:
            self._write(self._central_header(written))
        size, number, end = self._at - start, len(self._files), self._at
        if number >= self._many or size >= self._large or start >= self._large:
            self._write(END64.pack(b"PK\x06\x06", END64.size - 12, UNIX | V45, V45, 0, 0, number, number, size, start))
            self._write(LOCATOR.pack(b"PK\x06\x07", 0, end, 1))
            number, size, start = MANY, LARGE, LARGE  # they stand in the record before
        self._write(END.pack(b"PK\x05\x06", 0, 0, number, number, size, start, 0))

    def _write(self, data: bytes) -> None:
        self._at += len(data)
        self._target.write(data)

    def _local_header(self, written: Written, needs: int, sizes: tuple[int, int, int], extra: bytes = b"") -> bytes:
        name = written.path.encode()
        fixed = (needs, written.flags, DEFLATED, self._time, self._date)
        return LOCAL.pack(b"PK\x03\x04", *fixed, *sizes, len(name), len(extra)) + name + extra

    def _central_header(self, written: Written) -> bytes:
        """What is too large for its field stands in a zip64 one, in this order."""
        name, sizes = written.path.encode(), (written.size, written.packed, written.offset)
        large = [value for value in sizes if value >= self._large]
        size, packed, offset = (LARGE if value >= self._large else value for value in sizes)
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        needs = V45 if large or written.flags & STREAMED else V20
        fixed = (UNIX | needs, needs, written.flags, DEFLATED, self._time, self._date, written.crc, packed, size)
        rest = (len(name), len(extra), 0, 0, 0, PLAIN_FILE, offset)
        return CENTRAL.pack(b"PK\x01\x02", *fixed, *rest) + name + extra
