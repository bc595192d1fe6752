"""What every answer has in common, seen through the gateway and, where the gateway would hide it, directly."""

import http.client
import json
import re
import uuid
from pathlib import Path

import pytest

from local.layout import Layout
from tests.conftest import PASSWORD, wait_until

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def layout(stack):
    return Layout.load(Path(stack["path"]).parent / "layout.json")


def test_security_headers_on_everything(api, alice):
    for answer in (
        api.get("/v1/projects", headers=alice),
        api.get("/v1/projects"),
        api.get("/v1/nothing"),
        api.get("/health/"),
        api.post("/v1/projects", json={}, headers=alice),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "max-age=" in answer.headers["Strict-Transport-Security"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_problem_documents(api, stack, alice):
    answer = api.get(f"/v1/projects/{alice.user_id}", headers=alice)

    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "detail", "code", "request_id"}
    assert answer.json["status"] == answer.status_code == 404
    assert answer.json["type"] == f"{stack['api']}/docs/errors/not_found"
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_request_ids(api, admin, alice):
    answer = api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, "X-Request-Id": "client.id-1_A"})
    assert answer.headers["X-Request-Id"] == "client.id-1_A"
    recorded = admin.run("SELECT request_id FROM app.audit_events WHERE tenant_id = :t", t=alice.tenant_id)[0][0]
    assert recorded != "client.id-1_A"
    assert re.fullmatch(r"[0-9a-f-]{36}", recorded)
    for odd in ("x" * 65, "a b", "é", "a/b"):
        shown = api.get("/health/", headers={"X-Request-Id": odd.encode()}).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-f-]{36}", shown), odd


def test_unknown_addresses_and_methods(api, alice):
    answer = api.get("/v1/nothing", headers=alice)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    answer = api.put("/v1/projects", headers=alice)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}
    assert api.get("/v1/projects/", headers=alice).status_code == 404
    answer = api.get("/docs/errors/%0A")  # a line end, which the framework's own route does not match
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_route_is_judged_before_the_token(api):
    assert api.get("/v1/nothing").status_code == 404
    assert api.put("/v1/projects").status_code == 405
    assert api.post("/v1/projects", data=b"{").status_code == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer a.b.c", "Bearer " + "x" * 5000, "bearer", "Token x"],
)
def test_bad_credentials(api, header):
    answer = api.get("/v1/projects", headers={"Authorization": header})
    assert (answer.status_code, answer.json["code"]) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="')


def test_two_authorization_headers(stack, alice):
    host = stack["api"].removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.putrequest("GET", "/v1/projects")
    connection.putheader("Authorization", alice["Authorization"])
    connection.putheader("Authorization", alice["Authorization"])
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (400, "malformed_request")
    connection.close()


def test_a_token_in_the_query_is_ignored(api, alice):
    assert api.get(f"/v1/projects?access_token={alice.token}").status_code == 401


def test_a_public_function_refuses_whoever_goes_around_the_load_balancer(layout, alice):
    connection = http.client.HTTPConnection("127.0.0.1", layout.ports["function:projects"], timeout=10)
    for headers in ({}, {"X-Edge-Key": "guess"}):
        connection.request(
            "GET", "/v1/projects", headers={"X-Forwarded-Authorization": alice["Authorization"], **headers}
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (403, "forbidden")
    connection.close()


def test_client_headers_do_not_pass_for_the_edge(api, admin, alice):
    forged = {"X-Client-Ip": "6.6.6.6", "X-Forwarded-For": "6.6.6.6", "X-Edge-Key": "x", "Forwarded": "for=6.6.6.6"}
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, **forged}).status_code == 201
    assert admin.run("SELECT personal->>'ip' FROM app.audit_events WHERE tenant_id = :t", t=alice.tenant_id) == [
        ["127.0.0.1"]
    ]
    stolen = {"X-Forwarded-Authorization": alice["Authorization"]}
    assert api.get("/v1/projects", headers=stolen).status_code == 401


def test_health(api):
    assert api.get("/health/").json == {"status": "ok"}
    assert api.get("/health/ready").json == {"status": "ready", "checks": {"database": "ok", "cache": "ok"}}


