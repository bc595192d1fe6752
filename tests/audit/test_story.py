"""A whole story as the chain tells it: who did what, to what, how it ended, and by which request."""

import re
import uuid
from typing import Any

import pg8000.native

from tests.auth.support import bearer, sign_up
from tests.conftest import Api, Inbox, wait_until
from tests.organizations.support import invite, join, mailed
from tests.structure.test_audit_trail import documented

REQUEST = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def chain(api: Api, headers: dict[str, str]) -> list[dict[str, Any]]:
    """All events as the API shows them, oldest first."""
    items: list[dict[str, Any]] = []
    path: str | None = "/v1/audit-events?limit=9"
    while path:
        page = api.get(path, headers=headers).json
        items += page["items"]
        path = f"/v1/audit-events?limit=9&cursor={page['next_cursor']}" if page["next_cursor"] else None
    return sorted(items, key=lambda event: event["seq"])


def test_from_sign_up_to_erasure(api: Api, inbox: Inbox, admin: pg8000.native.Connection, drain: Any) -> None:
    newcomer, tokens = sign_up(api, inbox)
    hers, nora, tenant = bearer(tokens), tokens["user"]["id"], tokens["organization"]["id"]
    invited = f"{uuid.uuid4().hex}@example.org"
    invitation = invite(api, hers, invited)["id"]  # type: ignore[arg-type]
    joined = join(api, mailed(inbox, invited))
    dan = joined.json["user"]["id"]
    answers = {
        "member.role_changed": api.patch(f"/v1/members/{dan}", json={"role": "developer"}, headers=hers),
        "member.read": api.get("/v1/members", headers=hers),
        "access.denied": api.get("/v1/audit-events", headers=bearer(joined.json)),
        "export.requested": api.post("/v1/exports", json={"scope": "user", "user_id": dan}, headers=hers),
    }
    export = answers["export.requested"].json["id"]
    state = "SELECT status FROM platform.jobs WHERE id = :id"
    wait_until(lambda: drain() and admin.run(state, id=export) == [["done"]], 60, what="the copy")
    asked = api.post("/v1/deletions", json={"scope": "user", "user_id": dan}, headers=hers)
    erasure = asked.json["id"]
    wait_until(lambda: drain() and admin.run(state, id=erasure) == [["done"]], 60, what="the erasure")

    told = chain(api, hers)
    by_her, by_him = ("user", nora), ("user", dan)
    story = [
        ("organization.created", by_her, ("organization", tenant), "success"),
        ("user.registered", by_her, ("user", nora), "success"),
        ("login.succeeded", by_her, ("login", None), "success"),
        ("invitation.created", by_her, ("invitation", invitation), "success"),
        ("invitation.accepted", by_him, ("invitation", invitation), "success"),
        ("member.joined", by_him, ("member", dan), "success"),
        ("login.succeeded", by_him, ("login", None), "success"),
        ("member.role_changed", by_her, ("member", dan), "success"),
        ("member.read", by_her, ("member", None), "success"),
        ("access.denied", by_him, ("route", "GET /v1/audit-events"), "denied"),
        ("export.requested", by_her, ("export", export), "success"),
        ("export.completed", ("system", export), ("export", export), "success"),
        ("export.mailed", ("system", export), ("export", export), "success"),
        ("deletion.requested", by_her, ("deletion", erasure), "success"),
        ("member.erased", ("system", erasure), ("member", dan), "success"),
        ("personal.erased", ("system", erasure), ("deletion", erasure), "success"),
        ("deletion.completed", ("system", erasure), ("deletion", erasure), "success"),
    ]
    shown = [event for event in told if event["action"] != "audit.read"]
    assert [
        (
            event["action"],
            (event["actor"]["type"], event["actor"]["id"]),
            (event["resource"]["type"], event["resource"]["id"] if event["resource"]["type"] != "login" else None),
            event["outcome"],
        )
        for event in shown
    ] == story
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert [event["at"] for event in told] == sorted(event["at"] for event in told)

    by_action = {event["action"]: event for event in shown}
    for action, answer in {**answers, "deletion.requested": asked}.items():
        assert by_action[action]["request_id"] == answer.headers["X-Request-Id"], action
    assert all(REQUEST.fullmatch(event["request_id"]) for event in told)
    for event in told:  # his personal parts are gone, hers stand, the system has none
        assert (event["personal"] is not None) == (event["actor"]["id"] == nora), event
    assert set(by_action["personal.erased"]["data"]["events"]) == {e["seq"] for e in shown if e["actor"]["id"] == dan}
    assert newcomer.email not in str(told)

    page = documented()
    for event in told:
        outcomes, keys = page[event["action"]]
        assert event["outcome"] in outcomes, event
        assert set(event["data"]) <= keys, event
        if event["action"] not in {"access.denied", "personal.erased"}:
            assert event["resource"]["type"] == event["action"].split(".")[0]
