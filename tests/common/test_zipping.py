"""The streamed ZIP: pieces that were compressed apart make one file that every reader understands."""

import io
import shutil
import subprocess
import tracemalloc
import zipfile
import zlib
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.zipping import Archive, NotAPiece, Piece, stored

MOMENT = datetime(2026, 11, 22, 23, 59, 58, tzinfo=UTC)


class Buffer(bytearray):
    """A target in memory."""

    def write(self, data: bytes, /) -> None:
        self.extend(data)


def piece(*contents: bytes) -> bytes:
    target = Buffer()
    made = Piece(target)
    for content in contents:
        made.write(content)
    made.end()
    assert made.size == sum(map(len, contents))
    return bytes(target)


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def opened(target: Buffer) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(target))


def test_a_file_from_pieces():
    target, seen = Buffer(), []
    archive = Archive(target, MOMENT)
    with archive.file("data/tåsks.json", seen.append) as entry:
        entry.write(b"[\n")
        assert entry.piece([piece(b"1,\n2", b",\n3")]) == 7
        entry.write(b",\n")
        assert entry.piece([piece(b"4")]) == 1
        assert entry.piece([piece()]) == 0
        entry.write(b"\n]\n")
    archive.add("readme", b"hello")
    archive.close()

    found = opened(target)
    content = b"[\n1,\n2,\n3,\n4\n]\n"
    assert found.testzip() is None
    assert found.namelist() == ["data/tåsks.json", "readme"]
    assert (found.read("data/tåsks.json"), found.read("readme")) == (content, b"hello")
    assert b"".join(seen) == content
    info = found.getinfo("data/tåsks.json")
    assert (info.date_time, info.external_attr >> 16) == ((2026, 11, 22, 23, 59, 58), 0o100644)
    written = archive._files[0]
    assert (written.size, written.sha256, written.crc) == (len(content), sha256(content).hexdigest(), info.CRC)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.binary(max_size=5000), max_size=4), st.integers(1, 5000)), max_size=5),
    st.integers(1, 1000),
)
def test_any_pieces_in_any_blocks(parts, times):
    target = Buffer()
    archive = Archive(target, MOMENT)
    expected = b""
    with archive.file("all") as entry:
        for contents, size in parts:
            content = b"".join(contents) * times
            entry.piece(blocks(piece(content), size))
            expected += content
    archive.close()

    assert opened(target).read("all") == expected
    assert archive.last.sha256 == sha256(expected).hexdigest()


def test_zip64_where_a_size_or_a_number_asks_for_it():
    target = Buffer()
    archive = Archive(target, MOMENT, large=500, many=3)
    with archive.file("large") as entry:
        entry.piece([piece(bytes(range(256)) * 40)])
    for number in range(5):
        archive.add(f"{number}", b"%d" % number)
    archive.close()

    found = opened(target)
    assert b"PK\x06\x06" in target
    assert b"PK\x06\x07" in target
    assert found.testzip() is None
    assert found.getinfo("large").file_size == 256 * 40
    assert found.getinfo("4").header_offset > 500
    assert [found.read(f"{number}") for number in range(5)] == [b"%d" % number for number in range(5)]


@pytest.mark.parametrize("tool", ["unzip", "7z", "bsdtar"])
def test_other_programs_read_it(tool, tmp_path):
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    path = tmp_path / "all.zip"
    with path.open("wb") as target:
        archive = Archive(target, MOMENT, large=1000, many=2)
        with archive.file("data/großes.json") as entry:
            entry.write(b"[")
            entry.piece(blocks(piece(b"x" * 100_000), 7))
            entry.write(b"]")
        archive.add("b", b"b")
        archive.add("c", b"c")
        archive.close()
    commands = {"unzip": ["-tq"], "7z": ["t"], "bsdtar": ["-xf"]}
    subprocess.run([tool, *commands[tool], path], check=True, cwd=tmp_path, capture_output=True)


class Sparse:
    """A file in which zeros take no room."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def write(self, data: bytes, /) -> None:
        if data.count(0) == len(data):
            self.file.seek(len(data), io.SEEK_CUR)
        else:
            self.file.write(data)


def test_more_than_four_gibibytes(tmp_path):
    """A file that is larger when inflated, one that is larger packed (a hole, which nobody inflates), one behind."""
    target = Sparse(tmp_path / "large.zip")
    archive = Archive(target, MOMENT)
    with archive.file("inflated") as entry:
        zeros = piece(bytes(64 << 20))
        for _ in range(65):
            entry.piece([zeros])
    with archive.file("packed") as entry:
        for _ in range(65):
            entry._send(bytes(64 << 20))
    archive.add("behind", b"found")
    archive.close()
    target.file.close()

    with zipfile.ZipFile(tmp_path / "large.zip") as found:
        assert found.getinfo("inflated").file_size == found.getinfo("packed").compress_size - 5 == 65 << 26
        assert found.getinfo("behind").header_offset > 1 << 32
        assert found.read("behind") == b"found"
        with found.open("inflated") as inflated:
            assert inflated.read(1000) == bytes(1000)


def test_what_is_no_piece_is_refused():
    whole = zlib.compress(b"x" * 1000, wbits=-15)
    for broken in ([whole], [b"\xff" * 100], [piece(b"a") + stored(b"", last=True)]):
        archive = Archive(Buffer(), MOMENT)
        with pytest.raises(NotAPiece), archive.file("x") as entry:
            entry.piece(broken)


def test_a_bomb_fills_no_memory():
    bomb = piece(*[bytes(1 << 20)] * 200)
    assert len(bomb) < 1 << 21
    tracemalloc.start()
    with Archive(Buffer(), MOMENT).file("bomb") as entry:
        assert entry.piece([bomb]) == 200 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 16 << 20


def test_few_bytes_are_stored_as_they_are():
    assert zlib.decompress(stored(b"abc") + stored(b"def", last=True), wbits=-15) == b"abcdef"
    with pytest.raises(ValueError, match="too many"):
        stored(bytes(70_000))
