"""/v1/api-keys: shown once, hashed at rest, as able as what they were given and what their maker still may."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from common import apikeys, errors
from tests.conftest import last_audit_event
from tests.organizations.keys import KEYS, ask, make

FORM = re.compile(r"ctx_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9a-f]{8}")
NOBODY = "7f0c6a52-2f0b-4a4e-9d5e-0c1b8f2f6a11"
SHOWN = {"id", "name", "prefix", "permissions", "created_by", "created_at", "expires_at", "version"}


def refused(answer, status, code):
    return (answer.status_code, answer.json["code"]) == (status, code)


def days_ahead(moment):
    return (datetime.fromisoformat(moment) - datetime.now(UTC)) / timedelta(days=1)


def count(admin, person):
    return admin.run("SELECT count(*) FROM app.api_keys WHERE tenant_id = :t", t=person.tenant_id)[0][0]


@pytest.fixture
def adam(people, alice):
    """An admin of Alice's organization."""
    return people.create("admin", alice.tenant_id)


@pytest.fixture
def key(api, alice):
    return make(api, alice, "project.view", "project.create", "task.view", "task.create")


def test_it_works(api, admin, alice):
    answer = ask(api, alice, "task.view", "project.view", "task.view")

    assert answer.status_code == 201
    assert set(answer.json) == SHOWN | {"key"}
    assert FORM.fullmatch(answer.json["key"])
    assert answer.json["key"].split("_")[1] == answer.json["prefix"]
    assert answer.json["permissions"] == ["project.view", "task.view"]
    assert (answer.json["created_by"], answer.json["version"]) == (alice.user_id, 1)
    assert 89.9 < days_ahead(answer.json["expires_at"]) < 90.1
    assert answer.headers["Location"] == f"{KEYS}/{answer.json['id']}"
    assert (answer.headers["ETag"], answer.headers["Cache-Control"]) == ('"1"', "no-store")
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"]) == ("api_key.created", answer.json["id"])
    assert event["data"] == {"permissions": ["project.view", "task.view"]}


def test_it_is_shown_once(api, admin, alice, key):
    listed = api.get(KEYS, headers=alice)

    assert [set(item) for item in listed.json["items"]] == [SHOWN]
    assert listed.json["items"][0] == {name: value for name, value in key.made.items() if name != "key"}
    secret = key.text.split("_")[2]
    assert secret not in listed.text
    assert apikeys.key_hash(key.text) not in listed.text
    stored = admin.run("SELECT k::text, k.key_hash::text FROM app.api_keys k WHERE id = :id", id=key.id)[0]
    assert stored[1] == apikeys.key_hash(key.text)
    events = admin.run("SELECT e::text FROM app.audit_events e WHERE tenant_id = :t", t=alice.tenant_id)
    assert not [text for text in (stored[0], *(row[0] for row in events)) if secret in text]


def test_a_second_one_is_another_one(api, alice):
    """An idempotency key does not bring a secret back."""
    body = {"name": "Twice", "permissions": ["project.view"]}
    headers = {**alice, "Idempotency-Key": str(uuid.uuid4())}
    keys = {api.post(KEYS, json=body, headers=headers).json["key"] for _ in range(2)}
    assert len(keys) == 2


def test_a_page_at_a_time(api, alice):
    made = [make(api, alice, "project.view", name=f"Key {number}").id for number in range(3)]

    first = api.get(f"{KEYS}?limit=2", headers=alice)
    second = api.get(f"{KEYS}?limit=2&cursor={first.json['next_cursor']}", headers=alice)

    assert [item["id"] for item in first.json["items"] + second.json["items"]] == made[::-1]
    assert second.json["next_cursor"] is None


# What a key may do.


def test_it_acts_for_its_maker(api, admin, alice, key):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=key)

    assert (project.status_code, project.json["created_by"]) == (201, alice.user_id)
    event = last_audit_event(admin, alice)
    assert (event["action"], event["actor_type"], event["actor_id"]) == ("project.created", "api_key", key.id)
    task = api.post(f"/v1/projects/{project.json['id']}/tasks", json={"title": "Climb"}, headers=key)
    assert task.status_code == 201
    assert api.get(f"/v1/tasks/{task.json['id']}", headers=key).status_code == 200
    assert [item["id"] for item in api.get("/v1/projects", headers=key).json["items"]] == [project.json["id"]]


