"""`dry_run` answers what would happen and changes nothing; then exactly that happens."""

from typing import Any

import pg8000.native

from tests.conftest import Api, People, Person, wait_until
from tests.deletions.conftest import Erasures

TABLES = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('app', 'identity', 'platform')"


def contents(admin: pg8000.native.Connection) -> dict[str, str]:
    """A fingerprint of every table; the keys' and sessions' use is not content."""
    return {
        name: admin.run(f"SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM {name} t")[0][0]
        for (name,) in admin.run(TABLES)
    }


def at_rest(admin: pg8000.native.Connection) -> dict[str, str]:
    """The contents once what other tests have begun is over."""
    last: list[dict[str, str]] = []

    def settled() -> bool:
        last.append(contents(admin))
        return len(last) > 10 and all(each == last[-1] for each in last[-10:])

    wait_until(settled, 60, "rest")
    return last[-1]


def test_it_changes_nothing(api: Api, alice: Person, admin: pg8000.native.Connection) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    before = at_rest(admin)

    answer = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=alice)

    assert answer.status_code == 200
    assert contents(admin) == before


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
