"""Beside the database, an erasure searches storage and the logs; what it finds there, it says."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from functions.deletions.scanning import texts
from tests.conftest import Api, People, Person, wait_until
from tests.deletions.conftest import Erasures


@pytest.fixture
def log(stack: dict[str, Any]) -> Path:
    """The log of a service."""
    return Path(stack["path"]).parent / "log" / "projects.log"


def write(log: Path, text: str) -> None:
    """An entry as the services write them."""
    entry = {"severity": "INFO", "message": "request", "time": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
    with log.open("a") as lines:
        lines.write(json.dumps({**entry, "service": "projects", "what": text}) + "\n")


def logged(certificate: dict[str, Any]) -> list[dict[str, Any]]:
    """What a certificate says of the logs."""
    return [entry for entry in certificate["retained"] if entry["table"] == "logs"]


def test_clean_logs_are_a_place_without_hits(alice: Person, mallory: Person, log: Path, erasures: Erasures) -> None:
    write(log, f"{mallory.email} is somebody else")

    certificate = erasures.erase(alice)

    assert logged(certificate) == []
    assert certificate["scan"]["hits"] == 0


@pytest.mark.parametrize("form", ["as it is", "in a URL", "in capitals", "her name"])
def test_what_the_logs_hold_is_said_and_reported(
    form: str, people: People, stack: dict[str, Any], log: Path, erasures: Erasures
) -> None:
    person = people.create("owner")
    written = {
        "as it is": person.email,
        "in a URL": quote(person.email, safe=""),
        "in capitals": person.email.upper(),
        "her name": person.name,
    }
    write(log, f"before {written[form]} after")

    deletion_id = erasures.ask(person)
    certificate = erasures.ended(deletion_id)

    [entry] = logged(certificate)
    assert entry["rows"] >= 1
    assert "90 days" in entry["until"]
    assert certificate["scan"]["hits"] >= 1
    assert person.email.lower() not in json.dumps(certificate).lower()
    lines = (log.parent / "deletions-jobs.log").read_text().splitlines()
    critical = [json.loads(line) for line in lines if '"CRITICAL"' in line and deletion_id in line]
    assert [entry["message"] for entry in critical] == ["the logs hold what identifies an erased person"]
    assert person.email not in (log.parent / "deletions-jobs.log").read_text()


def test_storage_holds_nothing_of_hers_any_more(
    api: Api, alice: Person, erasures: Erasures, stack: dict[str, Any]
) -> None:
    export_id = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=alice).json["id"]
    wait_until(lambda: api.get(f"/v1/exports/{export_id}", headers=alice).json["status"] == "ready", what="an export")

    certificate = erasures.erase(alice)

    assert certificate["objects_deleted"] >= 1
    assert certificate["scan"]["hits"] == 0


def test_a_single_word_is_no_name_to_look_for() -> None:
    assert texts(["a@example.org", "Ann"]) == ["a@example.org", "a%40example.org"]
    assert texts(["a@example.org", "Ann Lee", "+4930123456"]) == [
        "a@example.org", "a%40example.org", "Ann Lee", "Ann%20Lee", "+4930123456", "%2B4930123456",
    ]  # fmt: skip
    assert texts([]) == []
