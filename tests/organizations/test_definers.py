"""What injected SQL reaches through the functions of invitations, members and suspension: no other organization."""

import hashlib
import json
import uuid

import pytest

from tests.organizations.support import invite
from tests.tenancy.conftest import Attacker


@pytest.fixture
def attacker(stack):
    """Attackers by role, closed at the end."""
    made = {}

    def of(role):
        made.setdefault(role, Attacker(stack, role))
        return made[role]

    yield of
    for each in made.values():
        each.connection.close()


@pytest.fixture
def armed(api, admin, alice):
    """Alice's invitation to somebody, and the hash of its secret."""
    email = f"new-{uuid.uuid4().hex}@example.org"
    made = invite(api, alice, email, "owner")
    hashed = hashlib.sha256(made["id"].encode()).hexdigest()
    admin.run(
        "UPDATE app.invitations SET token_hash = decode(:h, 'hex'), armed = generation WHERE id = :id",
        h=hashed,
        id=made["id"],
    )
    return {**made, "hash": f"'\\x{hashed}'"}


def test_a_log_in_does_not_open_other_peoples_invitations(attacker, admin, alice, mallory, armed):
    auth = attacker("auth_fn")
    auth.begin_sealed(mallory)
    mail = uuid.uuid4()

    seen = auth.try_all(
        [
            f"SELECT * FROM identity.find_invitation({armed['hash']})",
            f"SELECT * FROM identity.accept_invitation({armed['hash']}, NULL, NULL)",
            f"SELECT * FROM identity.accept_invitation({armed['hash']}, 'Eve', 'x')",
            f"SELECT app.open_invitation({armed['hash']})",
            "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
            f" VALUES ('{mail}', 'mail', 'invitation', '{armed['id']}', 'x')",
            f"SELECT * FROM identity.mail_invitation('{mail}')",
            f"SELECT identity.arm_invitation('{mail}', 1, 'x')",
            "SELECT * FROM app.invitations",
            "COMMIT",
        ]
    )

    assert armed["email"] not in seen
    assert alice.tenant_id not in seen
    member = "SELECT count(*) FROM app.members WHERE tenant_id = :t AND user_id = :u"
    assert admin.run(member, t=alice.tenant_id, u=mallory.user_id) == [[0]]
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE email = :e", e=armed["email"]) == [[0]]
    assert admin.run("SELECT accepted_at FROM app.invitations WHERE id = :id", id=armed["id"]) == [[None]]


def test_the_organizations_function_makes_no_members_and_no_secrets(attacker, api, admin, alice, mallory, armed):
    own = invite(api, mallory, f"new-{uuid.uuid4().hex}@example.org")
    organizations = attacker("organizations_fn")
    organizations.begin_sealed(mallory)

    seen = organizations.try_all(
        [
            f"INSERT INTO app.members (tenant_id, user_id, role)"
            f" VALUES ('{mallory.tenant_id}', '{alice.user_id}', 'viewer')",
            f"UPDATE app.members SET tenant_id = '{alice.tenant_id}'",
            f"UPDATE app.invitations SET token_hash = 'x', armed = 1 WHERE id = '{own['id']}'",
            f"SELECT app.has_member('{alice.email}')",
            f"SELECT * FROM app.people(ARRAY['{alice.user_id}']::uuid[])",
            f"SELECT identity.end_sessions_here('{alice.user_id}')",
            f"SELECT platform.set_suspended('{alice.tenant_id}', true, NULL, 'x')",
            f"SELECT app.open_invitation({armed['hash']})",
            f"SELECT * FROM identity.accept_invitation({armed['hash']}, 'Eve', 'x')",
            "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
            f" VALUES (gen_random_uuid(), 'mail', 'invitation', '{armed['id']}', 'x')",
            "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
            f" VALUES (gen_random_uuid(), 'mail', 'password_reset', '{own['id']}', 'x')",
            "COMMIT",
        ]
    )

    assert "[[True]]" not in seen
    assert alice.email not in seen.replace(f"'{alice.email}'", "")
    assert admin.run("SELECT token_hash FROM app.invitations WHERE id = :id", id=own["id"]) != [[b"x"]]
    assert admin.run("SELECT count(*) FROM app.members WHERE user_id = :u", u=alice.user_id) == [[1]]
    sessions = "SELECT count(*) FROM identity.login_sessions WHERE account_id = :u AND revoked_at IS NOT NULL"
    assert admin.run(sessions, u=alice.user_id) == [[0]]
    posted = "SELECT count(*) FROM platform.outbox WHERE reference = :id AND (name <> 'invitation' OR task_name = 'x')"
    assert admin.run(posted, id=armed["id"]) == admin.run(posted, id=own["id"]) == [[0]]
    assert api.get("/v1/organization", headers=alice).status_code == 200


def test_one_organizations_rows_are_not_anothers(attacker, admin, alice, mallory, api, armed):
    api.post("/v1/teams", json={"name": "Secret team"}, headers=alice)
    api.post("/v1/roles", json={"name": "Secret role", "permissions": []}, headers=alice)
    organizations = attacker("organizations_fn")
    organizations.begin_sealed(mallory)

    seen = organizations.try_all(
        [
            "SELECT * FROM app.invitations",
            "SELECT * FROM app.teams",
            "SELECT * FROM app.roles",
            "SELECT * FROM app.team_members",
            "UPDATE app.teams SET name = 'taken' RETURNING *",
            "DELETE FROM app.roles RETURNING *",
            "DELETE FROM app.invitations RETURNING *",
            "UPDATE app.invitations SET revoked_at = now() RETURNING *",
            "COMMIT",
        ]
    )

    assert "Secret" not in seen
    assert armed["email"] not in seen
    assert len(api.get("/v1/teams", headers=alice).json["items"]) == 1
    assert api.get("/v1/invitations", headers=alice).json["items"][0]["status"] == "pending"


