"""A log-in that is listed as revoked is refused before the database is asked, and the refusal is recorded as ever."""

import uuid

import pytest
import valkey

from common.denylist import key
from tests.conftest import wait_until


@pytest.fixture
def listed(stack):
    """List a log-in, as the watcher of the session API does."""
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        yield lambda person: client.set(key(person.session_id), b"", ex=60)


def recorded(admin, person):
    return admin.run(
        "SELECT data->>'reason', resource_id FROM app.audit_events WHERE tenant_id = :t AND action = 'access.denied'",
        t=person.tenant_id,
    )


def test_it_is_refused_and_recorded(api, admin, listed, alice, dan):
    assert api.get("/v1/projects", headers=alice).status_code == 200
    listed(alice)
    answer = api.get("/v1/projects", headers=alice)
    assert (answer.status_code, answer.json["code"]) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert recorded(admin, alice) == [["invalid_token", "GET /v1/projects"]]
    assert api.get("/v1/projects", headers=dan).status_code == 200


def test_the_same_answer_as_the_database_gives(api, people, listed, alice):
    other = people.log_in(alice)
    listed(other)
    by_list = api.get("/v1/projects", headers=other)
    assert api.post("/v1/auth/logout", headers=alice).status_code == 204
    by_database = api.get("/v1/projects", headers=alice)
    strip = {"request_id"}
    assert {name: value for name, value in by_list.json.items() if name not in strip} == {
        name: value for name, value in by_database.json.items() if name not in strip
    }


def test_401_comes_before_the_body_is_judged(api, listed, alice):
    listed(alice)
    assert api.post("/v1/projects", headers=alice, data=b"x" * 2_000_000).status_code == 401
    assert api.post("/v1/projects", headers=alice, data=b"{").status_code == 401


def test_what_is_public_stays_public(api, listed, alice):
    listed(alice)
    assert api.get("/health/", headers=alice).status_code == 200
    body = {"email": f"{uuid.uuid4()}@example.org"}
    assert api.post("/v1/auth/password/forgot", headers=alice, json=body).status_code == 202


def test_a_list_that_is_lost_costs_nothing(api, listed, alice, stack):
    listed(alice)
    assert api.get("/v1/projects", headers=alice).status_code == 401
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        client.delete(key(alice.session_id))
    assert api.get("/v1/projects", headers=alice).status_code == 200, "the database says that it lives"


def test_whoever_logs_out_is_listed(api, stack, alice):
    """The watcher writes it from the database's feed."""
    assert api.post("/v1/auth/logout", headers=alice).status_code == 204
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        wait_until(lambda: client.exists(key(alice.session_id)), 10, "an entry in the list")
