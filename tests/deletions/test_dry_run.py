"""`dry_run` answers what would happen and changes nothing; then exactly that happens."""

from typing import Any

import pg8000.native

from tests.conftest import Api, People, Person
from tests.deletions.conftest import Erasures

TABLES = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('app', 'identity', 'platform')"


def contents(admin: pg8000.native.Connection, person: Person) -> dict[str, list[str]]:
    """Every row anywhere that names the person or her organization."""
    named = "strpos(t::text, :user) > 0 OR strpos(t::text, :tenant) > 0 OR strpos(t::text, :email) > 0"
    who = {"user": person.user_id, "tenant": person.tenant_id, "email": person.email}
    return {
        name: sorted(row[0] for row in admin.run(f"SELECT t::text FROM {name} t WHERE {named}", **who))
        for (name,) in admin.run(TABLES)
    }


def test_it_changes_nothing(api: Api, alice: Person, admin: pg8000.native.Connection) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    before = contents(admin, alice)

    answer = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=alice)

    assert answer.status_code == 200
    assert contents(admin, alice) == before
    assert before["app.projects"]


def test_then_exactly_that_happens(
    api: Api, people: People, alice: Person, dan: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    own = people.organization()
    people.join(dan.user_id, own, "owner")
    there = people.log_in(dan, tenant_id=own)
    project = api.post("/v1/projects", json={"name": "Shared"}, headers=alice).json["id"]
    task = {"title": "Climb", "assignee_id": dan.user_id}
    api.post(f"/v1/projects/{project}/tasks", json=task, headers=alice)
    for headers in (dan, there):
        project = api.post("/v1/projects", json={"name": "Atlas"}, headers=headers).json["id"]
        api.post(f"/v1/projects/{project}/tasks", json={"title": "Climb"}, headers=headers)
    pending_registration(admin, dan)

    plan = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=dan).json["plan"]
    deletion_id = erasures.ask(dan)
    certificate = erasures.ended(deletion_id)

    expected = {(entry["table"], entry["action"]): entry["rows"] for entry in plan}
    expected["app.audit_events", "keep"] += 1  # the request for erasure is an event itself
    expected["app.audit_events", "null"] += 1
    expected["app.audit_events", "delete"] += 1  # its part in her own organization is one too, and goes with that
    done = {(entry["table"], entry["action"]): entry["rows"] for entry in certificate["tables"]}
    stays = {entry["table"]: entry["rows"] for entry in certificate["retained"]}
    done |= {
        (table, action): rows for (table, action), rows in expected.items() if action == "keep" and stays[table] == rows
    }
    assert done == expected
    grounds = {entry["table"]: (entry["ground"], entry["until"]) for entry in certificate["retained"]}
    assert grounds == {
        entry["table"]: (entry["ground"], entry["until"]) for entry in plan if entry["action"] in ("keep", "pseudonym")
    }


def pending_registration(admin: pg8000.native.Connection, person: Person) -> Any:
    admin.run(
        "INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash, browser_hash,"
        " token_hash, expires_at) VALUES (gen_random_uuid(), :email, :name, 'Org', 'x', 'x',"
        " uuid_send(gen_random_uuid()), now() + interval '1 day')",
        email=person.email,
        name=person.name,
    )
