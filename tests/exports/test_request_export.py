"""POST /v1/exports, and reading what became of it."""

from datetime import datetime

import pytest

from tests.conftest import last_audit_event

ASK = {"scope": "me", "format": "json"}


def test_it_works(api, admin, alice, standing_still):
    with standing_still():
        answer = api.post("/v1/exports", json=ASK, headers=alice)
        event = last_audit_event(admin, alice)

    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/exports/{answer.json['id']}"
    assert answer.json["status"] == "queued"
    assert (answer.json["scope"], answer.json["format"]) == ("me", "json")
    assert answer.json["subject_user_id"] == alice.user_id
    assert answer.json["progress"] == {"done": 0, "total": 0, "percent": 0}
    assert (event["action"], event["resource_id"], event["data"]) == ("export.requested", answer.json["id"], ASK)


def test_it_is_due_a_calendar_month_later(api, alice):
    export = api.post("/v1/exports", json=ASK, headers=alice).json
    requested, due = (datetime.fromisoformat(export[name]) for name in ("requested_at", "due_at"))

    assert (due.month - requested.month) % 12 == 1
    assert due.day == requested.day or (due.day < requested.day and requested.day > 28)
    assert due.time() == requested.time()


def test_it_becomes_ready(alice, exports):
    export = exports.ended(alice, exports.request(alice))

    assert export["status"] == "ready"
    assert export["progress"]["done"] == export["progress"]["total"] > 5
    assert export["progress"]["percent"] == 100
    assert export["size_bytes"] > 1000
    assert export["error"] is None
    lifetime = datetime.fromisoformat(export["expires_at"]) - datetime.fromisoformat(export["completed_at"])
    assert lifetime.days == 7


def test_one_at_a_time(api, alice, dan, exports, standing_still):
    with standing_still():
        first = exports.request(alice)
        second = api.post("/v1/exports", json=ASK, headers=alice)
        exports.request(dan)

    assert (second.status_code, second.json["code"]) == (409, "export_in_progress")
    assert exports.ended(alice, first)["status"] == "ready"
    assert exports.ended(alice, exports.request(alice))["status"] == "ready"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scope"),
        ({"scope": "everything"}, "scope"),
        ({"scope": "me", "format": "xml"}, "format"),
        ({"scope": "me", "user_id": "9a9b394b-84c2-479f-87cb-cd581d7aa9d6"}, "user_id"),
        ({"scope": 1}, "scope"),
    ],
)
def test_what_is_not_offered_is_named(api, alice, body, field):
    answer = api.post("/v1/exports", json=body, headers=alice)

    assert (answer.status_code, list(answer.json["errors"])) == (422, [field])


def test_json_is_the_default(api, alice):
    assert api.post("/v1/exports", json={"scope": "me"}, headers=alice).json["format"] == "json"


def test_a_viewer_needs_no_permission(api, vera):
    assert api.post("/v1/exports", json=ASK, headers=vera).status_code == 202


def test_nobody_without_a_token(api):
    assert api.post("/v1/exports", json=ASK).status_code == 401


def test_others_see_nothing(api, alice, dan, mallory, exports):
    export = exports.request(alice)

    for person in (dan, mallory):
        for method, path in [("GET", ""), ("GET", "/download"), ("DELETE", "")]:
            answer = api.request(method, f"/v1/exports/{export}{path}", headers=person)
            assert (answer.status_code, answer.json["code"]) == (404, "not_found")
        assert api.get("/v1/exports", headers=person).json == {"items": [], "next_cursor": None}
    assert exports.ended(alice, export)["status"] == "ready"


def test_the_list_is_newest_first_with_cursors(api, alice, exports):
    made = []
    for _ in range(3):
        made.append(exports.request(alice))
        exports.ended(alice, made[-1])

    first = api.get("/v1/exports?limit=2", headers=alice)
    second = api.get(f"/v1/exports?limit=2&cursor={first.json['next_cursor']}", headers=alice)

    assert [item["id"] for item in first.json["items"] + second.json["items"]] == made[::-1]
    assert second.json["next_cursor"] is None
    assert 'rel="next"' in first.headers["Link"]
