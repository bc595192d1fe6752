"""After an erasure of each scope: no byte of the subject's identifiers anywhere, and every other copy as it was."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest
from requests.adapters import HTTPAdapter

from local.demo.traces import contents as contents_of
from local.demo.traces import dump, files, forms, found
from tests.auth.mfa_support import FACTORS, confirm, texted_code
from tests.conftest import PASSWORD, Api, People, Person, wait_until
from tests.deletions.conftest import Erasures
from tests.exports.conftest import Exports, Package

STAND_INS = {
    "sms.jsonl",  # the telephones: people's own, as their mailboxes are
    "load-balancer.log",  # Google's: an address and a time, 30 days, as the register says of logs; it names nobody
}
OWN_EVENTS = ("export.", "audit.")  # the bookkeeping of copies


class Marked(HTTPAdapter):
    """Requests come from a loopback address of the person's own."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:  # type: ignore[override]
        super().init_poolmanager(*arguments, source_address=(self._address, 0), **options)


class Subject:
    """A person who leaves marks wherever the product lets her."""

    def __init__(self, stack: dict[str, Any], api: Api, people: People, tenant_id: str) -> None:
        self.person = people.create("developer", tenant_id, password=PASSWORD)
        word = secrets.token_hex(5)
        self.texts = [f"Prøject {word}", f'"Why" {word} < & it is', f"Tásk {word}", f"How {word}\\n it goes"]
        self.agent, self.address = (
            f"Browser-{word}/7.1",
            f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.77",
        )
        self.phone = f"+49151{secrets.randbelow(10**8):08d}"
        self.own = Api(stack["api"])
        self.own._session.mount("http://", Marked(self.address))
        self.own._session.headers["User-Agent"] = self.agent

    def works(self) -> None:
        """A project and a task of hers, in her own words, and a consent to what her organization asks."""
        self.agrees("to.her.organization")
        name, why, title, how = self.texts
        made = self.own.post("/v1/projects", json={"name": name, "description": why}, headers=self.person)
        assert made.status_code == 201, made.text
        task = {"title": title, "description": how, "assignee_id": self.person.user_id}
        answer = self.own.post(f"/v1/projects/{made.json['id']}/tasks", json=task, headers=self.person)
        assert answer.status_code == 201, answer.text

    def agrees(self, purpose: str) -> None:
        answer = self.own.put(f"/v1/consents/{purpose}", json={"granted": True, "version": 1}, headers=self.person)
        assert answer.status_code == 200, answer.text

    def is_known(self, stack: dict[str, Any]) -> None:
        """Log-ins that fail and succeed, a telephone, a consent to what the platform asks, a copy of hers."""
        self.agrees("to.the.platform")
        for password in ("wrong " + PASSWORD, PASSWORD):
            self.own.post("/v1/auth/login", json={"email": self.person.email, "password": password})
        factor = self.own.post(FACTORS, json={"type": "sms", "phone": self.phone}, headers=self.person).json["id"]
        assert confirm(self.own, self.person, factor, texted_code(stack, self.phone)).status_code == 200
        export = self.own.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=self.person).json["id"]
        wait_until(
            lambda: self.own.get(f"/v1/exports/{export}", headers=self.person).json["status"] == "ready", 60, "a copy"
        )


@pytest.fixture
def exports(api: Api) -> Exports:
    return Exports(api)


@pytest.fixture
def subject(
    stack: dict[str, Any], api: Api, admin: pg8000.native.Connection, people: People, alice: Person
) -> Iterator[Subject]:
    """A member of Alice's organization, which wants what its members wrote to go with them."""
    admin.run(
        """UPDATE app.organizations SET settings = '{"erasure_policy": "erase"}' WHERE tenant_id = :id""",
        id=alice.tenant_id,
    )
    asked = {"purpose": "to.her.organization", "text": "May we?", "marketing": False}
    assert api.post("/v1/consents/purposes", json=asked, headers=alice).status_code == 201
    admin.run("SELECT platform.put_consent_purpose('to.the.platform', true, 'May we?')")
    made = Subject(stack, api, people, alice.tenant_id)
    made.works()
    yield made
    made.own._session.close()


