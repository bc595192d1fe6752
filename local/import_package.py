"""A package of scope organization, read and never trusted: names, sizes, hashes, forms and rows are checked.

Nothing is unpacked to disk and no file is held in memory: blocks and single rows pass by.
"""

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = re.compile(r"(data|schema)/[a-z_]+\.json|data/[a-z_]+\.csv|processing\.json|index\.html|manifest\.json")
MANIFEST = "manifest.json"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MOST_FILES, SMALL_BYTES, ROW_BYTES, BLOCK = 1000, 16 * 2**20, 64 * 2**20, 2**20
DENSEST = 1032  # bytes that a byte of deflate can hold at most
TORN = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, OverflowError, struct.error, zlib.error)


class Refused(Exception):
    """The package cannot be imported; the message says what is wrong with it."""


def _no_constant(word: str) -> Any:
    raise ValueError(word)


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where} is not valid JSON in UTF-8") from error


class Package:
    """A package on disk. Opening checks its directory and its manifest; `verify` every byte. Raises Refused."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise Refused(f"there is no file {path}") from error
        except TORN as error:
            raise Refused(f"{path.name} is not a ZIP file that can be read") from error
        self._entries = self._directory(path.stat().st_size)
        self.manifest: dict[str, Any] = self._manifest()
        self._files = {entry["path"]: entry for entry in self.manifest["files"]}
        self._check_list()

    def __enter__(self) -> "Package":
        return self

    def __exit__(self, *_raised: object) -> None:
        self._archive.close()

    @property
    def organization_id(self) -> str:
        """The organization that it was made of."""
        return str(self.manifest["organizations"][0]["id"])

    @property
    def tables(self) -> list[str]:
        """The relations whose rows it holds."""
        return [name[len("data/") : -len(".json")] for name in self._files if name.startswith("data/")]

    def count(self, relation: str) -> int:
        """How many rows the manifest says that there are."""
        return int(self._files[f"data/{relation}.json"]["rows"])

    def schema(self, relation: str) -> Any:
        """The JSON Schema beside the rows; None when there is none."""
        name = f"schema/{relation}.json"
        return _parsed(self._small(name), name) if name in self._files else None

    def _directory(self, size: int) -> dict[str, zipfile.ZipInfo]:
        found = self._archive.infolist()
        if len(found) > MOST_FILES:
            raise Refused(f"there are more than {MOST_FILES} files in it")
        for info in found:
            if not NAME.fullmatch(info.filename):
                raise Refused(f"a file is called {info.filename!r}, which no export writes")
            if info.flag_bits & 1 or info.compress_type not in METHODS:
                raise Refused(f"{info.filename} is encrypted, or compressed in a way that no export uses")
            if info.file_size > DENSEST * (info.compress_size + 64):
                raise Refused(f"{info.filename} says that it holds more than it can")
        if len({info.filename for info in found}) < len(found):
            raise Refused("two files in it have the same name")
        if sum(info.compress_size for info in found) > size:
            raise Refused("files in it overlap")
        return {info.filename: info for info in found}

    def _manifest(self) -> dict[str, Any]:
        if MANIFEST not in self._entries:
            raise Refused("manifest.json is missing: this is no export")
        found = _parsed(self._small(MANIFEST), MANIFEST)
        try:
            scope, form = found["request"]["scope"], found["request"]["format"]
            known = len(found["organizations"]) == 1 and isinstance(found["organizations"][0]["id"], str)
            listed = {entry["path"]: (int(entry["bytes"]), str(entry["sha256"])) for entry in found["files"]}
            rows = [int(entry["rows"]) for entry in found["files"] if str(entry["path"]).startswith("data/")]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise Refused(f"manifest.json is not that of an export: {error!r}") from error
        if (scope, form) != ("organization", "json"):
            raise Refused(f"this is an export of scope {scope} as {form}; scope organization as json can be imported")
        if not known or len(listed) != len(found["files"]) or any(number < 0 for number in rows):
            raise Refused("manifest.json contradicts itself")
        return dict(found)

    def _check_list(self) -> None:
        """What is listed is there, and what is there is listed."""
        for name in sorted(set(self._files) - set(self._entries)):
            raise Refused(f"{name} is missing")
        for name in sorted(set(self._entries) - set(self._files) - {MANIFEST}):
            raise Refused(f"{name} does not stand in manifest.json")

    def verify(self) -> None:
        """Every file has the size and the hash that the manifest says."""
        for name, entry in self._files.items():
            digest, size = hashlib.sha256(), 0
            for block in self._blocks(name):
                digest.update(block)
                size += len(block)
                if size > int(entry["bytes"]):
                    raise Refused(f"{name} is longer than manifest.json says")
            if size != int(entry["bytes"]) or digest.hexdigest() != entry["sha256"]:
                raise Refused(f"{name} was altered: its hash is not that of manifest.json")

    def rows(self, relation: str, columns: tuple[str, ...]) -> Iterator[bytes]:
        """The rows of a table as JSON text, as they stand there, each with exactly these columns."""
        name = f"data/{relation}.json"
        number = 0
        for number, line in enumerate(self._lines(name), 1):
            row = _parsed(line, f"row {number} of {name}")
            if not isinstance(row, dict) or set(row) != set(columns):
                raise Refused(f"row {number} of {name} does not have the columns {', '.join(columns)}")
            if row.get("tenant_id") != self.organization_id:
                raise Refused(f"row {number} of {name} belongs to another organization")
            yield line
        if number != self.count(relation):
            raise Refused(f"{name} has {number} rows, manifest.json says {self.count(relation)}")

    def _lines(self, name: str) -> Iterator[bytes]:
        """What stands between [ and ]: a row a line, with commas between."""
        where = f"{name} is not an array with one row a line"
        try:
            with io.BufferedReader(self._archive.open(name), BLOCK) as file:  # type: ignore[type-var]
                first = file.readline(ROW_BYTES)
                if first == b"[]\n" and not file.read(1):
                    return
                if first != b"[\n":
                    raise Refused(where)
                more = True
                while (line := file.readline(ROW_BYTES)) != b"]\n":
                    if not line.endswith(b"\n") or not more:
                        raise Refused(where)
                    row = line[:-1]
                    more = row.endswith(b",")
                    yield row.removesuffix(b",")
                if more or file.read(1):
                    raise Refused(where)
        except TORN as error:
            raise Refused(f"{name} cannot be read: it is damaged") from error

    def _small(self, name: str) -> bytes:
        data = bytearray()
        for block in self._blocks(name):
            data += block
            if len(data) > SMALL_BYTES:
                raise Refused(f"{name} is too large")
        return bytes(data)

    def _blocks(self, name: str) -> Iterator[bytes]:
        try:
            with self._archive.open(name) as file:
                while block := file.read(BLOCK):
                    yield block
        except TORN as error:
            raise Refused(f"{name} cannot be read: it is damaged") from error
