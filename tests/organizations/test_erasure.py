"""Copies and erasure: what an organization keeps about its people goes with them, and nobody else's."""

import io
import json
import uuid
import zipfile

import requests

from local.demo.traces import dump, forms, hits
from tests.conftest import wait_until
from tests.organizations.support import PASSWORD, invite, join, mailed, person_with, role


def rows(certificate, part="tables"):
    """table/action → rows."""
    return {"/".join(filter(None, (e["table"], e.get("action")))): e["rows"] for e in certificate[part]}


def test_a_member_goes(stack, api, admin, alice, dan, mallory, erasures, inbox):
    """Teams, invitations to her address wherever they stand, and her name on those that she made."""
    assert api.patch(f"/v1/members/{dan.user_id}", json={"role": "admin"}, headers=alice).status_code == 200
    team = api.post("/v1/teams", json={"name": "Blue"}, headers=alice).json["id"]
    api.put(f"/v1/teams/{team}/members/{dan.user_id}", headers=alice)
    made = invite(api, dan, f"{uuid.uuid4().hex}@example.org")
    theirs = invite(api, mallory, dan.email)
    mailed(inbox, dan.email)
    planned = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=dan).json["plan"]
    expected = {"app.team_members/delete": 1, "app.invitations/delete": 1, "app.invitations/null": 1}
    assert expected.items() <= {f"{e['table']}/{e['action']}": e["rows"] for e in planned}.items()

    certificate = erasures.erase(dan)

    assert expected.items() <= rows(certificate).items()
    assert certificate["scan"]["hits"] == 0
    assert hits(dump(stack), forms(dan.email)) == 0
    assert api.get(f"/v1/teams/{team}/members", headers=alice).json["items"] == []
    (shown,) = api.get("/v1/invitations", headers=alice).json["items"]
    assert (shown["id"], shown["invited_by"]) == (made["id"], None)
    assert api.get("/v1/invitations", headers=mallory).json["items"] == []
    outbox = "SELECT count(*) FROM platform.outbox WHERE reference = :id"
    assert admin.run(outbox, id=theirs["id"]) == [[0]]
    assert admin.run(outbox, id=made["id"]) == [[1]]


def test_what_a_stranger_was_answered_about_her_goes(api, admin, dan, mallory, erasures):
    """Kept for a day in an organization that she never belonged to, to be repeated to whoever invited her."""
    headers = {**mallory, "Idempotency-Key": uuid.uuid4().hex}
    other = {**mallory, "Idempotency-Key": uuid.uuid4().hex}
    body = {"email": dan.email, "role": "viewer"}
    assert api.post("/v1/invitations", json=body, headers=headers).status_code == 201
    assert api.post("/v1/teams", json={"name": "Blue"}, headers=other).status_code == 201

    certificate = erasures.erase(dan)

    assert rows(certificate)["app.idempotent_answers/delete"] == 1
    kept = admin.run("SELECT body FROM app.idempotent_answers WHERE tenant_id = :t", t=mallory.tenant_id)
    assert len(kept) == 1
    assert "Blue" in kept[0][0]


def test_an_organization_goes_with_its_only_member(api, admin, people, alice, erasures):
    special = person_with(api, people, alice, "project.view")
    team = api.post("/v1/teams", json={"name": "Blue"}, headers=alice).json["id"]
    api.put(f"/v1/teams/{team}/members/{alice.user_id}", headers=alice)
    role(api, alice, "Promised")
    invite(api, alice, f"{uuid.uuid4().hex}@example.org", "Promised")
    api.delete(f"/v1/members/{special.user_id}", headers=alice)
    planned = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=alice).json["plan"]
    expected = {
        **{"app.roles/delete": 2, "app.teams/delete": 1, "app.team_members/delete": 1},
        **{"app.invitations/delete": 1, "app.members/delete": 1, "app.organizations/delete": 1},
    }
    assert expected.items() <= {f"{e['table']}/{e['action']}": e["rows"] for e in planned}.items()

    certificate = erasures.erase(alice)

    assert expected.items() <= rows(certificate).items()
    for table in ("roles", "teams", "team_members", "invitations", "members", "organizations"):
        assert admin.run(f"SELECT count(*) FROM app.{table} WHERE tenant_id = :t", t=alice.tenant_id) == [[0]], table


def test_a_copy_holds_what_is_hers(api, admin, alice, inbox):
    email = f"{uuid.uuid4().hex}@example.org"
    role(api, alice, "Auditor", "organizations.view", "users.invite")
    invite(api, alice, email, "Auditor")
    joined = join(api, mailed(inbox, email))
    nora = {"Authorization": f"Bearer {joined.json['access_token']}"}
    other = f"{uuid.uuid4().hex}@example.org"
    invite(api, nora, other, "Auditor")
    team = api.post("/v1/teams", json={"name": "Blue"}, headers=alice).json["id"]
    api.put(f"/v1/teams/{team}/members/{joined.json['user']['id']}", headers=alice)

    export_id = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=nora).json["id"]
    wait_until(lambda: api.get(f"/v1/exports/{export_id}", headers=nora).json["status"] == "ready", 60, "an export")
    location = api.get(f"/v1/exports/{export_id}/download", headers=nora).headers["Location"]
    package = zipfile.ZipFile(io.BytesIO(requests.get(location, timeout=30).content))

    (invitation,) = json.loads(package.read("data/invitations.json"))
    assert (invitation["email"], invitation["role"]) == (email, "Auditor")
    assert not {"token_hash", "generation"} & set(invitation)  # who invited her: an id (Art. 15(4) GDPR)
    (membership,) = json.loads(package.read("data/team_members.json"))
    assert membership["team_id"] == team
    (member,) = json.loads(package.read("data/members.json"))
    assert (member["role"], member["role_id"]) == (None, invitation["role_id"])
    assert other not in "".join(package.read(name).decode() for name in package.namelist())


def test_the_password_stays_out_of_the_database(api, stack, alice, inbox):
    email = f"{uuid.uuid4().hex}@example.org"
    invite(api, alice, email)
    join(api, mailed(inbox, email))
    assert hits(dump(stack), {PASSWORD.encode()}) == 0
