"""The ledger of erasures: written before an erasure is complete, once, signed, ids only; a forged one erases nobody."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pg8000.native
import pytest

from common.certificate import holds
from local.demo.traces import forms, hits
from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account
from tests.conftest import CHECKOUT, Api, Person
from tests.deletions.conftest import Backstage, Erasures

BEFORE = ("claim", "plan", "freeze", "revoke", "organizations", "objects", "account", "processors", "scan")
REPLAY_SECONDS = 60


class Ledger:
    """The bucket of the ledger, as an operator reaches it."""

    def __init__(self, stack: dict[str, Any], api: Api) -> None:
        self._api = api
        self.root = Path(stack["path"]).parent
        layout = Layout.load(self.root / "layout.json")
        self._url = f"{layout.url('storage')}"
        token = Issuer(layout.root).access_token(service_account("tester"))
        self._headers = {"Authorization": f"Bearer {token}"}

    def entry(self, deletion_id: str) -> dict[str, Any] | None:
        """The entry of an erasure."""
        name = quote(f"erasures/{deletion_id}.json", safe="")
        answer = self._api.get(f"{self._url}/storage/v1/b/{PROJECT}-ledger/o/{name}?alt=media", headers=self._headers)
        return None if answer.status_code == 404 else dict(answer.json)

    def put(self, deletion_id: str, entry: dict[str, Any]) -> None:
        """Write an object of the ledger, whoever may have made it."""
        name = quote(f"erasures/{deletion_id}.json", safe="")
        url = f"{self._url}/upload/storage/v1/b/{PROJECT}-ledger/o?uploadType=media&name={name}"
        assert self._api.post(url, data=json.dumps(entry), headers=self._headers).status_code == 200

    def remove(self, deletion_id: str) -> None:
        """Delete an object of the ledger."""
        name = quote(f"erasures/{deletion_id}.json", safe="")
        url = f"{self._url}/storage/v1/b/{PROJECT}-ledger/o/{name}"
        assert self._api.delete(url, headers=self._headers).status_code == 204

    def replay(self) -> subprocess.CompletedProcess[str]:
        """What `make replay-erasures` does."""
        command = [sys.executable, "-m", "local.replay", "--root", str(self.root), "--minutes", "1"]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=REPLAY_SECONDS + 30)


@pytest.fixture
def ledger(stack: dict[str, Any], api: Api) -> Ledger:
    return Ledger(stack, api)


def test_an_entry_holds_what_a_replay_needs_and_nothing_about_the_person(
    api: Api, alice: Person, erasures: Erasures, ledger: Ledger
) -> None:
    deletion_id = erasures.ask(alice, reason=f"{alice.name} wants to go")
    certificate = erasures.ended(deletion_id)

    entry = ledger.entry(deletion_id)

    assert entry is not None
    key = api.get("/v1/deletions/certificate-keys").json["keys"][entry["key_id"]]
    assert holds(entry, key)
    assert not holds({**entry, "subject_id": "00000000-0000-0000-0000-000000000000"}, key)
    told = {name: entry[name] for name in ("kind", "deletion_id", "scope", "subject_id", "organization_id")}
    assert told == {
        "kind": "erasure", "deletion_id": deletion_id, "scope": "me", "subject_id": alice.user_id,
        "organization_id": None,
    }  # fmt: skip
    assert entry["certificate"] == certificate
    assert datetime.fromisoformat(entry["received_at"]) < datetime.fromisoformat(entry["completed_at"])
    assert hits(json.dumps(entry).encode(), forms(alice.email) | forms(alice.name)) == 0


def test_no_erasure_is_complete_without_an_entry(
    alice: Person, backstage: Backstage, erasures: Erasures, ledger: Ledger, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    for step in BEFORE:
        assert backstage.step(job, step, "e").status_code == 200, step
    assert ledger.entry(job) is None
    assert backstage.step(job, "finish", "e").status_code == 500

    assert backstage.step(job, "certificate", "e").status_code == 200

    assert ledger.entry(job) is not None
    assert admin.run("SELECT ledger_at IS NOT NULL FROM platform.deletions WHERE job_id = :id", id=job) == [[True]]


def test_a_step_that_died_behind_the_ledger_gives_the_same_certificate(
    alice: Person, backstage: Backstage, ledger: Ledger, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    for step in (*BEFORE, "certificate"):
        assert backstage.step(job, step, "e").status_code == 200, step
    first = ledger.entry(job)
    admin.run("UPDATE platform.deletions SET certificate = NULL, ledger_at = NULL WHERE job_id = :id", id=job)
    admin.run("UPDATE platform.deletion_steps SET status = 'running' WHERE job_id = :id AND status = 'done'", id=job)

    assert backstage.step(job, "certificate", "e").status_code == 200

    assert ledger.entry(job) == first
    assert first is not None
    [[stored]] = admin.run("SELECT certificate FROM platform.deletions WHERE job_id = :id", id=job)
    assert stored == first["certificate"]


@pytest.mark.parametrize(
    "forgery", ["a changed entry", "an entry under another name", "no signature", "no JSON object"]
)
def test_a_forged_entry_erases_nobody(
    forgery: str,
    alice: Person,
    mallory: Person,
    erasures: Erasures,
    ledger: Ledger,
    admin: pg8000.native.Connection,
) -> None:
    deletion_id = erasures.ask(alice)
    erasures.ended(deletion_id)
    entry = ledger.entry(deletion_id) or {}
    name = mallory.tenant_id
    forged: Any = {
        "a changed entry": {**entry, "deletion_id": name, "subject_id": mallory.user_id},
        "an entry under another name": entry,
        "no signature": {"kind": "erasure", "deletion_id": name, "scope": "me", "subject_id": mallory.user_id},
        "no JSON object": [1],
    }[forgery]
    ledger.put(name, forged)

    done = ledger.replay()
    ledger.remove(name)

    assert done.returncode == 2, done.stderr
    assert f"erasures/{name}.json" in done.stderr
    found = admin.run("SELECT count(*) FROM platform.deletions WHERE subject_id = :id", id=mallory.user_id)
    assert found == [[0]]
