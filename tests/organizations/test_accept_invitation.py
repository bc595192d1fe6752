"""POST /v1/invitations/accept: the mailbox makes an account, or lets its owner join who is logged in."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from tests.auth.mfa_support import enrolled, rested, verify
from tests.conftest import last_audit_event
from tests.deletions.test_dry_run import pending_registration
from tests.organizations.support import PASSWORD, accept, bearer, invite, join, mailed, membership, role


def address() -> str:
    return f"new-{uuid.uuid4().hex[:12]}@example.org"


def test_it_works(api, admin, alice, inbox):
    email = address()
    invitation = invite(api, alice, email.upper(), "developer")
    token = mailed(inbox, email)

    answer = join(api, token, "Nora New")

    assert answer.status_code == 200, answer.text
    assert answer.json["status"] == "authenticated"
    assert answer.json["user"]["email"] == email
    assert answer.json["user"]["display_name"] == "Nora New"
    assert (answer.json["organization"]["id"], answer.json["organization"]["role"]) == (alice.tenant_id, "developer")
    nora = bearer(answer)
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=nora).status_code == 201
    assert api.get("/v1/invitations", headers=nora).status_code == 403
    events = admin.run(
        "SELECT action, actor_id::text, resource_id FROM app.audit_events WHERE tenant_id = :t", t=alice.tenant_id
    )
    assert ["invitation.accepted", answer.json["user"]["id"], invitation["id"]] in events
    assert ["member.joined", answer.json["user"]["id"], answer.json["user"]["id"]] in events
    (shown,) = api.get("/v1/invitations", headers=alice).json["items"]
    assert (shown["status"], shown["version"]) == ("accepted", 2)
    logged_in = api.post("/v1/auth/login", json={"email": email, "password": PASSWORD})
    assert logged_in.status_code == 200


def test_only_a_hash_is_kept(api, admin, alice, inbox):
    email = address()
    invitation = invite(api, alice, email)
    token = mailed(inbox, email)

    kept = admin.run("SELECT to_json(i)::text FROM app.invitations i WHERE id = :id", id=invitation["id"])[0][0]
    outbox = admin.run("SELECT to_json(o)::text FROM platform.outbox o WHERE reference = :id", id=invitation["id"])

    assert token not in kept
    assert token not in str(outbox)
    assert email not in str(outbox)


def test_a_link_works_once(api, alice, inbox):
    email = address()
    invite(api, alice, email)
    token = mailed(inbox, email)
    assert join(api, token).status_code == 200

    again = join(api, token)

    assert (again.status_code, again.json["code"]) == (401, "invalid_token")


def test_the_same_link_at_once_makes_one_account(api, admin, alice, inbox):
    email = address()
    invite(api, alice, email)
    token = mailed(inbox, email)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: join(type(api)(api.base), token, f"Name {n}"), range(4)))

    assert sorted(answer.status_code for answer in answers)[0] == 200
    assert {answer.status_code for answer in answers} <= {200, 401, 503}
    assert [answer.status_code for answer in answers].count(200) == 1
    found = admin.run(
        "SELECT count(*) FROM app.members m JOIN identity.accounts a ON a.id = m.user_id WHERE a.email = :e", e=email
    )
    assert found == [[1]]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "password"),
        ({"password": PASSWORD}, 422, "display_name"),
        ({"display_name": "Nora"}, 422, "password"),
        ({"display_name": "Nora", "password": "short"}, 422, "password"),
        ({"display_name": "Nora Nordberg", "password": "nordberg is my name"}, 422, "password"),
        ({"display_name": "Nora", "password": PASSWORD, "role": "owner"}, 422, "role"),
    ],
)
def test_a_new_account_follows_the_rules(api, alice, inbox, body, status, field):
    email = address()
    invite(api, alice, email)
    token = mailed(inbox, email)

    answer = accept(api, token, **body)

    assert answer.status_code == status, answer.text
    assert field in answer.json["errors"]
    assert join(api, token).status_code == 200


def test_an_account_joins_by_its_log_in(api, admin, alice, mallory, inbox):
    invite(api, alice, mallory.email, "viewer")
    token = mailed(inbox, mallory.email)

    anonymous = accept(api, token)
    with_password = join(api, token)
    answer = accept(api, token, mallory)

    assert (anonymous.status_code, anonymous.json["code"]) == (401, "login_required")
    assert (with_password.status_code, with_password.json["code"]) == (401, "login_required")
    assert answer.status_code == 200, answer.text
    assert answer.json["organization"]["id"] == alice.tenant_id
    assert {each["id"] for each in answer.json["organizations"]} == {alice.tenant_id, mallory.tenant_id}
    there = bearer(answer)
    assert api.get("/v1/organization", headers=there).json["id"] == alice.tenant_id
    assert api.get("/v1/organization", headers=mallory).json["id"] == mallory.tenant_id
    assert last_audit_event(admin, alice)["actor_id"] == mallory.user_id


def test_the_new_log_in_proves_no_more_than_the_old_one(api, admin, people, alice, mallory, inbox):
    invite(api, alice, mallory.email, "owner")
    token = mailed(inbox, mallory.email)
    old = people.log_in(mallory, age_seconds=3000)

    there = bearer(accept(api, token, old))

    refused = api.post("/v1/roles", json={"name": "New", "permissions": []}, headers=there)
    assert (refused.status_code, refused.json["code"]) == (403, "step_up_required")


def test_somebody_elses_log_in_does_not_help(api, admin, alice, dan, mallory, inbox):
    invite(api, alice, mallory.email)
    token = mailed(inbox, mallory.email)

    for headers in (dan, alice, {"Authorization": "Bearer nonsense"}):
        answer = accept(api, token, headers)
        assert (answer.status_code, answer.json["code"]) == (401, "login_required")
    admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE id = :id", id=mallory.session_id)
    assert accept(api, token, mallory).json["code"] == "login_required"
    assert membership(admin, alice.tenant_id, mallory.user_id) is None


def test_who_belongs_nowhere_joins_with_the_password(api, admin, people, alice, inbox):
    lone = people.create("viewer", password=PASSWORD)
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=lone.user_id)
    invite(api, alice, lone.email)
    token = mailed(inbox, lone.email)

    assert accept(api, token, lone).json["code"] == "login_required"
    wrong = accept(api, token, password="not the right password")
    answer = accept(api, token, password=PASSWORD)

    assert (wrong.status_code, wrong.json["code"]) == (401, "invalid_credentials")
    assert answer.status_code == 200, answer.text
    assert answer.json["user"]["id"] == lone.user_id
    assert api.get("/v1/projects", headers=bearer(answer)).status_code == 200


def test_a_password_is_no_log_in_for_others(api, alice, people, inbox):
    """Somebody with an organization logs in, where her second factor is asked for."""
    known = people.create("owner", password=PASSWORD)
    invite(api, alice, known.email)

    answer = accept(api, mailed(inbox, known.email), password=PASSWORD)

    assert (answer.status_code, answer.json["code"]) == (401, "login_required")


def test_the_mailbox_voids_registrations(api, admin, alice, inbox, people):
    stranger = people.create()
    email = stranger.email
    admin.run("UPDATE identity.accounts SET email = :new WHERE id = :id", new=address(), id=stranger.user_id)
    pending_registration(admin, stranger)
    count = "SELECT count(*) FROM identity.registrations WHERE email = :e"
    assert admin.run(count, e=email) == [[1]]
    invite(api, alice, email)

    assert join(api, mailed(inbox, email)).status_code == 200

    assert admin.run(count, e=email) == [[0]]


def test_an_address_that_was_taken_meanwhile(api, admin, alice, inbox, people):
    email = address()
    invite(api, alice, email)
    token = mailed(inbox, email)
    other = people.create()
    admin.run("UPDATE identity.accounts SET email = :e WHERE id = :id", e=email, id=other.user_id)

    answer = join(api, token)

    assert (answer.status_code, answer.json["code"]) == (401, "login_required")


def test_a_resend_kills_the_old_link(api, admin, alice, inbox):
    email = address()
    invitation = invite(api, alice, email)
    old = mailed(inbox, email)

    renewed = api.post(f"/v1/invitations/{invitation['id']}/resend", headers=alice)

    assert (renewed.status_code, renewed.json["version"]) == (200, 2)
    assert join(api, old).json["code"] == "invalid_token"
    new = mailed(inbox, email, 2)
    assert new != old
    assert join(api, old).json["code"] == "invalid_token"
    assert join(api, new).status_code == 200


def test_the_old_link_is_dead_before_the_new_one_is_sent(api, admin, alice, inbox):
    email = address()
    invitation = invite(api, alice, email)
    token = mailed(inbox, email)
    admin.run("UPDATE app.invitations SET generation = generation + 1 WHERE id = :id", id=invitation["id"])
    assert join(api, token).json["code"] == "invalid_token"


@pytest.mark.parametrize("end", ["revoked", "expired", "suspended"])
def test_what_is_over_is_over(api, admin, alice, inbox, end):
    email = address()
    invitation = invite(api, alice, email)
    token = mailed(inbox, email)
    if end == "revoked":
        assert api.delete(f"/v1/invitations/{invitation['id']}", headers=alice).status_code == 204
    elif end == "expired":
        admin.run("UPDATE app.invitations SET expires_at = now() WHERE id = :id", id=invitation["id"])
    else:
        admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)

    answer = join(api, token)

    expected = (403, "organization_suspended") if end == "suspended" else (401, "invalid_token")
    assert (answer.status_code, answer.json["code"]) == expected
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE email = :e", e=email) == [[0]]


@pytest.mark.parametrize("loss", ["left", "demoted", "role changed", "frozen"])
def test_an_inviter_who_lost_the_right_gives_nothing(api, admin, alice, people, inbox, loss):
    maker = people.create("admin", alice.tenant_id)
    email = address()
    promised = role(api, alice, "Promised", "organizations.view")
    invitation = invite(api, maker, email, "Promised")
    token = mailed(inbox, email)
    if loss == "left":
        assert api.delete(f"/v1/members/{maker.user_id}", headers=maker).status_code == 204
    elif loss == "demoted":
        change = api.patch(f"/v1/members/{maker.user_id}", json={"role": "member"}, headers=alice)
        assert change.status_code == 200
    elif loss == "frozen":
        admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :id", id=maker.user_id)
    else:
        more = {"permissions": ["organizations.view", "billing.edit"]}
        assert api.patch(f"/v1/roles/{promised['id']}", json=more, headers=alice).status_code == 200

    assert join(api, token).json["code"] == "invalid_token"
    resent = api.post(f"/v1/invitations/{invitation['id']}/resend", headers=alice)
    assert (resent.status_code, resent.json["invited_by"]) == (200, alice.user_id)
    assert join(api, mailed(inbox, email, 2)).status_code == 200


def test_a_custom_role_comes_with_it(api, admin, alice, inbox):
    email = address()
    made = role(api, alice, "Auditor", "audit.view")
    invite(api, alice, email, "Auditor")

    answer = join(api, mailed(inbox, email))

    assert answer.json["organization"]["role"] == "Auditor"
    assert membership(admin, alice.tenant_id, answer.json["user"]["id"]) == (None, made["id"])
    me = api.get("/v1/auth/me", headers=bearer(answer)).json
    assert me["permissions"] == ["audit.view"]


def test_a_member_does_not_join_twice(api, admin, alice, dan, inbox):
    email = address()
    invite(api, alice, email)
    token = mailed(inbox, email)
    admin.run("UPDATE identity.accounts SET email = :e WHERE id = :id", e=email, id=dan.user_id)

    answer = accept(api, token, dan)

    assert (answer.status_code, answer.json["code"]) == (409, "already_member")
    assert membership(admin, alice.tenant_id, dan.user_id) == ("developer", None)


def test_the_page(api):
    page = api.get("/accept-invitation")
    assert page.status_code == 200
    assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]
    assert "/v1/invitations/accept" in page.text


@pytest.mark.parametrize("dot", [".", "\u2024", "\uff0e", "\u3002", "\uff61"])
def test_the_mail_shows_no_link_but_ours(api, admin, alice, inbox, stack, dot):
    email = address()
    name = f"Win at evil{dot}example now"
    admin.run("UPDATE app.organizations SET name = :n WHERE tenant_id = :t", n=name, t=alice.tenant_id)
    invite(api, alice, email)
    mailed(inbox, email)
    (message,) = inbox.messages(email)
    assert f"evil{dot}example" not in message["text"]
    assert f"{stack['api']}/accept-invitation#token=" in message["text"]
    admin.run("UPDATE app.organizations SET name = 'Acme & Sons' WHERE tenant_id = :t", t=alice.tenant_id)
    other = address()
    invite(api, alice, other)
    mailed(inbox, other)
    assert "“Acme & Sons”" in inbox.messages(other)[0]["text"]


def test_cookies_in_the_place_of_tokens(api, alice, inbox):
    email = address()
    invite(api, alice, email)

    answer = api.post(
        "/v1/invitations/accept?cookies=true",
        json={"token": mailed(inbox, email), "password": PASSWORD, "display_name": "Nora"},
    )

    assert answer.status_code == 200, answer.text
    assert "access_token" not in answer.json
    assert "__Host-access" in answer.headers["Set-Cookie"]


def test_passwords_are_hashed_as_always(api, admin, alice, inbox):
    email = address()
    invite(api, alice, email)
    join(api, mailed(inbox, email))
    hashed = admin.run("SELECT password_hash FROM identity.accounts WHERE email = :e", e=email)[0][0]
    assert PasswordHasher().verify(hashed, PASSWORD)


def test_the_password_is_not_all(api, admin, people, alice, inbox):
    """Mailbox and password make the membership; the second factor is still asked for before there are tokens."""
    lone = people.create("viewer", password=PASSWORD)
    app, _ = enrolled(api, admin, lone)
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=lone.user_id)
    invite(api, alice, lone.email)

    answer = accept(api, mailed(inbox, lone.email), password=PASSWORD)

    assert (answer.status_code, answer.json["status"]) == (200, "mfa_required")
    assert "access_token" not in answer.json
    rested(admin, app)
    proved = verify(api, answer.json["mfa_token"], factor_id=app.factor_id, code=app.code())
    assert proved.status_code == 200, proved.text
    assert proved.json["organization"]["id"] == alice.tenant_id


def test_guessing_the_password_is_locked(api, admin, people, alice, inbox):
    lone = people.create("viewer", password=PASSWORD)
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=lone.user_id)
    invite(api, alice, lone.email)
    token = mailed(inbox, lone.email)

    codes = [accept(api, token, password="a wrong password").json["code"] for _ in range(6)]  # pragma: allowlist secret

    assert codes[:4] == ["invalid_credentials"] * 4
    assert codes[-1] == "account_locked"
    assert accept(api, token, password=PASSWORD).json["code"] == "account_locked"
    assert membership(admin, alice.tenant_id, lone.user_id) is None
