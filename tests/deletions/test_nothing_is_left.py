"""No byte of the person's address or name: in a dump of the database, in storage, in the logs and the stand-ins."""

from typing import Any

import pg8000.native

from local.demo.traces import dump, files, forms, hits, where
from tests.conftest import Api, People, Person, wait_until
from tests.deletions.conftest import Erasures
from tests.deletions.test_dry_run import pending_registration


def test_nothing_is_left(
    stack: dict[str, Any], api: Api, people: People, alice: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    dan = people.create("owner", alice.tenant_id)
    own = people.organization()
    people.join(dan.user_id, own, "owner")
    there = people.log_in(dan, tenant_id=own)
    project = api.post("/v1/projects", json={"name": f"Things of {dan.name}"}, headers=there).json["id"]
    task = {"title": f"write to {dan.email}", "assignee_id": dan.user_id}
    api.post(f"/v1/projects/{project}/tasks", json=task, headers=there)
    api.post("/v1/projects", json={"name": "Shared"}, headers=dan)
    pending_registration(admin, dan)
    export_id = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=dan).json["id"]
    wait_until(lambda: api.get(f"/v1/exports/{export_id}", headers=dan).json["status"] == "ready", what="an export")
    needles = forms(dan.email) | forms(dan.name)
    before = files(stack)
    assert hits(dump(stack), needles) > 0
    assert where(before["storage"], needles)

    deletion_id = erasures.ask(dan, reason=f"{dan.name} wants to go")
    certificate = erasures.ended(deletion_id)

    assert certificate["objects_deleted"] >= 1
    assert certificate["scan"]["hits"] == 0
    assert hits(dump(stack), needles) == 0
    for place, paths in files(stack).items():
        assert where(paths, needles) == [], place