def test_what_it_was_not_given(api, admin, alice, key):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=key).json["id"]

    for method, path in (("DELETE", f"/v1/projects/{project}"), ("GET", "/v1/members"), ("GET", "/v1/audit-events")):
        assert refused(api.request(method, path, headers=key), 403, "permission_denied"), path
        event = last_audit_event(admin, alice)
        assert (event["action"], event["outcome"], event["actor_id"]) == ("access.denied", "denied", key.id)
    assert api.get(f"/v1/projects/{project}", headers=alice).status_code == 200


def test_each_permission_opens_its_door(api, alice):
    doors = {
        "organizations.view": "/v1/members",
        "audit.view": "/v1/audit-events",
        "billing.view": "/v1/billing",
        "apikey.manage": KEYS,
    }
    for permission in doors:
        key = make(api, alice, permission)
        opened = {other for other, path in doors.items() if api.get(path, headers=key).status_code == 200}
        assert opened == {permission}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/auth/me"),
        ("GET", "/v1/auth/sessions"),
        ("POST", "/v1/auth/logout-all"),
        ("GET", "/v1/exports"),
        ("POST", "/v1/exports"),
        ("GET", "/v1/deletions"),
        ("POST", "/v1/deletions"),
        ("POST", KEYS),
        ("DELETE", f"{KEYS}/{NOBODY}"),
    ],
)
def test_what_is_for_people(api, admin, alice, method, path):
    """A key with every permission is no person: nobody's own data, nothing that needs a fresh proof of identity."""
    everything = admin.run("SELECT permissions FROM platform.roles WHERE name = 'owner'")[0][0]
    key = make(api, alice, *everything)

    body = {"json": {"scope": "me", "format": "json"}} if method == "POST" else {}
    assert refused(api.request(method, path, headers=key, **body), 403, "permission_denied")

    event = last_audit_event(admin, alice)
    assert (event["action"], event["actor_type"], event["actor_id"]) == ("access.denied", "api_key", key.id)


def test_a_key_does_not_read_its_makers_certificate(api, admin, alice, key):
    """The one address that is open and looks at the credential itself."""
    job = str(uuid.uuid4())
    admin.run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'deletion', 'done')", id=job)
    admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash, certificate,"
        " finished_at) VALUES (:id, :u, 'me', now(), now(), 'x', '{}', now())",
        id=job,
        u=alice.user_id,
    )

    assert api.get(f"/v1/deletions/{job}/certificate", headers=alice).status_code == 200
    assert api.get(f"/v1/deletions/{job}/certificate", headers=key).status_code in {403, 404}


def test_another_organization(api, alice, mallory, key):
    theirs = api.post("/v1/projects", json={"name": "Theirs"}, headers=mallory).json["id"]

    assert refused(api.get(f"/v1/projects/{theirs}", headers=key), 404, "not_found")
    assert refused(api.delete(f"{KEYS}/{key.id}", headers=mallory), 404, "not_found")
    assert api.get(KEYS, headers=mallory).json["items"] == []
    assert api.get("/v1/projects", headers=key).status_code == 200


# What ends it, on the very next request.


def test_its_makers_role(api, admin, adam):
    key = make(api, adam, "project.view", "project.create")
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=key).status_code == 201

    def becomes(role):
        admin.run("UPDATE app.members SET role = :role WHERE user_id = :u", role=role, u=adam.user_id)

    becomes("viewer")
    assert refused(api.post("/v1/projects", json={"name": "Borea"}, headers=key), 403, "permission_denied")
    assert api.get("/v1/projects", headers=key).status_code == 200
    becomes("admin")
    assert api.post("/v1/projects", json={"name": "Borea"}, headers=key).status_code == 201


