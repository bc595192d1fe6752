"""Login sessions: list, end one, log out, log out everywhere."""

import uuid

import pytest

from tests.auth.support import PASSWORD, bearer, claims, events, log_in, refresh, refused


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def me(api, tokens):
    return api.get("/v1/auth/me", headers=bearer(tokens)).status_code


def test_they_are_listed_newest_first(api, nora):
    first = log_in(api, nora.email, PASSWORD).json
    second = log_in(api, nora.email, PASSWORD).json
    answer = api.get("/v1/auth/sessions", headers=bearer(first))

    assert answer.status_code == 200
    items = answer.json["items"]
    ids = [claims(each["access_token"])["sid"] for each in (second, first)]
    assert [item["id"] for item in items] == [*ids, nora.session_id]
    assert [item["current"] for item in items] == [False, True, False]
    assert set(items[0]) == {"id", "created_at", "last_used_at", "ip", "user_agent", "current"}
    assert items[0]["ip"] == "127.0.0.1"
    assert items[0]["user_agent"].startswith("python-requests/")


def test_pages(api, nora):
    log_in(api, nora.email, PASSWORD)
    first = api.get("/v1/auth/sessions?limit=1", headers=nora)
    assert 'rel="next"' in first.headers["Link"]
    second = api.get(f"/v1/auth/sessions?limit=1&cursor={first.json['next_cursor']}", headers=nora)

    assert second.json["next_cursor"] is None
    assert [item["id"] for item in second.json["items"]] == [nora.session_id]
    assert refused(api.get("/v1/auth/sessions?cursor=x", headers=nora), 400, "invalid_cursor")
    assert refused(api.get("/v1/auth/sessions?limit=101", headers=nora), 422, "invalid_request")
    assert refused(api.get("/v1/auth/sessions?user=x", headers=nora), 422, "invalid_request")


def test_one_can_be_ended(api, admin, nora):
    tokens = log_in(api, nora.email, PASSWORD).json
    session_id = claims(tokens["access_token"])["sid"]

    assert api.delete(f"/v1/auth/sessions/{session_id}", headers=nora).status_code == 204
    assert me(api, tokens) == 401
    assert refused(refresh(api, tokens["refresh_token"]), 401, "invalid_token")
    assert api.get("/v1/auth/me", headers=nora).status_code == 200
    event, *refusals = events(admin, nora.tenant_id)[-3:]
    assert (event["action"], event["resource_id"]) == ("login.ended", session_id)
    assert [each["action"] for each in refusals] == ["access.denied"] * 2
    assert refused(api.delete(f"/v1/auth/sessions/{session_id}", headers=nora), 404, "not_found")


def test_other_peoples_are_not_there(api, nora, mallory, people):
    colleague = people.create("developer", nora.tenant_id)

    for session_id in (mallory.session_id, colleague.session_id, str(uuid.uuid4())):
        assert refused(api.delete(f"/v1/auth/sessions/{session_id}", headers=nora), 404, "not_found")
    assert api.get("/v1/auth/me", headers=mallory).status_code == 200
    assert api.get("/v1/auth/me", headers=colleague).status_code == 200


def test_logging_out_ends_this_session_at_once(api, nora):
    tokens = log_in(api, nora.email, PASSWORD).json

    assert api.post("/v1/auth/logout", headers=bearer(tokens)).status_code == 204
    assert me(api, tokens) == 401
    assert api.get("/v1/projects", headers=bearer(tokens)).status_code == 401
    assert api.get("/v1/auth/me", headers=nora).status_code == 200


def test_logging_out_everywhere_ends_all_of_them(api, admin, nora, mallory):
    tokens = [log_in(api, nora.email, PASSWORD).json for _ in range(2)]

    assert api.post("/v1/auth/logout-all", headers=bearer(tokens[0])).status_code == 204
    assert [me(api, each) for each in tokens] == [401, 401]
    assert api.get("/v1/auth/me", headers=nora).status_code == 401
    assert api.get("/v1/auth/me", headers=mallory).status_code == 200
    event, *refusals = events(admin, nora.tenant_id)[-4:]
    assert (event["action"], event["data"]) == ("login.ended_everywhere", {"sessions": 3})
    assert [each["action"] for each in refusals] == ["access.denied"] * 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/auth/sessions"),
        ("DELETE", f"/v1/auth/sessions/{uuid.UUID(int=0)}"),
        ("POST", "/v1/auth/logout"),
        ("POST", "/v1/auth/logout-all"),
        ("GET", "/v1/auth/me"),
        ("PATCH", "/v1/auth/me"),
        ("POST", "/v1/auth/step-up"),
        ("POST", "/v1/auth/switch"),
    ],
)
def test_without_a_token(api, method, path):
    assert refused(api.request(method, path), 401, "invalid_token")