def test_logs_hold_no_personal_data(stack, api, alice):
    marked = f"Secret {alice.user_id}"
    created = api.post("/v1/projects", json={"name": marked}, headers=alice)
    api.get(f"/v1/projects?q={marked}", headers=alice)
    api.get(f"/v1/projects/{created.json['id']}", headers={**alice, "User-Agent": marked})

    logs = "".join(path.read_text(errors="replace") for path in (Path(stack["path"]).parent / "log").glob("*.log"))

    assert created.headers["X-Request-Id"] in logs
    for private in (marked, marked.replace(" ", "%20"), marked.replace(" ", "+"), alice.email, alice.name, alice.token):
        assert private not in logs


def test_traces_are_carried_into_the_logs(stack, api):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret
    answer = api.get("/health/", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    log = (Path(stack["path"]).parent / "log" / "auth.log").read_text()
    line = next(line for line in log.splitlines() if answer.headers["X-Request-Id"] in line)
    entry = json.loads(line[line.index("{") :])
    assert entry["logging.googleapis.com/trace"] == f"projects/dev-context-local/traces/{trace}"
    assert entry["severity"] == "INFO"


def test_origins_by_an_allow_list(api):
    asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    allowed = api.request("OPTIONS", "/v1/projects", headers=asked)
    assert allowed.status_code == 204
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "X-CSRF-Token", "Idempotency-Key", "If-Match"} <= set(
        allowed.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
    read = api.get("/v1/projects", headers={"Origin": "https://app.example.org"})
    assert read.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert {"ETag", "Link", "RateLimit", "Retry-After"} <= set(
        read.headers["Access-Control-Expose-Headers"].split(", ")
    )
    for origin in ("https://app.example.org", "https://evil.example"):
        assert "Origin" in api.get("/health/", headers={"Origin": origin}).headers["Vary"]
    refused = api.request("OPTIONS", "/v1/projects", headers={**asked, "Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert (
        "Access-Control-Allow-Origin" not in api.get("/health/", headers={"Origin": "https://app.example.com"}).headers
    )


def test_the_order_of_checks(api, alice, vera):
    """Each request has all the faults of those below it and answers for the first one."""
    large, project = b"x" * (1024 * 1024 + 1), api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json
    path = f"/v1/projects/{project['id']}"
    stale, plain = {"If-Match": '"9"'}, {"Content-Type": "text/plain"}
    steps = [
        ((404, "not_found"), api.put("/v1/nothing", data=large, headers=plain)),
        ((405, "method_not_allowed"), api.put(path, data=large, headers=plain)),
        ((401, "invalid_token"), api.patch(path, data=large, headers={"Authorization": "Bearer x", **plain, **stale})),
        ((403, "permission_denied"), api.patch(path, data=large, headers={**vera, **plain, **stale})),
        ((413, "body_too_large"), api.patch(f"{path}?x=1", data=large, headers={**alice, **plain, **stale})),
        ((415, "unsupported_media_type"), api.patch(f"{path}?x=1", data=b"{", headers={**alice, **plain, **stale})),
        ((400, "malformed_request"), api.patch(f"{path}?x=1", data=b"{", headers={**alice, **JSON, **stale})),
        (
            (422, "invalid_request"),
            api.patch(f"/v1/projects/{alice.user_id}", json={"x": 1}, headers={**alice, **stale}),
        ),
        (
            (404, "not_found"),
            api.patch(f"/v1/projects/{alice.user_id}", json={"name": "x"}, headers={**alice, **stale}),
        ),
        ((412, "precondition_failed"), api.patch(path, json={"name": "x"}, headers={**alice, **stale})),
        ((200, None), api.patch(path, json={"name": "x"}, headers={**alice, "If-Match": '"1"'})),
    ]
    for expected, answer in steps:
        assert (answer.status_code, answer.json.get("code")) == expected


def test_who_reads_is_judged_before_what_she_asks(api, admin, people, alice):
    """Each has every fault below it; a read of one statement is no other than the rest."""
    path, nobody = "/v1/projects", people.create("viewer")
    admin.run(
        "WITH made AS (INSERT INTO app.roles (tenant_id, name, permissions) VALUES (:t, 'None', '{task.create}')"
        " RETURNING id) UPDATE app.members SET role = NULL, role_id = made.id FROM made WHERE tenant_id = :t",
        t=nobody.tenant_id,
    )
    wrong = ("?limit=x", "?cursor=x", "?nothing=1", "")
    for query in wrong:
        assert api.get(f"{path}{query}").json["code"] == "invalid_token"
        assert api.get(f"{path}{query}", headers=nobody).json["code"] == "permission_denied"
    assert api.get(f"{path}/{uuid.uuid4()}", headers=nobody).json["code"] == "permission_denied"
    codes = [api.get(f"{path}{query}", headers=alice).json.get("code") for query in wrong]
    assert codes == ["invalid_request", "invalid_cursor", "invalid_request", None]
    admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE id = :s", s=alice.session_id)
    for query in wrong:
        assert api.get(f"{path}{query}", headers=alice).json["code"] == "invalid_token"


def test_who_may_not_read_is_told_so_though_it_cannot_be_read(api, admin, people, alice):
    """The refusal is an event of the trail, as any other; who may read learns that it is not to be had just now."""
    nobody = people.create("viewer")
    admin.run(
        "WITH made AS (INSERT INTO app.roles (tenant_id, name, permissions) VALUES (:t, 'None', '{task.create}')"
        " RETURNING id) UPDATE app.members SET role = NULL, role_id = made.id FROM made WHERE tenant_id = :t",
        t=nobody.tenant_id,
    )
    admin.run("BEGIN")
    admin.run("LOCK TABLE app.projects")
    try:
        answers = [api.get("/v1/projects", headers=who) for who in (nobody, alice)]
    finally:
        admin.run("ROLLBACK")
    assert [answer.json["code"] for answer in answers] == ["permission_denied", "unavailable"]
    refusals = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND outcome = 'denied'"
    assert admin.run(refusals, t=nobody.tenant_id) == [[1]]
    assert api.get("/v1/projects", headers=alice).status_code == 200


def test_step_up_comes_after_the_permission_and_before_the_body(api, people, alice, vera):
    path, old = "/v1/api-keys", people.log_in(alice, age_seconds=600)
    for person, body, expected in (
        (people.log_in(vera, age_seconds=600), b"{", "permission_denied"),
        (old, b"{", "step_up_required"),
        (alice, b"{", "malformed_request"),
    ):
        assert api.post(path, data=body, headers={**person, **JSON}).json["code"] == expected


@pytest.mark.parametrize("tag", ['W/"1"', "1", '"x"', '"-1"', '""', "*x", '"1", "2"', '"2"', "é", '"99999999999"'])
def test_a_tag_that_names_no_version(api, alice, tag):
    path = "/v1/projects/" + api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    headers = {**alice, "If-Match": tag.encode()}
    for answer in (api.patch(path, json={"name": "x"}, headers=headers), api.delete(path, headers=headers)):
        assert (answer.status_code, answer.json["code"]) == (412, "precondition_failed")
    assert api.delete(f"/v1/projects/{alice.user_id}", headers=headers).status_code == 404
    assert api.get(path, headers=alice).headers["ETag"] == '"1"'


def test_a_body_of_one_mebibyte_and_no_more(api, alice):
    frame = len(b'{"name": ""}')
    for size, expected in ((1024 * 1024, 422), (1024 * 1024 + 1, 413)):
        body = b'{"name": "' + b"x" * (size - frame) + b'"}'
        assert api.post("/v1/projects", data=body, headers={**alice, **JSON}).status_code == expected
        chunks = iter([body[:1000], body[1000:]])  # of a length that is not told
        assert api.post("/v1/projects", data=chunks, headers={**alice, **JSON}).status_code == expected
    answer = api.post("/v1/auth/logout", data=b"x" * (1024 * 1024 + 1), headers=alice)
    assert (answer.status_code, answer.json["code"]) == (413, "body_too_large"), "also where no body is read"
    assert api.get("/v1/auth/me", headers=alice).status_code == 200, "and nothing is done"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", b'{"name": "A"}', 201),
        ("application/json; charset=utf-8", b'{"name": "A"}', 201),
        ("APPLICATION/JSON", b'{"name": "A"}', 201),
        ("text/plain", b'{"name": "A"}', 415),
        ("application/x-www-form-urlencoded", b"name=A", 415),
        ("application/merge-patch+json", b'{"name": "A"}', 415),
        ("", b'{"name": "A"}', 415),
        ("application/json", '{"name": "A"}'.encode("utf-16"), 400),
        ("application/json", '{"name": "\xe9"}'.encode("latin-1"), 400),
        ("application/json", b"\xef\xbb\xbf{}", 400),
        ("application/json", b'{"name": NaN}', 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"[]", 422),
        ("application/json", b"null", 422),
        ("application/json", b"", 422),
    ],
)
def test_json_in_utf_8_and_nothing_else(api, alice, kind, body, expected):
    assert api.post("/v1/projects", data=body, headers={**alice, "Content-Type": kind}).status_code == expected


