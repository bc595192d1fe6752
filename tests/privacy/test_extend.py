"""POST /v1/privacy/requests/{id}/extend: once, within the first month, by up to two months, told with the reason."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Answer, Api, Inbox, Person, last_audit_event, wait_until
from tests.privacy.conftest import REQUESTS, Desk, due_at
from tests.privacy.test_deadlines import months_after
from tests.tenancy.conftest import Attacker

REASON = "Your data are spread over archives that have to be searched by hand."


def extend(api: Api, officer: Person, request_id: str, **body: object) -> Answer:
    return api.post(f"{REQUESTS}/{request_id}/extend", json={"reason": REASON, **body}, headers=officer)


def received_at(admin: pg8000.native.Connection, request_id: str):
    found = admin.run(
        "SELECT received_at FROM platform.exports WHERE id = :id UNION ALL"
        " SELECT received_at FROM platform.deletions WHERE job_id = :id",
        id=request_id,
    )
    return found[0][0]


@pytest.mark.parametrize("kind", ["export", "deletion"])
@pytest.mark.parametrize("months", [1, 2])
def test_it_works(
    api: Api,
    alice: Person,
    vera: Person,
    desk: Desk,
    inbox: Inbox,
    admin: pg8000.native.Connection,
    kind: str,
    months: int,
) -> None:
    request = desk.export(vera) if kind == "export" else desk.erasure(vera)

    answer = extend(api, alice, request, months=months)

    assert answer.status_code == 200, answer.text
    assert (answer.json["extended"], answer.json["extension_reason"]) == (True, REASON)
    assert due_at(admin, request) == months_after(received_at(admin, request), 1 + months)
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"]) == ("privacy_request.extended", request)
    assert event["data"] == {"months": months}
    desk.drain()
    mail = inbox.wait_for(vera.email, "takes longer")
    assert REASON in mail["text"]
    assert due_at(admin, request).strftime("%Y-%m-%d") in mail["text"]


def test_two_months_unless_it_says_less(
    api: Api, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    request = desk.export(vera)
    assert extend(api, alice, request).status_code == 200
    assert due_at(admin, request) == months_after(received_at(admin, request), 3)


def test_once(api: Api, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection) -> None:
    request = desk.export(vera)
    assert extend(api, alice, request, months=1).status_code == 200
    first = due_at(admin, request)

    second = extend(api, alice, request, months=2)

    assert (second.status_code, second.json["code"]) == (409, "conflict")
    assert due_at(admin, request) == first
    written = "SELECT count(*) FROM platform.privacy_notices WHERE job_id = :id AND kind = 'extended'"
    assert admin.run(written, id=request) == [[1]]


def test_two_at_once(
    stack: dict[str, Any], alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    """The second waits for the first, and then sees what it has written."""
    request = desk.erasure(vera)
    call = "SELECT platform.extend_request(CAST(:id AS uuid), :months, 'x')"
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND wait_event_type = 'Lock'"
    officers = [Attacker(stack, "audit_fn") for _ in range(2)]
    first, second = (officer.connection for officer in officers)
    with ThreadPoolExecutor(1) as pool:
        for officer in officers:
            officer.begin_sealed(alice)
        assert first.run(call, id=request, months=1) == [["done"]]
        waiting = pool.submit(second.run, call, id=request, months=2)
        wait_until(lambda: admin.run(blocked, pid=officers[1].pid) == [[1]], what="the second extension at the first")
        first.run("COMMIT")
        assert waiting.result(30) == [["extended"]]
    for officer in officers:
        officer.connection.close()

    assert due_at(admin, request) == months_after(received_at(admin, request), 2)


def test_not_after_the_first_month(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    assert extend(api, alice, desk.export(vera, due=timedelta(minutes=-1))).json["code"] == "conflict"


def test_not_what_is_over(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    for over in (
        desk.export(vera, status="ready", job_status="done"),
        desk.erasure(vera, job_status="cancelled"),
    ):
        assert extend(api, alice, over).json["code"] == "conflict"


def test_not_what_the_platform_answers(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    """A person's own request is the platform's; the organization's part of it is its own."""
    whole = desk.erasure(vera, "me")
    assert extend(api, alice, whole).json["code"] == "conflict"
    part = desk.erasure(vera, parent_id=whole, channel="child")
    assert extend(api, alice, part).status_code == 200


def test_who_asked_is_told_of_an_organizations_request(api: Api, alice: Person, desk: Desk, inbox: Inbox) -> None:
    assert extend(api, alice, desk.export(alice, "organization")).status_code == 200
    desk.drain()
    inbox.wait_for(alice.email, "takes longer")


def test_a_person_whose_account_is_gone_is_told_at_the_address_of_her_request(
    api: Api, alice: Person, vera: Person, desk: Desk, inbox: Inbox, admin: pg8000.native.Connection
) -> None:
    whole = desk.erasure(vera, "me", mail_to=f"kept-{vera.email}", job_status="running")
    part = desk.erasure(vera, parent_id=whole, channel="child", requested_by=None)
    admin.run("DELETE FROM app.members WHERE user_id = :id", id=vera.user_id)
    admin.run("DELETE FROM identity.accounts WHERE id = :id", id=vera.user_id)

    assert extend(api, alice, part).status_code == 200

    desk.drain()
    inbox.wait_for(f"kept-{vera.email}", "takes longer")


def test_bad_bodies(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    request = desk.export(vera)
    for body in ({"months": 3}, {"months": 0}, {"months": "1"}, {"reason": ""}, {"reason": "x" * 1001}, {"until": 1}):
        assert extend(api, alice, request, **body).status_code == 422, body


def test_who_may(api: Api, dan: Person, vera: Person, desk: Desk) -> None:
    assert extend(api, dan, desk.export(vera)).json["code"] == "permission_denied"