def contents(package: Package, without: str = "") -> dict[str, list[str]]:
    """The rows of a copy by table, without the copies' own bookkeeping."""
    found = {}
    for table in package.manifest["counts"]:
        rows = [row for row in package.rows(table) if not str(row.get("action", "")).startswith(OWN_EVENTS)]
        if table not in {"exports", "export_parts", "jobs", "outbox", without}:
            found[table] = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return found


def left(stack: dict[str, Any], texts: list[str]) -> dict[str, list[str]]:
    """Where one of the texts is found, in any spelling: the place and which text."""
    spelled = {needle: text for text in texts for needle in forms(text)}
    seen = {spelled[needle]: ["database"] for needle in found(dump(stack), spelled)}
    for place, paths in files(stack).items():
        for path in paths:
            if path.name in STAND_INS:
                continue
            for text in {spelled[needle] for content in contents_of(path) for needle in found(content, spelled)}:
                seen.setdefault(text, []).append(f"{place}: {path.name}")
    return seen


def test_a_person(
    stack: dict[str, Any], api: Api, people: People, alice: Person, vera: Person, mallory: Person, subject: Subject,
    erasures: Erasures, exports: Exports,
) -> None:  # fmt: skip
    person = subject.person
    subject.is_known(stack)
    api.post("/v1/projects", json={"name": "Of Alice"}, headers=alice)
    marks = [person.email, person.name, subject.phone, subject.agent, subject.address, *subject.texts]
    others = (alice, vera, mallory)
    before = {other.email: contents(exports.package(other)) for other in others}
    seen = left(stack, marks)
    assert {mark for mark in marks if mark not in seen} <= {subject.phone}, "the marks were never there"

    certificate = erasures.erase(person)

    assert certificate["scan"]["hits"] == 0
    assert left(stack, marks) == {}
    for other in others:
        after = contents(exports.package(other))
        assert without_events_of(after, person.user_id) == without_events_of(before[other.email], person.user_id)


def test_a_member(
    stack: dict[str, Any], api: Api, alice: Person, vera: Person, mallory: Person, subject: Subject,
    erasures: Erasures, exports: Exports,
) -> None:  # fmt: skip
    """Her account is hers and stays; what she did and wrote in the organization goes."""
    marks = [subject.agent, subject.address, *subject.texts]
    before = {other.email: contents(exports.package(other)) for other in (vera, mallory)}
    assert set(left(stack, marks)) == set(marks)

    body = {"scope": "user", "user_id": subject.person.user_id}
    deletion_id = api.post("/v1/deletions", json=body, headers=alice).json["id"]
    certificate = erasures.ended(deletion_id)

    assert certificate["scan"]["hits"] == 0
    assert left(stack, marks) == {}
    for other in (vera, mallory):
        assert contents(exports.package(other)) == before[other.email]


def test_an_organization(
    stack: dict[str, Any], api: Api, admin: pg8000.native.Connection, alice: Person, mallory: Person, subject: Subject,
    erasures: Erasures, exports: Exports,
) -> None:  # fmt: skip
    """Everything of it goes; the people keep their accounts."""
    name, slug = admin.run("SELECT name, slug FROM app.organizations WHERE tenant_id = :id", id=alice.tenant_id)[0]
    marks = [name, slug, subject.agent, subject.address, *subject.texts]
    before = contents(exports.package(mallory))
    assert set(left(stack, marks)) == set(marks)

    deletion_id = api.post("/v1/deletions", json={"scope": "organization"}, headers=alice).json["id"]
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=deletion_id)
    admin.run("UPDATE platform.outbox SET not_before = now() WHERE reference = :id", id=deletion_id)
    start(stack, api, deletion_id)
    certificate = erasures.ended(deletion_id)

    assert certificate["scan"]["hits"] == 0
    assert left(stack, marks) == {}
    assert contents(exports.package(mallory)) == before


def start(stack: dict[str, Any], api: Api, deletion_id: str) -> None:
    """Another execution, as Cloud Tasks begins it when the grace is over."""
    from tests.e2e.jobs import Stage

    stage = Stage(stack, api, None)  # type: ignore[arg-type]  # no mail is read
    assert stage.execute("gdpr_erasure", deletion_id).status_code == 200


def without_events_of(copy: dict[str, list[str]], person_id: str) -> dict[str, list[str]]:
    """What an erasure tells of itself in the chain names the request, not the person; nothing else may differ."""
    return {table: [row for row in rows if person_id not in row] for table, rows in copy.items()}
