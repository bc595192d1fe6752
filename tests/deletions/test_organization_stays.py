"""Where others are members, content stays with an opaque id, and the audit chain still verifies."""

from pathlib import Path
from typing import Any

import pg8000.native

from common import audit
from common.register import register
from tests.conftest import Api, People, Person
from tests.deletions.conftest import Erasures, chain, count

EXPORT = "/v1/audit-events/export"


def rows(certificate: dict[str, Any], part: str) -> dict[str, int]:
    """table/action (or table alone for what is retained) → rows."""
    return {"/".join(filter(None, (e["table"], e.get("action")))): e["rows"] for e in certificate[part]}


def test_content_stays_without_the_person(
    api: Api, alice: Person, dan: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).json["id"]
    task = {"title": "Climb", "assignee_id": dan.user_id}
    hers = api.post(f"/v1/projects/{project}/tasks", json=task, headers=dan).json["id"]
    assigned = api.post(f"/v1/projects/{project}/tasks", json=task, headers=alice).json["id"]

    certificate = erasures.erase(dan)

    kept = api.get(f"/v1/tasks/{hers}", headers=alice).json
    assert (kept["title"], kept["created_by"], kept["assignee_id"]) == ("Climb", dan.user_id, dan.user_id)
    assert api.get(f"/v1/tasks/{assigned}", headers=alice).status_code == 200
    members = [member["user_id"] for member in api.get("/v1/members", headers=alice).json["items"]]
    assert members == [alice.user_id]
    done = rows(certificate, "tables")
    assert done["app.projects/pseudonym"] == 1
    assert done["app.tasks/pseudonym"] == 2
    assert done["app.members/delete"] == 1
    assert "app.organizations/delete" not in done
    stays = rows(certificate, "retained")
    assert stays["app.tasks"] == 2
    assert stays["app.audit_events"] == done["app.audit_events/null"] == 3
    ground = register().tables["app.projects"].retention.ground
    assert {"table": "app.projects", "rows": 1, "ground": ground}.items() <= next(
        entry for entry in certificate["retained"] if entry["table"] == "app.projects"
    ).items()


def test_the_chain_still_verifies(
    api: Api, alice: Person, dan: Person, erasures: Erasures, admin: pg8000.native.Connection, tmp_path: Path
) -> None:
    """Also for an auditor, who was handed the events before the erasure as well."""
    before, after = tmp_path / "before.ndjson", tmp_path / "after.ndjson"
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    api.post("/v1/projects", json={"name": "Borea"}, headers=dan)
    before.write_bytes(api.get(EXPORT, headers=alice).response.content)

    deletion_id = erasures.ask(dan)
    erasures.ended(deletion_id)

    after.write_bytes(api.get(EXPORT, headers=alice).response.content)
    assert dan.user_id in after.read_text()
    for file in (before, after):
        assert audit.main(["verify", str(file)]) == audit.HOLDS
    cut = [line for line in after.read_bytes().splitlines(keepends=True) if b"personal.erased" not in line]
    after.write_bytes(b"".join(cut))
    assert audit.main(["verify", str(after)]) == audit.BROKEN
    verified = chain(admin, alice.tenant_id)
    assert verified.broken is None
    assert api.get("/v1/audit-events/verify", headers=alice).json["valid"] is True
    left = admin.run(
        "SELECT count(*) FROM app.audit_events"
        " WHERE actor_id = :dan AND (personal IS NOT NULL OR personal_salt IS NOT NULL)",
        dan=dan.user_id,
    )
    assert left == [[0]]
    assert admin.run(
        "SELECT count(*) FROM app.audit_events WHERE actor_id = :alice AND personal IS NULL", alice=alice.user_id
    ) == [[0]]
    erased = admin.run(
        "SELECT actor_type, data FROM app.audit_events WHERE tenant_id = :id AND action = 'personal.erased'",
        id=alice.tenant_id,
    )
    assert len(erased) == 1
    assert len(erased[0][1]["events"]) == 2
    assert erased[0][0] == "system"


def test_another_organization_loses_nothing(
    api: Api, alice: Person, mallory: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    api.post("/v1/projects", json={"name": "Theirs"}, headers=mallory)
    tables = ("app.organizations", "app.members", "app.projects", "app.tasks", "app.audit_events", "app.audit_heads")
    before = {
        table: admin.run(f"SELECT to_json(t) FROM {table} t WHERE tenant_id = :id", id=mallory.tenant_id)
        for table in tables
    }

    erasures.erase(alice)

    for table in tables:
        assert (
            admin.run(f"SELECT to_json(t) FROM {table} t WHERE tenant_id = :id", id=mallory.tenant_id) == before[table]
        )
    assert api.get("/v1/projects", headers=mallory).json["items"][0]["name"] == "Theirs"


def test_one_stays_and_one_goes(
    api: Api, people: People, alice: Person, dan: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    own = people.organization()
    people.join(dan.user_id, own, "owner")
    there = people.log_in(dan, tenant_id=own)
    api.post("/v1/projects", json={"name": "Private"}, headers=there)

    certificate = erasures.erase(dan)

    assert count(admin, "app.organizations", own) == 0
    assert count(admin, "app.projects", own) == 0
    assert count(admin, "app.organizations", alice.tenant_id) == 1
    assert rows(certificate, "tables")["app.members/delete"] == 2


def test_her_name_in_others_words_is_not_hers(api: Api, alice: Person, dan: Person, erasures: Erasures) -> None:
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    for words in (f"thanks to {dan.name}", "nothing"):
        api.post(f"/v1/projects/{project}/tasks", json={"title": words}, headers=alice)
    api.post(f"/v1/projects/{project}/tasks", json={"title": f"by {dan.name}"}, headers=dan)
    api.post(f"/v1/projects/{project}/tasks", json={"title": f"write to {dan.email.upper()}."}, headers=alice)
    api.post(f"/v1/projects/{project}/tasks", json={"title": f"write to x{dan.email}"}, headers=alice)

    certificate = erasures.erase(dan)

    assert certificate["scan"]["hits"] == 2  # the name in a row of her own, the address in anybody's
