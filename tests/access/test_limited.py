"""No route is without a limit: every answer says which policies have counted its request, whoever sent it."""

import re
from typing import Any

from common.http import Route
from common.limits import EXEMPT, HEALTH
from tests.access.routes import GUARDED, OPEN, ROUTES, address, name_of
from tests.conftest import Answer, Api, Person


def counted(answer: Answer) -> set[str]:
    """The policies that have counted this request."""
    return set(re.findall(r'"([a-z]+)"', answer.headers.get("RateLimit-Policy", "")))


def call(api: Api, route: Route, headers: dict[str, str]) -> Answer:
    body: dict[str, Any] = {} if route.body is None else {"json": {}}
    return api.request(route.method, address(route), headers=headers, **body)


def test_every_route_is_counted(api: Api, vera: Person) -> None:
    """By address and without a credential; of what everybody may read, by address alone."""
    found = {name_of(route): (route, counted(call(api, route, {}))) for route in ROUTES}

    assert len(found) == len(GUARDED) + len(OPEN) > 100
    for name, (route, policies) in found.items():
        if route.path.startswith(HEALTH):
            continue
        exempt = route.path.startswith(EXEMPT)
        assert policies == ({"ip"} if exempt else {"ip", "anonymous"}), name


def test_every_route_is_counted_for_who_calls(api: Api, vera: Person) -> None:
    """By address, person and organization. Logging out comes last."""
    for route in sorted(GUARDED, key=lambda route: "logout" in route.path):
        answer = call(api, route, vera)
        if answer.status_code == 401:
            assert route.path == "/v1/auth/logout-all", "the one behind logout"
            break
        assert counted(answer) >= {"ip", "user", "organization"}, name_of(route)
