"""Invitations as the organization sees them: made, listed, sent again, revoked."""

import uuid

import pytest

from tests.conftest import Api, People, database, last_audit_event, running_stack, wait_until
from tests.organizations.support import invite, links, mailed, person_with, role

NEW = "/v1/invitations"


def address():
    return f"new-{uuid.uuid4().hex[:12]}@example.org"


def refusal(answer):
    return answer.status_code, answer.json["code"]


def test_it_works(api, admin, alice, inbox):
    email = address()

    answer = api.post(NEW, json={"email": f" {email.upper()} ", "role": "developer"}, headers=alice)

    assert answer.status_code == 201, answer.text
    made = answer.json
    assert (made["email"], made["role"], made["status"], made["version"]) == (email, "developer", "pending", 1)
    assert (made["invited_by"], answer.headers["Location"]) == (alice.user_id, f"{NEW}/{made['id']}")
    event = last_audit_event(admin, alice)
    assert api.get(NEW, headers=alice).json == {"items": [made], "next_cursor": None}
    assert (event["action"], event["resource_id"], event["data"]) == (
        "invitation.created",
        made["id"],
        {"role": "developer"},
    )
    assert mailed(inbox, email)


def test_one_waits_at_a_time(api, admin, alice, mallory):
    email = address()
    first = invite(api, alice, email)
    assert refusal(api.post(NEW, json={"email": email, "role": "viewer"}, headers=alice)) == (409, "invitation_pending")
    invite(api, mallory, email)
    admin.run("UPDATE app.invitations SET expires_at = now() WHERE id = :id", id=first["id"])
    second = invite(api, alice, email, "viewer")
    items = api.get(NEW, headers=alice).json["items"]
    assert [(each["id"], each["status"]) for each in items] == [(second["id"], "pending"), (first["id"], "expired")]


def test_a_member_is_not_invited(api, alice, dan, mallory):
    assert refusal(api.post(NEW, json={"email": dan.email, "role": "viewer"}, headers=alice)) == (409, "already_member")
    same = api.post(NEW, json={"email": mallory.email, "role": "viewer"}, headers=alice)
    unknown = api.post(NEW, json={"email": address(), "role": "viewer"}, headers=alice)
    assert same.status_code == unknown.status_code == 201
    assert set(same.json) == set(unknown.json)


def test_inviting_is_giving_a_role(api, people, alice):
    boss = people.create("admin", alice.tenant_id)
    role(api, alice, "High", "billing.edit")
    helper = person_with(api, people, alice, "users.invite", "project.view", name="Helper")
    for maker, name in ((boss, "owner"), (boss, "High"), (helper, "viewer"), (helper, "admin")):
        assert refusal(api.post(NEW, json={"email": address(), "role": name}, headers=maker)) == (
            403,
            "permission_denied",
        )
    assert api.post(NEW, json={"email": address(), "role": "Helper"}, headers=helper).status_code == 201
    high = invite(api, alice, address(), "High")
    assert refusal(api.post(f"{NEW}/{high['id']}/resend", headers=boss)) == (403, "permission_denied")


@pytest.mark.parametrize(
    "body",
    [
        {"email": "nobody", "role": "viewer"},
        {"email": "new@example.org", "role": "king"},
        {"email": "new@example.org"},
        {"role": "viewer"},
        {"email": "new@example.org", "role": "viewer", "status": "accepted"},
    ],
)
def test_what_is_not_valid(api, alice, body):
    assert refusal(api.post(NEW, json=body, headers=alice)) == (422, "invalid_request")


def test_who_may(api, alice, dan, vera, mallory):
    made = invite(api, alice, address())
    for person in (dan, vera):
        for answer in (
            api.get(NEW, headers=person),
            api.post(NEW, json={"email": address(), "role": "viewer"}, headers=person),
            api.post(f"{NEW}/{made['id']}/resend", headers=person),
            api.delete(f"{NEW}/{made['id']}", headers=person),
        ):
            assert refusal(answer) == (403, "permission_denied")
    assert refusal(api.post(f"{NEW}/{made['id']}/resend", headers=mallory)) == (404, "not_found")
    assert refusal(api.delete(f"{NEW}/{made['id']}", headers=mallory)) == (404, "not_found")
    assert api.get(NEW, headers=mallory).json["items"] == []


