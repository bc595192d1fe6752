"""The package: one ZIP, written as a stream. Data, schemas, what the law wants told, a page for people, the manifest.

The stored parts go into it as they are, compressed; they are inflated on their way, to be counted and hashed. Memory
holds one block of data at a time, and the first rows of each table for the page.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from common import privacy
from common.storage import Sink
from common.zipping import Archive, Written
from functions.exports import forms, overview, writing
from functions.exports.copying import Copy, copies
from functions.exports.queries import Part, Shape

SHOWN_BYTES, SHOWN_ROWS = 128 * 1024, 50  # of each table on the page
UNGUARD = re.compile(forms.CSV["undo"]["replace"])  # type: ignore[index]
Blocks = Callable[[str], Iterable[bytes]]


class Altered(Exception):
    """A stored part is not what was uploaded."""


class First:
    """The first bytes of a file, kept as they pass."""

    def __init__(self) -> None:
        self.data = b""
        self.is_all = True

    def see(self, data: bytes) -> None:
        """Keep what there is room for."""
        room = SHOWN_BYTES - len(self.data)
        self.is_all = self.is_all and len(data) <= room
        self.data += data[: max(room, 0)]

    def shown(self, kind: str, columns: tuple[str, ...]) -> list[list[Any]]:
        """The rows that are there in full, at most SHOWN_ROWS of them."""
        if kind == "json":
            lines = self.data.split(b"\n")[1 : None if self.is_all else -1]
            found = [json.loads(line.removesuffix(b",")) for line in lines[:SHOWN_ROWS] if line not in (b"]", b"")]
            return [[row[name] for name in columns] for row in found]
        text = self.data.decode(errors="ignore")
        table = list(csv.reader(io.StringIO(text, newline=""), strict=False))[1 : None if self.is_all else -1]
        return [[UNGUARD.sub("", cell) for cell in row] for row in table[:SHOWN_ROWS]]


@dataclass
class Package:
    """The ZIP and the list of what is in it."""

    archive: Archive
    request: dict[str, Any]
    moment: datetime
    files: list[dict[str, Any]] = field(default_factory=list)

    def add_json(self, path: str, value: Any) -> None:
        """A file from a JSON value."""
        self.add(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")

    def add(self, path: str, text: str) -> None:
        """A file from a text."""
        self.note(self.archive.add(path, text.encode()))

    def note(self, written: Written, **facts: Any) -> None:
        """List a file; `facts` stand beside its size and hash."""
        self.files.append({"path": written.path, "bytes": written.size, "sha256": written.sha256, **facts})


def write(target: Sink, request: dict[str, Any], parts: list[Part], shapes: dict[str, Shape], blocks: Blocks) -> None:
    """Write the package of a request. `shapes` are those of its tables, `blocks(object)` reads a stored part.

    Raises Altered when a part is not what was uploaded.
    """
    moment = datetime.now(UTC)
    package = Package(Archive(target, moment), request, moment)
    shown: list[overview.Shown] = []
    for name, copy in copies(request["scope"]).items():
        of_table = [part for part in parts if part.table_name == name]
        shown.append(_data(package, copy, of_table, blocks))
        package.add_json(f"schema/{copy.table.relation}.json", forms.schema(copy, shapes[name], request["format"]))
    package.add_json("processing.json", privacy.article_15())
    package.add("index.html", overview.page(request, shown, moment))
    package.add_json("manifest.json", _manifest(package, {each.table.relation: each.rows for each in shown}))
    package.archive.close()


def _data(package: Package, copy: Copy, parts: list[Part], blocks: Blocks) -> overview.Shown:
    """data/<table>.json or .csv: what stands before, between and behind the rows is put around the stored pieces."""
    kind, first, table = package.request["format"], First(), copy.table
    form, path = writing.form(kind, copy.columns), f"data/{table.relation}.{kind}"
    filled = [part for part in parts if part.rows and part.object_name]
    with package.archive.file(path, first.see) as entry:
        entry.write(form.start if filled else form.empty)
        for number, part in enumerate(filled):
            if number:
                entry.write(form.between)
            if entry.piece(_verified(part, blocks)) != part.bytes:
                raise Altered(part.name)
        if filled:
            entry.write(form.end)
    rows = sum(part.rows for part in filled)
    package.note(package.archive.last, rows=rows, origin=table.source, portable=table.portable)
    return overview.Shown(table, path, rows, copy.columns, first.shown(kind, copy.columns))


def _verified(part: Part, blocks: Blocks) -> Iterator[bytes]:
    """The bytes of a stored part."""
    digest = hashlib.sha256()
    for block in blocks(str(part.object_name)):
        digest.update(block)
        yield block
    if digest.hexdigest() != part.sha256:
        raise Altered(part.name)


def _manifest(package: Package, counts: dict[str, int]) -> dict[str, Any]:
    told = {name: value for name, value in package.request.items() if name not in {"organizations", "object_name"}}
    manifest = {
        "request": told,
        "organizations": package.request["organizations"],
        "generated_at": package.moment.isoformat().replace("+00:00", "Z"),
        "counts": counts,
        "files": package.files,
        "notes": {
            "origin": "of the rows: provided by the person, observed of her use, or derived from either",
            "portable": "whether Art. 20 GDPR covers the file; null: where the organization's legal basis is consent "
            "or contract",
        },
    }
    return manifest | ({"csv": forms.CSV} if package.request["format"] == "csv" else {})
