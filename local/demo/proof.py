"""Checks that use nothing of the product: the certificate's hash and signature, a package's hashes, a fingerprint."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from local.demo.people import Person

SEALS = ("hash", "signature", "key_id")


def canonical(value: Any) -> bytes:
    """RFC 8785 for what certificates hold: ASCII names, strings, whole numbers, null."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def unpadded(text: str) -> bytes:
    """The bytes of unpadded base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def seals(certificate: dict[str, Any], keys: dict[str, str]) -> tuple[bool, bool]:
    """Whether the hash, and whether the Ed25519 signature, are those of the certificate."""
    statement = canonical({name: value for name, value in certificate.items() if name not in SEALS})
    hashed = certificate["hash"] == hashlib.sha256(statement).hexdigest()
    try:
        key = Ed25519PublicKey.from_public_bytes(unpadded(keys[certificate["key_id"]]))
        key.verify(unpadded(certificate["signature"]), statement)
    except (InvalidSignature, KeyError, ValueError):
        return hashed, False
    return hashed, True


def wrong_files(package: zipfile.ZipFile) -> list[str]:
    """Files that are not what manifest.json says, are missing, or that it does not know."""
    manifest = json.loads(package.read("manifest.json"))
    told = {file["path"]: file for file in manifest["files"]}
    there = {name for name in package.namelist() if name != "manifest.json"}
    wrong = set(told) ^ there
    for path in set(told) & there:
        content = package.read(path)
        if (len(content), hashlib.sha256(content).hexdigest()) != (told[path]["bytes"], told[path]["sha256"]):
            wrong.add(path)
    return sorted(wrong)


def written(package: zipfile.ZipFile) -> dict[str, tuple[str, str]]:
    """The projects and tasks in a package: id → name and text."""
    found = {row["id"]: (row["name"], row["description"]) for row in _data(package, "projects")}
    return found | {row["id"]: (row["title"], row["description"]) for row in _data(package, "tasks")}


def lost_texts(package: zipfile.ZipFile, person: Person) -> list[str]:
    """Ids of what the person typed and the package does not have, byte by byte; and of what she did not type."""
    found = {id: (name.encode(), text.encode()) for id, (name, text) in written(package).items()}
    typed = {id: (name.encode(), text.encode()) for id, (name, text) in person.typed.items()}
    return [id for id in {*found, *typed} if found.get(id) != typed.get(id)]


def digest(content: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(content).hexdigest()


def opened(content: bytes) -> zipfile.ZipFile:
    """The package as a ZIP; its checksums hold."""
    package = zipfile.ZipFile(io.BytesIO(content))
    if package.testzip() is not None:
        raise zipfile.BadZipFile("a checksum is wrong")
    return package


def everything(package: zipfile.ZipFile) -> bytes:
    """All bytes of all files of a package."""
    return b"\n".join(package.read(name) for name in package.namelist())


def _data(package: zipfile.ZipFile, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(package.read(f"data/{table}.json"))
    return rows


def fingerprint(person: Person) -> str:
    """The hash of all that the API shows to a person but the audit events, which reading itself adds to."""
    api = person.api
    shown = [api.get(path).json() for path in ("/v1/auth/me", "/v1/organization")]
    projects = api.every("/v1/projects")
    tasks = [api.every(f"/v1/projects/{project['id']}/tasks") for project in projects]
    lists = [api.every(path) for path in ("/v1/members", "/v1/exports", "/v1/deletions")]
    return hashlib.sha256(canonical([*shown, projects, tasks, lists])).hexdigest()


def chain(person: Person, until: int | None = None) -> list[dict[str, Any]]:
    """The audit events of a person's organization, oldest first, up to a number."""
    events: Iterable[dict[str, Any]] = reversed(person.api.every("/v1/audit-events"))
    return [event for event in events if until is None or event["seq"] <= until]