def test_a_powerful_role_needs_a_fresh_proof(api, people, alice):
    """A role change does; an invitation to the role would be the way around it."""
    stale = people.log_in(alice, age_seconds=301)
    body = {"email": f"{uuid.uuid4().hex}@example.org", "role": "admin"}
    assert api.post("/v1/invitations", json=body, headers=stale).json["code"] == "step_up_required"
    made = api.post("/v1/invitations", json=body, headers=alice)
    assert made.status_code == 201
    again = f"/v1/invitations/{made.json['id']}/resend"
    assert api.post(again, headers=stale).json["code"] == "step_up_required"
    assert api.post(again, headers=alice).status_code == 200
    plain = {"email": f"{uuid.uuid4().hex}@example.org", "role": "developer"}
    assert api.post("/v1/invitations", json=plain, headers=stale).status_code == 201


def test_what_is_over_is_not_sent_again(api, admin, alice):
    made = invite(api, alice, address())
    path = f"{NEW}/{made['id']}"
    assert refusal(api.delete(path, headers={**alice, "If-Match": '"5"'})) == (412, "precondition_failed")
    assert api.delete(path, headers=alice).status_code == 204
    assert last_audit_event(admin, alice)["action"] == "invitation.revoked"
    assert refusal(api.post(f"{path}/resend", headers=alice)) == (409, "conflict")
    assert refusal(api.delete(path, headers=alice)) == (409, "conflict")


def test_an_expired_one_revives(api, admin, alice, inbox):
    email = address()
    made = invite(api, alice, email)
    old = mailed(inbox, email)
    admin.run("UPDATE app.invitations SET expires_at = now() WHERE id = :id", id=made["id"])
    assert api.get(NEW, headers=alice).json["items"][0]["status"] == "expired"

    renewed = api.post(f"{NEW}/{made['id']}/resend", headers=alice)

    assert (renewed.status_code, renewed.json["status"]) == (200, "pending")
    assert mailed(inbox, email, 2) != old
    assert last_audit_event(admin, alice)["action"] == "invitation.resent"


def test_a_revoked_one_sends_no_mail(api, admin, alice, inbox, drain):
    """The mail is made when it is sent: by then there may be nothing to accept any more."""
    email = address()
    made = invite(api, alice, email)
    mailed(inbox, email)
    api.delete(f"{NEW}/{made['id']}", headers=alice)
    mail, task = str(uuid.uuid4()), uuid.uuid4().hex
    admin.run(
        "INSERT INTO platform.outbox (id, kind, name, reference, task_name, created_at)"
        " VALUES (:id, 'mail', 'invitation', :ref, :task, now() - interval '1 minute')",
        id=mail,
        ref=made["id"],
        task=task,
    )
    assert drain().status_code == 200
    wait_until(
        lambda: admin.run("SELECT delivered_at IS NOT NULL FROM platform.outbox WHERE id = :id", id=mail)[0][0],
        30,
        "the end of the mail",
    )
    assert len(links(inbox, email)) == 1


def test_too_many_within_an_hour(api, admin, alice, mallory):
    admin.run(
        "INSERT INTO app.invitations (tenant_id, email, role, expires_at)"
        " SELECT :t, n || '@example.org', 'viewer', now() FROM generate_series(1, 200) AS n",
        t=alice.tenant_id,
    )
    answer = api.post(NEW, json={"email": address(), "role": "viewer"}, headers=alice)
    assert refusal(answer) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "3600"
    invite(api, mallory, address())


def test_nobodys_mailbox_is_flooded(tmp_path):
    """One mail a minute to an address, whether it is a new invitation or the same one again."""
    small = running_stack(tmp_path, only=["organizations"], INVITATION_PAUSE_SECONDS="60")
    with small as stack, database(stack["postgres"]["admin"]) as admin:
        api, alice, email = Api(stack["api"]), People(stack, admin).create("owner"), address()
        made = invite(api, alice, email)
        again = api.post(f"{NEW}/{made['id']}/resend", headers=alice)
        api.delete(f"{NEW}/{made['id']}", headers=alice)
        anew = api.post(NEW, json={"email": email, "role": "viewer"}, headers=alice)
        for answer in (again, anew):
            assert refusal(answer) == (429, "rate_limited")
            assert 50 <= int(answer.headers["Retry-After"]) <= 60
        admin.run("UPDATE app.invitations SET sent_at = now() - interval '1 minute' WHERE id = :id", id=made["id"])
        invite(api, alice, email)


def test_retention_forgets_them(api, admin, alice, backstage):
    made = [invite(api, alice, address())["id"] for _ in range(2)]
    admin.run("UPDATE app.invitations SET expires_at = now() - interval '91 days' WHERE id = :id", id=made[0])

    answer = backstage.call("retention", "scheduler", "/internal/retention/run")

    assert answer.status_code == 200
    assert answer.json["removed"]["app.invitations"] >= 1
    assert [each["id"] for each in api.get(NEW, headers=alice).json["items"]] == made[1:]
