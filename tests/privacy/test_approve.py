"""POST /v1/privacy/requests/{id}/approve: the organization lets an erasure begin that waits for it."""

import pg8000.native
import pytest

from tests.conftest import Answer, Api, People, Person, wait_until
from tests.privacy.conftest import REQUESTS, Desk


def approve(api: Api, officer: Person, request_id: str, **body: object) -> Answer:
    return api.post(f"{REQUESTS}/{request_id}/approve", json=body, headers=officer)


def actions(admin: pg8000.native.Connection, officer: Person, request_id: str) -> dict[str, object]:
    """Action → data of the events about a request."""
    found = admin.run(
        "SELECT action, data FROM app.audit_events WHERE tenant_id = :t AND resource_id = :id",
        t=officer.tenant_id,
        id=request_id,
    )
    return dict(found)


@pytest.mark.parametrize("policy", [None, "erase"])
def test_it_works(
    api: Api, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection, policy: str | None
) -> None:
    """From the letter to the end: the membership is gone, the account is still there."""
    request = desk.letter(alice, vera, "deletion").json["id"]

    answer = approve(api, alice, request, **({"policy": policy} if policy else {}))

    assert answer.status_code == 200, answer.text
    assert answer.json["status"] == "scheduled"
    assert actions(admin, alice, request)["deletion.approved"] == {"policy": policy}
    desk.drain()
    wait_until(lambda: desk.read(alice, request)["status"] == "completed", 60, "the erasure")
    assert admin.run("SELECT count(*) FROM app.members WHERE user_id = :id", id=vera.user_id) == [[0]]
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=vera.user_id) == [[1]]


def test_once(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    request = desk.letter(alice, vera, "deletion").json["id"]
    assert approve(api, alice, request).status_code == 200

    second = approve(api, alice, request)

    assert (second.status_code, second.json["code"]) == (409, "conflict")


def test_only_what_waits_for_it(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    assert approve(api, alice, desk.erasure(vera)).json["code"] == "conflict"
    assert approve(api, alice, desk.export(vera)).json["code"] == "not_found"
    assert approve(api, alice, desk.erasure(vera, "me")).json["code"] == "not_found"


def test_a_policy_that_is_none(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    request = desk.erasure(vera, approval_needed=True)
    for body in ({"policy": "approve"}, {"policy": 1}, {"reason": "x"}):
        assert approve(api, alice, request, **body).status_code == 422, body


def test_who_may(api: Api, people: People, alice: Person, dan: Person, vera: Person, desk: Desk) -> None:
    request = desk.erasure(vera, approval_needed=True)
    assert approve(api, dan, request).json["code"] == "permission_denied"
    assert approve(api, people.log_in(alice, age_seconds=3600), request).json["code"] == "step_up_required"
    assert desk.read(alice, request)["status"] == "awaiting_approval"