def test_unknown_fields_of_body_and_query(api, alice):
    created = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    path = created.headers["Location"]
    for answer in (
        api.post("/v1/projects", json={"name": "x", "id": alice.user_id, "created_by": "x"}, headers=alice),
        api.post("/v1/projects?dry=1", json={"name": "x"}, headers=alice),
        api.get(f"{path}?fields=name", headers=alice),
        api.patch(f"{path}?force=1", json={"name": "x"}, headers=alice),
        api.delete(f"{path}?force=1", headers=alice),
        api.get("/v1/projects?limit=1&limit=2", headers=alice),
        api.get("/v1/projects?colour=red", headers=alice),
        api.get("/v1/auth/me?x", headers=alice),
    ):
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
        assert answer.json["errors"]
    assert api.get(path, headers=alice).json["version"] == 1
    assert api.get(f"/v1/projects?access_token={alice.token}", headers=alice).status_code == 200, "ignored"


def test_head_is_get_without_the_body(api, alice):
    path = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).headers["Location"]
    for target, headers in ((path, alice), ("/v1/projects", alice), ("/v1/projects", {}), ("/health/", {})):
        got, asked = api.get(target, headers=headers), api.request("HEAD", target, headers=headers)
        assert (asked.status_code, asked.text) == (got.status_code, "")
        for name in ("Content-Type", "Content-Length", "ETag", "WWW-Authenticate"):
            assert asked.headers.get(name) == got.headers.get(name), name


