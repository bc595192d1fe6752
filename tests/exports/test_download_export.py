"""GET /v1/exports/{id}/download."""

from urllib.parse import parse_qs, urlsplit

from tests.conftest import last_audit_event
from tests.exports.conftest import fetch


def test_it_works(api, admin, alice, exports):
    export_id = exports.request(alice)
    exports.ended(alice, export_id)

    answer = api.get(f"/v1/exports/{export_id}/download", headers=alice)

    assert answer.status_code == 302
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["X-Goog-Expires"] == ["3600"]
    file = fetch(answer.headers["Location"])
    assert (file.status_code, file.headers["Content-Type"]) == (200, "application/zip")
    assert "attachment" in file.headers["Content-Disposition"]
    event = last_audit_event(admin, alice, "export.downloaded")
    assert (event["resource_id"], event["actor_id"]) == (export_id, alice.user_id)


def test_an_altered_link_opens_nothing(api, alice, exports):
    export_id = exports.request(alice)
    exports.ended(alice, export_id)
    url = api.get(f"/v1/exports/{export_id}/download", headers=alice).headers["Location"]

    assert fetch(url.replace("X-Goog-Expires=3600", "X-Goog-Expires=36000")).status_code == 403
    assert fetch(url.partition("?")[0]).status_code in (401, 403)


def test_not_before_it_is_ready(api, admin, alice, exports, standing_still):
    with standing_still():
        export_id = exports.request(alice)
        answer = api.get(f"/v1/exports/{export_id}/download", headers=alice)

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert last_audit_event(admin, alice)["action"] != "export.downloaded"


def test_not_after_it_has_expired(api, admin, alice, exports):
    export_id = exports.request(alice)
    exports.ended(alice, export_id)
    admin.run("UPDATE platform.exports SET expires_at = now() WHERE id = :id", id=export_id)

    assert exports.state(alice, export_id)["status"] == "expired"
    assert api.get(f"/v1/exports/{export_id}/download", headers=alice).status_code == 409


def test_nothing_of_an_unknown_id(api, alice):
    path = "/v1/exports/9a9b394b-84c2-479f-87cb-cd581d7aa9d6"

    assert api.get(f"{path}/download", headers=alice).status_code == 404
    assert api.get(path, headers=alice).status_code == 404
    assert api.get("/v1/exports/1/download", headers=alice).status_code == 404


def test_the_page_behind_the_mail_says_how(api):
    answer = api.get("/export")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "/download" in answer.text
