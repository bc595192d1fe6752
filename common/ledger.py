"""The ledger of erasures, apart from the database and its backups: what a restored database has to forget again.

One object per completed erasure, ids and times only, signed as certificates are: a forged entry erases nobody. It is
written before the erasure is complete, and never over another.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from common import certificate, log, storage

KIND = "erasure"
FOLDER = "erasures/"


class Forged(Exception):
    """An object of the ledger was not written by us; the message is its name."""


def write(facts: dict[str, Any]) -> dict[str, Any]:
    """Add an entry; the entry that stands there, which is an earlier try's when there was one. Raises Forged."""
    name = f"{FOLDER}{facts['deletion_id']}.json"
    entry = certificate.sign({"kind": KIND, **facts})
    if storage.keep(name, json.dumps(entry, separators=(",", ":")).encode()):
        return entry
    log.entry("INFO", "the ledger has this erasure already", job_id=facts["deletion_id"])
    return read(name)


def read(name: str) -> dict[str, Any]:
    """One entry, verified: the signature, and that it stands under its own name. Raises Forged."""
    try:
        entry = json.loads(storage.kept(name))
        key = certificate.public_keys().get(str(entry["key_id"]))
        good = key is not None and entry["kind"] == KIND and certificate.holds(entry, key)
        ours = good and name == f"{FOLDER}{uuid.UUID(entry['deletion_id'])}.json"
    except (ValueError, KeyError, TypeError, AttributeError):
        ours = False
    if not ours:
        raise Forged(name)
    return dict(entry)


def entries() -> Iterator[dict[str, Any]]:
    """Every entry, oldest completion first. Raises Forged at the first that is not ours, before any is given."""
    found = [read(name) for name in storage.kept_names(FOLDER)]
    yield from sorted(found, key=lambda entry: (str(entry["completed_at"]), str(entry["deletion_id"])))