def test_injected_sql_raises_nobody(attacker, admin, people, alice, vera):
    """Under a viewer's seal: no role given or taken, none made, no invitation in an owner's name, no suspension."""
    admin.run(
        "INSERT INTO app.roles (tenant_id, name, permissions) VALUES (:t, 'Treasurer', '{billing.edit}')",
        t=alice.tenant_id,
    )
    guest = people.create("viewer", alice.tenant_id)
    statements = [
        f"UPDATE app.members SET role = 'owner' WHERE user_id = '{vera.user_id}'",
        f"UPDATE app.members SET role = 'admin' WHERE user_id = '{guest.user_id}'",
        "UPDATE app.members SET role = NULL, role_id = (SELECT id FROM app.roles)",
        f"UPDATE app.members SET role = 'viewer' WHERE user_id = '{alice.user_id}'",
        f"DELETE FROM app.members WHERE user_id = '{alice.user_id}'",
        f"INSERT INTO app.roles (tenant_id, name, permissions) VALUES ('{alice.tenant_id}', 'x', '{{billing.edit}}')",
        "UPDATE app.roles SET permissions = '{}'",
        "DELETE FROM app.roles",
        *(
            "INSERT INTO app.invitations (tenant_id, email, role, invited_by, expires_at)"
            f" VALUES ('{alice.tenant_id}', 'eve@example.org', '{role}', '{by.user_id}', now() + interval '1 day')"
            for role, by in (("owner", alice), ("viewer", alice), ("owner", vera))
        ),
        "UPDATE app.organizations SET suspended_at = now()",
    ]
    organizations = attacker("organizations_fn")
    for statement in statements:
        organizations.begin_sealed(vera)
        organizations.try_all([statement, "COMMIT"])
    kept = "SELECT user_id::text, role FROM app.members WHERE tenant_id = :t AND role_id IS NULL"
    assert dict(admin.run(kept, t=alice.tenant_id)) == {
        alice.user_id: "owner", vera.user_id: "viewer", guest.user_id: "viewer"
    }  # fmt: skip
    roles = "SELECT name, permissions FROM app.roles WHERE tenant_id = :t"
    assert admin.run(roles, t=alice.tenant_id) == [["Treasurer", ["billing.edit"]]]
    assert admin.run("SELECT count(*) FROM app.invitations WHERE tenant_id = :t", t=alice.tenant_id) == [[0]]
    stopped = "SELECT suspended_at FROM app.organizations WHERE tenant_id = :t"
    assert admin.run(stopped, t=alice.tenant_id) == [[None]]


def test_injected_sql_of_an_owner_still_works(attacker, admin, alice, vera):
    """The same statements are an owner's to make: it is the policies that refuse, not the grants."""
    organizations = attacker("organizations_fn")
    organizations.begin_sealed(alice)
    organizations.try_all([f"UPDATE app.members SET role = 'admin' WHERE user_id = '{vera.user_id}'", "COMMIT"])
    assert admin.run("SELECT role FROM app.members WHERE user_id = :u", u=vera.user_id) == [["admin"]]


def test_an_event_that_names_no_key_stops_no_erasure(attacker, api, vera):
    event = {"action": "api_key.created", "resource_type": "api_key", "resource_id": "no key", "outcome": "success"}
    events = json.dumps([{**event, "request_id": "r", "data": {}, "personal": None}])
    projects = attacker("projects_fn")
    projects.begin_sealed(vera)
    projects.try_all([f"SELECT app.append_audit('{events}')", "COMMIT"])
    planned = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=vera)
    assert planned.status_code == 200
    assert {"app.audit_events", "app.members"} <= {entry["table"] for entry in planned.json["plan"]}


def test_a_keys_seal_makes_no_mightier_key(stack, admin, alice):
    """Injected under the seal of a key that may little: a key with what its maker may would outlive it."""
    organizations = Attacker(stack, "organizations_fn", "k")
    key_id, hashed = organizations.key_of(alice)
    admin.run("UPDATE app.api_keys SET permissions = '{project.view}' WHERE id = :id", id=key_id)
    organizations.connection.run("BEGIN")
    organizations.authorize(organizations.token(kind="k", session=hashed))
    planted = (
        "INSERT INTO app.api_keys (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)"
        f" VALUES ('{alice.tenant_id}', 'x', 'x', gen_random_uuid(), 'CODES', '{alice.user_id}',"
        " now() + interval '1 day')"
    )
    statements = [planted.replace("CODES", codes) for codes in ("{role.manage}", "{project.view}")]
    organizations.try_all([*statements, "COMMIT"])
    organizations.connection.close()
    made = "SELECT permissions FROM app.api_keys WHERE tenant_id = :t AND id <> :id"
    assert admin.run(made, t=alice.tenant_id, id=key_id) == [[["project.view"]]]
