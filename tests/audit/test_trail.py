"""What the trail tells: refusals of whoever is known, readings of other people's data, log-ins and what fails."""

import uuid
from typing import Any

import pg8000.native
import pytest

from common import apikeys
from tests.auth.support import events, log_in, refresh, refused
from tests.conftest import PASSWORD, Answer, Api, People, Person, wait_until

WRONG = "not the password at all"  # pragma: allowlist secret


def denied(admin: pg8000.native.Connection, tenant_id: str) -> list[tuple[str, str | None, str, str]]:
    """Actor and route of each refusal in a chain, why, and which request it was."""
    found = [event for event in events(admin, tenant_id) if event["action"] == "access.denied"]
    assert all(event["outcome"] == "denied" and event["resource_type"] == "route" for event in found)
    return [(e["actor_type"], e["actor_id"], e["resource_id"], e["data"]["reason"]) for e in found]


def named(admin: pg8000.native.Connection, tenant_id: str, action: str) -> list[dict[str, Any]]:
    return [event for event in events(admin, tenant_id) if event["action"] == action]


@pytest.fixture
def robot(api: Api, admin: pg8000.native.Connection, alice: Person) -> tuple[str, dict[str, str]]:
    """An API key of Alice's: its id and its headers."""
    key_id, (key, prefix) = str(uuid.uuid4()), apikeys.new_key()
    admin.run(
        "INSERT INTO app.api_keys (tenant_id, id, name, prefix, key_hash, permissions, created_by, expires_at)"
        " VALUES (:t, :id, 'Robot', :prefix, CAST(:hash AS uuid), '{project.view}', :u, now() + interval '1 day')",
        t=alice.tenant_id,
        id=key_id,
        prefix=prefix,
        hash=apikeys.key_hash(key),
        u=alice.user_id,
    )
    return key_id, {"Authorization": f"Bearer {key}"}


def test_a_refusal_tells_who_where_why_and_which_request(api: Api, admin: Any, alice: Person, vera: Person) -> None:
    answer = api.post("/v1/projects", json={"name": "x"}, headers={**vera, "User-Agent": "Curious"})

    assert refused(answer, 403, "permission_denied")
    (event,) = named(admin, alice.tenant_id, "access.denied")
    assert (event["resource_id"], event["actor_id"]) == ("POST /v1/projects", vera.user_id)
    assert event["data"] == {"reason": "permission_denied", "needs": "project.create"}
    assert event["request_id"] == answer.headers["X-Request-Id"]
    assert event["personal"]["user_agent"] == "Curious"


def test_a_forged_page_is_recorded(api: Api, admin: Any, alice: Person) -> None:
    """A cookie without its CSRF token."""
    cookie = {"Cookie": f"__Host-access={alice.token}"}

    assert refused(api.post("/v1/projects", json={"name": "x"}, headers=cookie), 403, "csrf_failed")

    assert denied(admin, alice.tenant_id) == [("user", alice.user_id, "POST /v1/projects", "csrf_failed")]


def test_a_suspended_organization_sees_who_knocks(api: Api, admin: Any, alice: Person, robot: Any) -> None:
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)

    assert refused(api.get("/v1/projects", headers=alice), 403, "organization_suspended")
    assert refused(api.get("/v1/projects", headers=robot[1]), 403, "organization_suspended")
    assert refused(log_in(api, alice.email, PASSWORD), 403, "organization_suspended")
    assert refused(log_in(api, alice.email, WRONG), 401, "invalid_credentials")
    assert api.get("/v1/exports", headers=alice).status_code == 200

    reason = "organization_suspended"
    assert denied(admin, alice.tenant_id) == [
        ("user", alice.user_id, "GET /v1/projects", reason),
        ("api_key", robot[0], "GET /v1/projects", reason),
    ]
    failed = named(admin, alice.tenant_id, "login.failed")
    assert [event["data"] for event in failed] == [{"method": "password", "reason": reason}, {"method": "password"}]


def test_an_expired_key_is_recorded_and_a_stranger_is_not(api: Api, admin: Any, alice: Person, robot: Any) -> None:
    admin.run("UPDATE app.api_keys SET expires_at = now() - interval '1 second' WHERE id = :id", id=robot[0])

    assert refused(api.get("/v1/projects", headers=robot[1]), 401, "invalid_token")
    unknown = {"Authorization": f"Bearer {apikeys.new_key()[0]}"}
    assert refused(api.get("/v1/projects", headers=unknown), 401, "invalid_token")

    assert denied(admin, alice.tenant_id) == [("api_key", robot[0], "GET /v1/projects", "invalid_token")]


