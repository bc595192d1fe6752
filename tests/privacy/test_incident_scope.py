"""/v1/privacy/incidents/{id}/scope: what the events of a time range touched, against a story that is known."""

import re
import uuid
from typing import Any

import pg8000.native
import pytest

from common.register import register
from functions.audit.incident_scope import data_classes, tables_of
from tests.conftest import CHECKOUT, Api, People, Person
from tests.deletions.conftest import Erasures
from tests.privacy.conftest import Desk
from tests.privacy.incidents import Officer, ago

EVENT = re.compile(r"^\| `([a-z_]+)\.[a-z_]+` ", re.MULTILINE)
NO_DATA = {  # types of resources that no table of the register holds, and why
    "access": "a route",
    "personal": "its resource is the deletion",
    **dict.fromkeys(
        ("block", "campaign", "job", "key", "message", "purpose", "retention"), "acts of the platform, in its own chain"
    ),
}


@pytest.fixture
def officer(api: Api, admin: pg8000.native.Connection, alice: Person) -> Officer:
    return Officer(api, admin, alice)


def touched(scope: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Who was touched, by how many events on how many resources."""
    return {each["user_id"]: (each["events"], each["resources"]) for each in scope["subjects"]}


def project_of(api: Api, person: Person) -> str:
    answer = api.post("/v1/projects", json={"name": f"Project {uuid.uuid4()}"}, headers=person)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def test_a_row_is_its_peoples(api: Api, officer: Officer, alice: Person, dan: Person, vera: Person) -> None:
    """Dan's task for Vera is changed by a stranger who has Alice's token; nobody else is touched."""
    project = project_of(api, dan)
    task = api.post(f"/v1/projects/{project}/tasks", json={"title": "x", "assignee_id": vera.user_id}, headers=dan)
    started = ago()
    for title in ("y", "z"):
        api.patch(f"/v1/tasks/{task.json['id']}", json={"title": title}, headers=alice)
    incident = officer.open()

    scope = officer.scope(incident["id"], **{"from": started, "actor": alice.user_id})

    assert touched(scope) == {dan.user_id: (2, 1), vera.user_id: (2, 1), alice.user_id: (1, 1)}
    kinds = {each["type"]: (each["events"], each["resources"], each["lists"]) for each in scope["resources"]}
    assert kinds == {"task": (2, 1, 0), "incident": (1, 1, 0)}
    assert {tuple(each["tables"]) for each in scope["resources"]} == {
        ("app.tasks",),
        ("app.incident_subjects", "app.incidents"),
    }
    assert {"content", "activity", "incidents"} == set(scope["data_classes"])
    assert {"users", "mentioned"} == set(scope["people_classes"])
    assert scope["actors"] == [{"type": "user", "id": alice.user_id, "events": 3}]


def test_a_deleted_row_is_of_who_made_it(api: Api, officer: Officer, alice: Person, dan: Person) -> None:
    project = project_of(api, dan)
    started = ago()
    assert api.delete(f"/v1/projects/{project}", headers=alice).status_code == 204
    incident = officer.open()
    assert touched(officer.scope(incident["id"], **{"from": started}))[dan.user_id] == (1, 1)


def test_a_list_is_everybody_on_it_then(
    api: Api, people: People, officer: Officer, alice: Person, dan: Person, vera: Person
) -> None:
    """Also Vera, who has left since, but not who came later."""
    incident = officer.open()
    started = ago()
    officer.happened("member.read", dan, None)
    assert api.delete(f"/v1/members/{vera.user_id}", headers=alice).status_code == 204
    later = people.create("viewer", alice.tenant_id)

    scope = officer.scope(incident["id"], **{"from": started, "actor": dan.user_id})

    assert set(touched(scope)) == {alice.user_id, dan.user_id, vera.user_id}
    assert later.user_id not in touched(scope)
    assert scope["resources"] == [
        {"type": "member", "events": 1, "resources": 0, "lists": 1, "tables": ["app.members"]}
    ]
    assert scope["data_classes"] == ["membership"]


def test_a_copy_of_the_organization_is_everybody(officer: Officer, alice: Person, dan: Person, vera: Person) -> None:
    incident = officer.open()
    started = ago()
    copy, own = str(uuid.uuid4()), str(uuid.uuid4())
    officer.happened("export.requested", alice, copy, scope="organization")
    officer.happened("export.requested", alice, own, scope="me")
    before = ago()
    officer.happened("export.downloaded", dan, own, ip="198.51.100.9")
    assert touched(officer.scope(incident["id"], **{"from": before, "ip": "198.51.100.9"})) == {}

    officer.happened("export.downloaded", dan, copy, ip="198.51.100.9")

    scope = officer.scope(incident["id"], **{"from": started, "ip": "198.51.100.0/24"})
    assert set(touched(scope)) == {alice.user_id, dan.user_id, vera.user_id}
    assert {"content", "contact", "membership"} < set(scope["data_classes"])


def test_who_is_named_and_whose_account_it_is(officer: Officer, alice: Person, dan: Person, vera: Person) -> None:
    incident = officer.open()
    started, gone = ago(), str(uuid.uuid4())
    officer.happened("login.succeeded", dan, str(uuid.uuid4()), ip="2001:db8::7")
    officer.happened("legal_hold.placed", alice, str(uuid.uuid4()), subject_user_id=vera.user_id, ip="2001:db8::7")
    officer.happened("user.updated", alice, gone, ip="2001:db8::7")
    officer.happened("login.succeeded", vera, str(uuid.uuid4()), ip="192.0.2.77")
    scope = officer.scope(incident["id"], **{"from": started, "ip": "2001:db8::/32"})
    assert touched(scope) == {dan.user_id: (1, 1), vera.user_id: (1, 1), gone: (1, 1)}
    assert scope["actor_count"] == 2


def test_what_was_refused_touched_nothing(officer: Officer, dan: Person, vera: Person) -> None:
    incident = officer.open()
    started = ago()
    officer.happened("member.removed", dan, vera.user_id, outcome="denied")
    scope = officer.scope(incident["id"], **{"from": started, "actor": dan.user_id})
    assert (scope["events"], scope["refused"], touched(scope), scope["resources"]) == (1, 1, {}, [])


def test_an_erased_person_is_still_known_by_id(
    api: Api, admin: pg8000.native.Connection, officer: Officer, alice: Person, dan: Person
) -> None:
    project = project_of(api, dan)
    started = ago()
    api.patch(f"/v1/projects/{project}", json={"description": "x"}, headers=alice)
    ended = ago()
    Erasures(api, admin).erase(dan)
    incident = officer.open()
    assert set(touched(officer.scope(incident["id"], **{"from": started, "to": ended}))) == {dan.user_id}


def test_other_organizations_are_not_in_it(
    api: Api, admin: pg8000.native.Connection, officer: Officer, desk: Desk, mallory: Person
) -> None:
    """Nor is a row of theirs, were its id to stand in a forged event."""
    project, export = project_of(api, mallory), desk.export(mallory)
    theirs = Officer(api, admin, mallory).open()
    incident = officer.open()
    started = ago()
    officer.happened("project.updated", officer.person, project)
    officer.happened("export.cancelled", officer.person, export)
    officer.happened("incident.updated", officer.person, theirs["id"])
    assert touched(officer.scope(incident["id"], **{"from": started})) == {}


def test_the_model_agrees(api: Api, officer: Officer, people: People, alice: Person, dan: Person, vera: Person) -> None:
    """A long story of changes, counted beside: each event on each row is one for its author, in one organization."""
    authors = [alice, dan]
    projects = {project_of(api, author): author for author in authors for _ in range(2)}
    incident = officer.open()
    started = ago()
    model: dict[str, list[str]] = {}
    for turn in range(40):
        project = list(projects)[turn * 7 % 4]
        who, outcome = (alice, dan, vera)[turn % 3], "denied" if turn % 5 == 0 else "success"
        officer.happened("project.updated", who, project, ip=f"10.0.{turn % 2}.9", outcome=outcome)
        if outcome == "success" and turn % 2:
            model.setdefault(projects[project].user_id, []).append(project)

    scope = officer.scope(incident["id"], **{"from": started, "ip": "10.0.1.0/24"})

    assert touched(scope) == {who: (len(rows), len(set(rows))) for who, rows in model.items()}


def test_pages(api: Api, people: People, officer: Officer, alice: Person, dan: Person, vera: Person) -> None:
    incident = officer.open()
    started = ago()
    for person, times in ((alice, 1), (dan, 3), (vera, 2)):
        for _ in range(times):
            officer.happened("user.updated", person, person.user_id)
    query: dict[str, Any] = {"from": started, "to": ago(), "limit": 2}

    page = officer.scope(incident["id"], **query)
    rest = officer.scope(incident["id"], **query, cursor=page["next_cursor"])

    assert page["subject_count"] == rest["subject_count"] == 3
    assert [each["user_id"] for each in page["subjects"] + rest["subjects"]] == [
        person.user_id for person in (dan, vera, alice)
    ]
    assert rest["next_cursor"] is None


def test_reading_it_is_an_event(officer: Officer, dan: Person) -> None:
    incident = officer.open()
    officer.happened("user.updated", dan, dan.user_id)
    scope = officer.scope(incident["id"])
    event = officer.events()[-1]
    assert (event["action"], event["resource_id"]) == ("incident.scoped", incident["id"])
    assert event["data"] == {"events": scope["events"], "subjects": scope["subject_count"]}


def test_it_is_kept(officer: Officer, admin: pg8000.native.Connection, alice: Person, dan: Person) -> None:
    incident = officer.open(data_classes=["billing"])
    started, ended = ago(), ago(hours=-1)
    officer.happened("user.updated", dan, dan.user_id, ip="203.0.113.5")

    kept = officer.keep_scope(incident["id"], **{"from": started, "to": ended, "ip": "203.0.113.5"})

    assert kept["version"] == 2
    assert kept["data_classes"] == ["billing", "contact", "credentials", "identification"]
    assert {name: kept["scope"][name] for name in ("events", "people", "told", "by_address", "actor")} == {
        "events": 1,
        "people": 1,
        "told": 0,
        "by_address": True,
        "actor": None,
    }
    rows = admin.run("SELECT user_id::text FROM app.incident_subjects WHERE tenant_id = :t", t=alice.tenant_id)
    assert rows == [[dan.user_id]]
    again = officer.keep_scope(incident["id"], **{"from": started, "to": ended, "actor": alice.user_id})
    assert again["scope"]["actor"] == alice.user_id
    assert again["scope"]["by_address"] is False
    stored = admin.run("SELECT to_json(i)::text FROM app.incidents i WHERE tenant_id = :t", t=alice.tenant_id)
    assert "203.0.113.5" not in str(stored)


@pytest.mark.parametrize(
    "query",
    [{"ip": "elsewhere"}, {"ip": "10.0.0.0/99"}, {"actor": "me"}, {"from": "x"}, {"to": "2020-01-01T00:00:00Z"}],
)
def test_wrong_queries(officer: Officer, query: dict[str, str]) -> None:
    incident = officer.open()
    answer = officer.call("GET", f"/{incident['id']}/scope", params={"from": ago(hours=1), "to": ago(), **query})
    assert answer.status_code == 422, answer.text
    assert list(answer.json["errors"]) == list(query)


def test_every_event_leads_to_its_table() -> None:
    """A new type of resource is entered in the register, or above with the reason why not."""
    audited = set(EVENT.findall((CHECKOUT / "docs" / "audit-events.md").read_text()))
    entered = {kind for table in register().tables.values() for kind in table.resource}

    assert len(audited) > 20
    assert sorted(audited - entered - set(NO_DATA)) == []
    assert sorted(set(NO_DATA) & entered) == []
    assert tables_of("privacy_request") == ["platform.deletions", "platform.exports"]
    assert "contact" in data_classes(["export"])  # the file of a copy holds what the request does not