def test_its_makers_own_role(api, admin, people, alice):
    """A custom role counts as a built-in one does."""
    role, ada = str(uuid.uuid4()), people.create("viewer", alice.tenant_id)
    admin.run(
        "INSERT INTO app.roles (tenant_id, id, name, permissions)"
        " VALUES (:t, :id, 'Builder', '{apikey.manage,project.view}')",
        t=alice.tenant_id,
        id=role,
    )
    admin.run("UPDATE app.members SET role = NULL, role_id = :r WHERE user_id = :u", r=role, u=ada.user_id)
    key = make(api, ada, "project.view")
    assert refused(ask(api, ada, "task.view"), 403, "permission_denied")
    assert api.get("/v1/projects", headers=key).status_code == 200

    admin.run("UPDATE app.roles SET permissions = '{apikey.manage}' WHERE id = :r", r=role)

    assert refused(api.get("/v1/projects", headers=key), 403, "permission_denied")


def test_its_maker_leaves(api, admin, adam):
    key = make(api, adam, "project.view")
    assert api.get("/v1/projects", headers=key).status_code == 200

    admin.run("DELETE FROM app.members WHERE user_id = :u", u=adam.user_id)

    assert refused(api.get("/v1/projects", headers=key), 401, "invalid_token")
    assert count(admin, adam) == 0


def test_its_maker_comes_back(api, admin, people, adam):
    key = make(api, adam, "project.view")
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=adam.user_id)
    people.join(adam.user_id, adam.tenant_id, "owner")

    assert refused(api.get("/v1/projects", headers=key), 401, "invalid_token")


def test_its_makers_account_is_frozen(api, admin, adam):
    key = make(api, adam, "project.view")
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :u", u=adam.user_id)
    assert refused(api.get("/v1/projects", headers=key), 401, "invalid_token")


def test_its_organization_is_suspended(api, admin, alice, key):
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)
    assert refused(api.get("/v1/projects", headers=key), 403, "organization_suspended")


def test_its_time(api, admin, key):
    admin.run("UPDATE app.api_keys SET expires_at = now() + interval '1 hour' WHERE id = :id", id=key.id)
    assert api.get("/v1/projects", headers=key).status_code == 200
    admin.run("UPDATE app.api_keys SET expires_at = now() - interval '1 second' WHERE id = :id", id=key.id)
    answer = api.get("/v1/projects", headers=key)
    assert refused(answer, 401, "invalid_token")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_its_deletion(api, admin, alice, adam, key):
    """Whoever manages keys deletes any of the organization."""
    answer = api.delete(f"{KEYS}/{key.id}", headers=adam)

    assert (answer.status_code, answer.text) == (204, "")
    assert refused(api.get("/v1/projects", headers=key), 401, "invalid_token")
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"], event["actor_id"]) == ("api_key.deleted", key.id, adam.user_id)
    assert refused(api.delete(f"{KEYS}/{key.id}", headers=alice), 404, "not_found")


def test_a_stale_version(api, alice, key):
    stale = api.delete(f"{KEYS}/{key.id}", headers={**alice, "If-Match": '"2"'})
    assert refused(stale, 412, "precondition_failed")
    assert api.delete(f"{KEYS}/{key.id}", headers={**alice, "If-Match": '"1"'}).status_code == 204


# Who makes one, and of what.


def test_nobody_gives_what_they_lack(api, admin, adam):
    answer = ask(api, adam, "billing.view", "billing.edit", "organizations.delete")

    assert refused(answer, 403, "permission_denied")
    assert "billing.edit, organizations.delete" in answer.json["detail"]
    assert "billing.view" not in answer.json["detail"]
    assert count(admin, adam) == 0
    event = last_audit_event(admin, adam)
    assert (event["action"], event["outcome"]) == ("access.denied", "denied")


def test_who_may(api, dan, vera):
    for person in (dan, vera):
        assert refused(ask(api, person, "project.view"), 403, "permission_denied")
        assert refused(api.get(KEYS, headers=person), 403, "permission_denied")
        assert refused(api.delete(f"{KEYS}/{uuid.uuid4()}", headers=person), 403, "permission_denied")


def test_a_fresh_proof_of_identity(api, people, alice, key):
    stale = people.log_in(alice, age_seconds=301)

    assert refused(ask(api, stale, "project.view"), 403, "step_up_required")
    assert refused(api.delete(f"{KEYS}/{key.id}", headers=stale), 403, "step_up_required")
    assert api.get(KEYS, headers=stale).status_code == 200


