"""Rules about the route tables: no route without its guards, none that cannot answer for its errors."""

import importlib
from typing import Any

import marshmallow
import pytest

from common import access, errors
from common.http import Routes
from local.layout import catalog, logins, workloads

SERVICES = logins()
PERMISSIONS = {
    *("organizations.view", "organizations.edit", "organizations.delete", "users.invite", "users.remove"),
    *("user.manage", "team.manage", "role.manage", "apikey.manage", "billing.view", "billing.edit"),
    *("project.view", "project.create", "project.update", "project.delete"),
    *("task.view", "task.create", "task.update", "task.delete"),
    *("session.view", "session.create", "session.update", "session.delete"),
    *("consent.manage", "export.create", "deletion.create", "legalhold.manage", "audit.view", "incident.manage"),
}


def tables():
    functions = [f"functions.{entry['folder']}.main" for entry in catalog().values()]
    for module in [*functions, *(f"{workload}.main" for workload in workloads())]:
        importlib.import_module(module)
    return {table.service: table for table in Routes.tables if table.service in SERVICES}


TABLES = tables()
ROUTES = [(service, route) for service, table in TABLES.items() for route in table.routes]
OF_GOOGLE = {"/internal/alerts"}  # its words, to which it may add
NAMES = [f"{service} {route.method} {route.path}" for service, route in ROUTES]


def test_every_service_has_a_table():
    assert set(TABLES) == set(SERVICES)


@pytest.mark.parametrize(("service", "route"), ROUTES, ids=NAMES)
def test_guards(service, route):
    assert route.needs in {access.PUBLIC, access.SIGNED_IN, *PERMISSIONS} or route.needs.startswith(access.SERVICE)
    assert route.internal == route.needs.startswith(access.SERVICE)
    if route.internal:
        assert route.needs.removeprefix(access.SERVICE) in SERVICES[service]["invokers"]
    if route.needs == access.PUBLIC:
        assert not route.step_up
    if route.step_up:
        assert route.method in {"POST", "PATCH", "PUT", "DELETE"}


@pytest.mark.parametrize(("service", "route"), ROUTES, ids=NAMES)
def test_documented(service, route):
    assert route.summary.endswith(".")
    assert set(route.errors) <= set(errors.CODES)
    for schema in (route.body, route.query):
        if schema is not None:
            assert schema.Meta.unknown == (marshmallow.EXCLUDE if route.path in OF_GOOGLE else marshmallow.RAISE)


@pytest.mark.parametrize("missing", ["needs", "body", "answers"])
def test_a_route_without_its_guards_is_a_type_error(missing):
    line: dict[str, Any] = {"needs": access.SIGNED_IN, "body": None, "answers": None}
    del line[missing]
    with pytest.raises(TypeError, match=missing):
        Routes("x").on("GET", "/v1/x", **line)
    Routes.tables.pop()


def test_no_address_belongs_to_two_functions():
    public = [(route.method, route.path) for _, route in ROUTES if not route.internal and "/health/" not in route.path]
    assert len(public) == len(set(public))


def test_a_read_writes_nothing_unless_it_says_so():
    recording = [f"{route.method} {route.path}" for _, route in ROUTES if route.records]
    assert all(line.startswith("GET ") for line in recording)


def test_a_single_read_is_a_persons_and_writes_nothing():
    """Its one statement runs before the permission is looked at, so it must leave nothing behind."""
    single = [route for _, route in ROUTES if route.single]
    assert single
    for route in single:
        assert (route.method, route.records, route.by_scope, route.body) == ("GET", False, (), None), route.path
        assert route.needs in PERMISSIONS, route.path


def test_what_a_query_leaves_out_is_the_same_each_time():
    """common/reading.py remembers it."""
    schemas = {route.query for _, route in ROUTES if route.query is not None}
    made = [(schema, field) for schema in schemas for field in schema().fields.values() if callable(field.load_default)]
    assert not made
