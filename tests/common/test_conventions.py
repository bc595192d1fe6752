"""What every answer has in common, seen through the gateway and, where the gateway would hide it, directly."""

import http.client
import json
import re
from pathlib import Path

import pytest

from local.layout import Layout
from tests.conftest import running_stack


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


def test_origins_by_an_allow_list(tmp_path):
    with running_stack(tmp_path, CORS_ORIGINS="https://app.example.org, https://admin.example.org") as stack:
        from tests.conftest import Api

        api = Api(stack["api"])
        asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
        allowed = api.request("OPTIONS", "/v1/projects", headers=asked)
        assert allowed.status_code == 204
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
        refused = api.request("OPTIONS", "/v1/projects", headers={**asked, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in refused.headers
        assert (
            "Access-Control-Allow-Origin"
            not in api.get("/health/", headers={"Origin": "https://app.example.com"}).headers
        )
        api._session.close()
