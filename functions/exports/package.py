"""The package: one ZIP, written as a stream. Data, schemas, what the law wants told, a page for people, the manifest.

Memory holds one block of data at a time, and the first rows of each table for the page.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from common.register import Table, register
from common.storage import Sink
from functions.exports import overview
from functions.exports.copying import Copy, copies
from functions.exports.queries import Part

SHOWN_BYTES = 128 * 1024  # of each table on the page
COMPRESSION = 3  # of zlib: an eighth larger than with the default, in a third of the time (measured)
Blocks = Callable[[str], Iterable[bytes]]
TYPES = {
    "uuid": {"type": ["string", "null"], "format": "uuid"},
    "timestamp with time zone": {"type": ["string", "null"], "format": "date-time"},
    "integer": {"type": ["integer", "null"]},
    "bigint": {"type": ["integer", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "jsonb": {},
    "text[]": {"type": ["array", "null"], "items": {"type": "string"}},
}


class Altered(Exception):
    """A stored part is not what was uploaded."""


class Entry:
    """A file of the package while it is written: counted and hashed."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(data)
        self.size += len(data)
        self._target.write(data)

    @property
    def sha256(self) -> str:
        """The hash of what was written, in hex."""
        return self._digest.hexdigest()


@dataclass
class Package:
    """The ZIP and the list of what is in it."""

    archive: zipfile.ZipFile
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))
    files: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def file(self, path: str, **facts: Any) -> Iterator[Entry]:
        """A new file; `facts` go into the manifest beside its size and hash."""
        info = zipfile.ZipInfo(path, self.moment.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info._compresslevel = COMPRESSION  # type: ignore[attr-defined]  # the archive's level is not for such entries
        with self.archive.open(info, "w", force_zip64=True) as target:
            entry = Entry(target)
            yield entry
        self.files.append({"path": path, "bytes": entry.size, "sha256": entry.sha256, **facts})

    def add(self, path: str, text: str, **facts: Any) -> None:
        """A file from a text."""
        with self.file(path, **facts) as entry:
            entry.write(text.encode())

    def add_json(self, path: str, value: Any, **facts: Any) -> None:
        """A file from a JSON value."""
        self.add(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n", **facts)


def write(
    target: Sink, request: dict[str, Any], parts: list[Part], types: dict[str, dict[str, str]], blocks: Blocks
) -> None:
    """Write the package of a request. `types` is column → type for each table, `blocks(object)` reads a stored part.

    Raises Altered when a part is not what was uploaded.
    """
    # No tell() on the target: zipfile then writes data descriptors instead of going back.
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:  # type: ignore[call-overload]
        package = Package(archive)
        shown: dict[str, overview.Shown] = {}
        for name, copy in copies(request["scope"]).items():
            of_table = [part for part in parts if part.table_name == name]
            shown[name] = _data(package, copy.table, of_table, blocks)
            package.add_json(f"schema/{copy.table.relation}.json", schema(copy, types[name]))
        package.add_json("processing.json", processing())
        package.add("index.html", overview.page(request, shown, package.moment))
        counts = {register().tables[name].relation: table.rows for name, table in shown.items()}
        package.add_json("manifest.json", _manifest(request, package, counts))


def _data(package: Package, table: Table, parts: list[Part], blocks: Blocks) -> overview.Shown:
    """data/<table>.json: an array with one row a line, exactly as PostgreSQL wrote it.

    Rows are JSON without raw line ends: every line end stands between rows and gets a comma, but for the last.
    """
    shown, start = overview.Shown(table, sum(part.rows for part in parts)), b""
    with package.file(f"data/{table.relation}.json", rows=shown.rows) as entry:
        entry.write(b"[")
        open_end = b"\n"  # the line end that waits to be known as the last one or not
        for block in _stored(parts, blocks):
            start = start if len(start) >= SHOWN_BYTES else start + block[:SHOWN_BYTES]
            ends = block.endswith(b"\n")
            entry.write(open_end + (block[:-1] if ends else block).replace(b"\n", b",\n"))
            open_end = b",\n" if ends else b""
        entry.write(b"\n]\n" if shown.rows else b"]\n")
    shown.first = [json.loads(line) for line in start.split(b"\n")[:-1]]
    return shown


def _stored(parts: list[Part], blocks: Blocks) -> Iterator[bytes]:
    """The bytes of stored parts, one after the other."""
    for part in parts:
        digest = hashlib.sha256()
        if part.rows and part.object_name:
            for block in blocks(part.object_name):
                digest.update(block)
                yield block
        if digest.hexdigest() != part.sha256:
            raise Altered(part.name)


def schema(copy: Copy, types: dict[str, str]) -> dict[str, Any]:
    """The JSON Schema of data/<table>.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": copy.table.relation,
        "description": copy.table.purpose,
        "type": "array",
        "items": {
            "type": "object",
            "required": list(copy.columns),
            "additionalProperties": False,
            "properties": {name: TYPES.get(types[name], {"type": ["string", "null"]}) for name in copy.columns},
        },
    }


def processing() -> dict[str, Any]:
    """What Art. 15(1) GDPR wants told beside the data, from the register."""
    known = register()
    return {
        "controllers": known.controllers,
        "recipients": known.recipients,
        "transfers_to_third_countries": known.transfers,
        "automated_decisions": known.automated_decisions,
        "rights": list(known.rights),
        "processing": [_activity(table, known.recipients) for table in known.tables.values() if table.subjects],
    }


def _activity(table: Table, recipients: dict[str, str]) -> dict[str, Any]:
    return {
        "table": table.relation,
        "controller": table.controller,
        "your_role": [subject.role for subject in table.subjects],
        "purpose": table.purpose,
        "legal_basis": table.legal_basis,
        "source": table.source,
        "recipients": [recipients[name] for name in table.recipients],
        "storage_period": table.retention.text,
        "storage_ground": table.retention.ground,
        "in_this_package": list(table.exported),
        "not_in_this_package": [name for name in table.columns if name not in table.exported],
    }


def _manifest(request: dict[str, Any], package: Package, counts: dict[str, int]) -> dict[str, Any]:
    told = {name: value for name, value in request.items() if name not in {"organizations", "object_name"}}
    return {
        "request": told,
        "organizations": request["organizations"],
        "generated_at": package.moment.isoformat().replace("+00:00", "Z"),
        "counts": counts,
        "files": package.files,
    }