def ahead(**span):
    return (datetime.now(UTC) + timedelta(**span)).isoformat()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("permissions", ["project.view", "project.fly"]),
        ("permissions", ["*"]),
        ("permissions", []),
        ("permissions", "project.view"),
        ("permissions", [7]),
        ("permissions", None),
        ("name", ""),
        ("name", "x" * 256),
        ("name", "\x00"),
        ("name", None),
        ("expires_at", ahead(seconds=-1)),
        ("expires_at", ahead(days=367)),
        ("expires_at", "0001-01-01T00:00:00+23:59"),
        ("expires_at", "soon"),
        ("created_by", NOBODY),
        ("key", "ctx_00000000_"),
    ],
    ids=lambda value: str(value)[:4],
)
def test_what_is_not_valid(api, admin, alice, field, value):
    body = {"name": "Continuous build", "permissions": ["project.view"], field: value}
    answer = api.post(KEYS, json=body, headers=alice)

    assert refused(answer, 422, "invalid_request"), answer.text
    assert [name.split(".")[0] for name in answer.json["errors"]] == [field]
    assert count(admin, alice) == 0


def test_its_end(api, alice):
    assert 364 < days_ahead(make(api, alice, "project.view", expires_at=ahead(days=365)).made["expires_at"]) < 366
    assert 89 < days_ahead(make(api, alice, "project.view", expires_at=None).made["expires_at"]) < 91


# What is no key.


def changed(key, position):
    """The key with another character at a place."""
    other = "1" if key[position] != "1" else "2"
    return key[:position] + other + key[position + 1 :]


def test_an_altered_character_anywhere(api, key):
    """A typing error is told by the checksum, before the database is asked."""
    for position in range(4, len(key.text)):
        with pytest.raises(errors.Problem, match="invalid_token"):
            apikeys.key_hash(changed(key.text, position))
    for position in (4, 20, len(key.text) - 1):
        answer = api.get("/v1/projects", headers={"Authorization": f"Bearer {changed(key.text, position)}"})
        assert refused(answer, 401, "invalid_token")


@pytest.mark.parametrize(
    "odd",
    [
        "ctx_",
        "ctx___",
        "ctx_00000000_0_00000000",
        "ctx_0000000é_" + "0" * 43 + "_00000000",
        "ctx_" + "0" * 5000,
        apikeys.new_key()[0],
        apikeys.new_key()[0].upper(),
        apikeys.new_key()[0] + "0",
        apikeys.new_key()[0][4:],
    ],
    ids=lambda odd: f"{len(odd)} characters",
)
def test_what_was_never_given(api, odd):
    answer = api.get("/v1/projects", headers={"Authorization": f"Bearer {odd}".encode()})
    assert refused(answer, 401, "invalid_token"), answer.text
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_its_hash_is_no_key(api, key):
    answer = api.get("/v1/projects", headers={"Authorization": f"Bearer {apikeys.key_hash(key.text)}"})
    assert refused(answer, 401, "invalid_token")


def test_elsewhere_than_in_the_header(api, key):
    """In an address a key would reach logs; by a cookie another site could use it."""
    for name in ("key", "api_key", "access_token", "token"):
        assert api.get(f"/v1/projects?{name}={key.text}").status_code == 401
    for name in ("__Host-access", "__Host-refresh", "api_key"):
        assert api.get("/v1/projects", headers={"Cookie": f"{name}={key.text}"}).status_code == 401
    for headers in ({"X-Api-Key": key.text}, {"Authorization": f"Basic {key.text}"}, {"Authorization": key.text}):
        assert api.get("/v1/projects", headers=headers).status_code == 401


def test_keys_are_random():
    made = [apikeys.new_key() for _ in range(200)]

    assert len({key for key, _ in made}) == len({prefix for _, prefix in made}) == 200
    assert {len(key) for key, _ in made} == {len("ctx_") + 8 + 1 + 43 + 1 + 8}
    assert len({apikeys.key_hash(key) for key, _ in made}) == 200
