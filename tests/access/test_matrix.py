"""Every public route, called by every role, with and without the one permission, by keys, by strangers and by nobody.

What each is answered follows from the route's own line and the contract's roles: a new route is in here by itself.
"""

from dataclasses import replace

import pytest

from common.http import Route
from tests.access.conftest import BUILT_IN, CALLERS, Caller, Cast, answer_to
from tests.access.routes import GUARDED, INTERNAL, OPEN, PERMISSIONS, SCOPED, address, name_of
from tests.conftest import Answer, Api

RECORDED = {"permission_denied", "step_up_required", "organization_suspended"}  # of whoever is a member
REFUSED = {"removed", "nobody", "key with all but that"}  # wherever they call


def call(api: Api, route: Route, caller: Caller, *, broken: bool = False) -> Answer:
    """Call with an empty body; `broken` with one that would be refused, had anybody looked at it."""
    headers = dict(caller)
    if route.body is None:
        return api.request(route.method, address(route), headers=headers)
    if broken:
        headers["Content-Type"] = "application/json"
        return api.request(route.method, address(route), headers=headers, data=b'{"')
    return api.request(route.method, address(route), headers=headers, json={})


def refusals(cast: Cast, caller: Caller) -> list[dict]:
    """The refusals in the audit chain of the caller's organization."""
    found = cast.admin.run(
        "SELECT to_json(e) FROM app.audit_events e WHERE tenant_id = :t AND action = 'access.denied' ORDER BY seq",
        t=caller.tenant_id or None,
    )
    return [row[0] for row in found]


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_guarded(api: Api, cast: Cast, route: Route, who: str) -> None:
    caller, expected = cast.make(who, route), answer_to(who, route)

    answer = call(api, route, caller, broken=expected is not None)

    if expected is None:
        assert answer.status_code not in {401, 403}, answer.text
        assert answer.status_code < 500, answer.text
        assert refusals(cast, caller) == []
        return
    assert (answer.status_code, answer.json["code"]) == expected, answer.text
    recorded = refusals(cast, caller)
    if expected[1] not in RECORDED:
        assert recorded == []
        return
    (event,) = recorded
    assert event["outcome"] == "denied"
    assert event["resource_id"] == f"{route.method} {route.path}"
    assert event["data"] == {"reason": expected[1], "needs": route.needs}
    assert (event["actor_type"], event["actor_id"]) == caller.actor


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize(("route", "scope"), SCOPED, ids=[f"{name_of(route)} {scope}" for route, scope in SCOPED])
def test_by_scope(api: Api, cast: Cast, route: Route, scope: str, who: str) -> None:
    """What a scope needs on top is asked as the route's own needs are, before the rest of the body is judged."""
    code = dict(route.by_scope)[scope]
    as_if = replace(route, needs=code, step_up=True, while_suspended=False)
    caller, expected = cast.make(who, as_if), answer_to(who, as_if)

    answer = api.request(route.method, address(route), headers=dict(caller), json={"scope": scope, "nonsense": 1})

    assert (answer.status_code, answer.json["code"]) == (expected or (422, "invalid_request")), answer.text
    recorded = refusals(cast, caller)
    if expected is None or expected[1] not in RECORDED:
        assert recorded == []
        return
    (event,) = recorded
    assert event["data"]["needs"] in {code, route.needs}
    assert (event["actor_type"], event["actor_id"]) == caller.actor


@pytest.mark.parametrize("who", ["nobody", "owner", "viewer", "key with just that"])
@pytest.mark.parametrize("route", OPEN, ids=name_of)
def test_open(api: Api, cast: Cast, route: Route, who: str) -> None:
    """No permission stands before it, whoever calls."""
    answer = call(api, route, cast.make(who, route))

    assert answer.status_code < 500, answer.text
    if answer.status_code == 403:
        assert answer.json["code"] not in {"permission_denied", "step_up_required"}


@pytest.mark.parametrize("who", ["nobody", "owner", "key with just that"])
@pytest.mark.parametrize("route", INTERNAL, ids=name_of)
def test_internal(api: Api, cast: Cast, route: Route, who: str) -> None:
    """What is for other services is not there, whoever calls."""
    answer = call(api, route, cast.make(who, route))
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_the_built_in_roles_are_those_of_the_contract(cast: Cast) -> None:
    found = {name: set(permissions) for name, permissions in cast.admin.run("SELECT * FROM platform.roles")}
    assert found == BUILT_IN


def test_the_matrix_refuses_and_lets_in() -> None:
    """What the tests above rest on: each caller is refused somewhere, and each permission keeps somebody out."""
    answers = {who: {answer_to(who, route) for route in GUARDED} for who in CALLERS}

    assert {who for who, found in answers.items() if found == {None}} <= {"owner", "role with just that"}
    assert {who for who, found in answers.items() if None not in found} == REFUSED
    assert {route.needs for route in GUARDED} & PERMISSIONS
    open_to_suspended = {route.path for route in GUARDED if answer_to("suspended", route) is None}
    assert {"/v1/exports", "/v1/deletions"} < open_to_suspended
    own = ("/v1/exports", "/v1/deletions", "/v1/auth/step-up", "/v1/consents")
    assert all(path.startswith(own) for path in open_to_suspended)
    assert len(OPEN) > 5
    assert len(INTERNAL) > 20