def test_a_session_that_is_over_is_recorded_while_its_person_belongs_here(
    api: Api, admin: Any, alice: Person, dan: Person
) -> None:
    assert api.post("/v1/auth/logout", headers=dan).status_code == 204
    assert refused(api.get("/v1/projects", headers=dan), 401, "invalid_token")
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=dan.user_id)
    assert refused(api.get("/v1/projects", headers=dan), 401, "invalid_token")

    assert denied(admin, alice.tenant_id) == [("user", dan.user_id, "GET /v1/projects", "invalid_token")]


def test_the_last_owner_and_step_up_are_recorded(api: Api, admin: Any, people: People, alice: Person) -> None:
    member = f"/v1/members/{alice.user_id}"
    stale = people.log_in(alice, age_seconds=3600)

    assert refused(api.patch(member, json={"role": "viewer"}, headers=alice), 409, "last_owner")
    assert refused(api.patch(member, json={"role": "viewer"}, headers=stale), 403, "step_up_required")

    route = "PATCH /v1/members/<uuid:user_id>"
    assert [entry[2:] for entry in denied(admin, alice.tenant_id)] == [
        (route, "last_owner"),
        (route, "step_up_required"),
    ]


def test_nobody_forges_a_refusal_with_what_she_knows(admin: Any, alice: Person, mallory: Person) -> None:
    """The database asks for the credential itself, and for a membership."""
    ask = (
        "SELECT app.record_refusal(CAST(:t AS uuid), CAST(:u AS uuid), CAST(:c AS uuid), 'GET /', 'x', 'x', 'r', NULL)"
    )
    for tenant, user, credential in (
        (alice.tenant_id, mallory.user_id, mallory.session_id),
        (alice.tenant_id, alice.user_id, mallory.session_id),
        (alice.tenant_id, alice.user_id, str(uuid.uuid4())),
        (alice.tenant_id, None, str(uuid.uuid4())),
    ):
        assert admin.run(ask, t=tenant, u=user, c=credential) == [[False]]
    assert events(admin, alice.tenant_id) == []


class TestLogIns:
    @pytest.fixture
    def nora(self, people: People) -> Person:
        return people.create("owner", password=PASSWORD)

    def test_a_failure_stands_in_each_of_her_organizations(
        self, api: Api, admin: Any, people: People, nora: Person
    ) -> None:
        second, third = people.organization(), people.organization()
        people.join(nora.user_id, second, "viewer")
        people.join(nora.user_id, third, "viewer")
        admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=third)

        answer = log_in(api, nora.email, WRONG)
        assert refused(log_in(api, f"{uuid.uuid4().hex}@example.org", WRONG), 401, "invalid_credentials")

        for tenant_id in (nora.tenant_id, second, third):
            (event,) = events(admin, tenant_id)
            assert (event["action"], event["outcome"]) == ("login.failed", "failure")
            assert (event["actor_id"], event["resource_id"]) == (nora.user_id, nora.user_id)
            assert event["data"] == {"method": "password"}
            assert event["request_id"] == answer.headers["X-Request-Id"]

    def test_a_success_stands_in_the_organization_logged_into(
        self, api: Api, admin: Any, people: People, nora: Person
    ) -> None:
        second = people.organization()
        people.join(nora.user_id, second, "viewer")

        assert log_in(api, nora.email, PASSWORD, organization_id=second).status_code == 200

        assert events(admin, nora.tenant_id) == []
        (event,) = events(admin, second)
        assert (event["action"], event["actor_id"]) == ("login.succeeded", nora.user_id)
        assert log_in(api, nora.email, PASSWORD, organization_id=people.organization()).status_code == 404
        for tenant_id in (nora.tenant_id, second):
            event = events(admin, tenant_id)[-1]
            assert (event["action"], event["data"]["reason"]) == ("login.failed", "not_found")

    def test_the_lock_is_recorded(self, api: Api, admin: Any, nora: Person) -> None:
        for _ in range(5):
            assert refused(log_in(api, nora.email, WRONG), 401, "invalid_credentials")
        assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")
        assert refused(api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=nora), 429, "account_locked")

        *failed, locked, step_up = events(admin, nora.tenant_id)
        assert [event["data"] for event in failed] == [{"method": "password"}] * 5
        assert (locked["action"], locked["data"]) == (
            "login.failed",
            {"method": "password", "reason": "account_locked"},
        )
        assert (step_up["action"], step_up["data"]["reason"]) == ("access.denied", "account_locked")

    def test_a_refresh_of_a_session_that_is_over(self, api: Api, admin: Any, nora: Person) -> None:
        tokens = log_in(api, nora.email, PASSWORD).json
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert api.post("/v1/auth/logout", headers=headers).status_code == 204

        assert refused(refresh(api, tokens["refresh_token"]), 401, "invalid_token")

        reason = ("user", nora.user_id, "POST /v1/auth/refresh", "invalid_token")
        assert denied(admin, nora.tenant_id) == [reason]

    def test_what_she_changes_is_told_in_her_other_organizations(
        self, api: Api, admin: Any, people: People, nora: Person
    ) -> None:
        second = people.organization()
        people.join(nora.user_id, second, "viewer")

        answer = api.patch("/v1/auth/me", json={"display_name": "Nora Lind"}, headers=nora)
        assert answer.json["user"]["display_name"] == "Nora Lind"
        assert api.post("/v1/auth/logout-all", headers=nora).status_code == 204

        for tenant_id in (nora.tenant_id, second):
            assert [event["action"] for event in events(admin, tenant_id)] == ["user.updated", "login.ended_everywhere"]
        assert {event["outcome"] for event in events(admin, second)} == {"success"}

    def test_a_link_to_a_new_password_is_told_when_it_goes_out(
        self, api: Api, admin: Any, nora: Person, inbox: Any, drain: Any
    ) -> None:
        assert api.post("/v1/auth/password/forgot", json={"email": nora.email}).status_code == 202
        inbox.wait_for(nora.email, "new password", meanwhile=drain)

        (event,) = wait_until(lambda: named(admin, nora.tenant_id, "user.password_reset_mailed"), what="the event")
        assert (event["actor_type"], event["actor_id"], event["resource_id"]) == ("system", None, nora.user_id)
        assert event["personal"] is None