def test_options_tells_the_methods(api):
    answer = api.request("OPTIONS", "/v1/projects")
    assert (answer.status_code, answer.text) == (204, "")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert api.request("OPTIONS", "/v1/nothing").status_code == 404


def test_every_401_says_how(api, alice):
    for answer in (
        api.get("/v1/projects"),
        api.get("/v1/projects", headers={"Authorization": "Bearer x"}),
        api.post("/v1/auth/login", json={"email": alice.email, "password": "wrong password 12"}),
        api.post("/v1/auth/refresh", json={"refresh_token": "x"}),
        api.post("/v1/auth/email/verify", json={"token": "x"}),
    ):
        assert answer.status_code == 401
        assert re.fullmatch(r'Bearer error="[a-z_]+"', answer.headers["WWW-Authenticate"])


def test_a_trace_that_is_none_is_not_kept(stack, api):
    good = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"  # pragma: allowlist secret
    for odd in (
        f"01-{good}-01",
        f"00-{good}",
        f"00-{good}-01-x",
        f"00-{'0' * 32}-{'0' * 16}-01",
        "00-x-y-01",
        "x" * 999,
    ):
        answer = api.get("/health/", headers={"traceparent": odd})
        log = (Path(stack["path"]).parent / "log" / "auth.log").read_text()
        line = next(line for line in log.splitlines() if answer.headers["X-Request-Id"] in line)
        assert "googleapis.com/trace" not in line


def lines_of(stack, service, trace):
    """What a service logged under a trace: the routes."""
    log = (Path(stack["path"]).parent / "log" / f"{service}.log").read_text()
    return [json.loads(line[line.index("{") :]).get("route") for line in log.splitlines() if trace in line]


def test_traces_are_carried_into_jobs_and_mails(stack, api, alice):
    trace = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert (
        api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers={**alice, **headers}).status_code == 202
    )
    wait_until(lambda: len(lines_of(stack, "exports-jobs", trace)) >= 4, what="the steps of the export")
    body = {"email": f"{trace}@example.org", "password": PASSWORD, "display_name": "N", "organization_name": "O"}
    assert api.post("/v1/auth/register", json=body, headers=headers).status_code == 202
    wait_until(lambda: any("/internal/mails/" in str(r) for r in lines_of(stack, "auth", trace)), what="the mail")