def read(api: Api, path: str, who: Person) -> Answer:
    answer = api.get(path, headers=who)
    assert answer.status_code == 200, answer.text
    return answer


def test_readings_of_other_peoples_data_are_recorded(api: Api, admin: Any, alice: Person, dan: Person) -> None:
    team = api.post("/v1/teams", json={"name": "Crew"}, headers=alice).json["id"]
    for path in ("/v1/members", f"/v1/teams/{team}/members", "/v1/invitations", "/v1/api-keys", "/v1/billing",
                 "/v1/legal-holds", "/v1/privacy/requests"):  # fmt: skip
        answer = read(api, path, alice)
        event = events(admin, alice.tenant_id)[-1]
        assert event["action"].endswith(".read"), path
        assert (event["actor_id"], event["request_id"]) == (alice.user_id, answer.headers["X-Request-Id"])
        assert event["personal"]["ip"]
    before = len(events(admin, alice.tenant_id))
    assert api.request("HEAD", "/v1/members", headers=alice).status_code == 200
    assert len(events(admin, alice.tenant_id)) == before + 1


def test_other_peoples_requests_are_recorded_and_her_own_are_not(
    api: Api, admin: Any, alice: Person, dan: Person
) -> None:
    his = api.post("/v1/exports", json={"scope": "user", "user_id": dan.user_id}, headers=alice).json["id"]

    for path in ("/v1/exports", f"/v1/exports/{his}"):
        read(api, path, dan)
    assert named(admin, alice.tenant_id, "export.read") == []
    for path in ("/v1/exports", f"/v1/exports/{his}"):
        read(api, path, alice)
    assert [event["resource_id"] for event in named(admin, alice.tenant_id, "export.read")] == [None, his]

    hers = api.post("/v1/exports", json={"scope": "me"}, headers=dan).json["id"]
    read(api, f"/v1/exports/{hers}", dan)
    assert len(named(admin, alice.tenant_id, "export.read")) == 2


def test_what_she_reads_of_herself_is_no_event(api: Api, admin: Any, alice: Person) -> None:
    for path in ("/v1/auth/me", "/v1/auth/sessions", "/v1/auth/mfa/factors", "/v1/exports", "/v1/deletions"):
        read(api, path, alice)

    assert events(admin, alice.tenant_id) == []
