"""Every route that names something by its id, called with the ids of another organization: there is no such thing.

The victim's things are made by calling each route that makes one; their ids are then read from the database's catalog.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from common.http import Route
from local.openapi.parts import EVENT_STREAM
from tests.access.conftest import Caller, Cast
from tests.access.routes import PERMISSIONS, ROUTES, UUIDS, address, minimal, name_of
from tests.conftest import Answer, Api, People, Person, database, wait_until
from tests.structure.test_register import PEOPLE

NAMED = [route for route in ROUTES if UUIDS.search(route.path)]
MAKERS = sorted(
    (route for route in ROUTES if route.method == "POST" and route.status == 201), key=lambda route: len(route.path)
)
TRIES = 4  # ids of one kind that a route is called with
COLUMNS = """
    SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('app', 'identity', 'platform') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'uuid'::regtype
    GROUP BY 1 ORDER BY 1
"""


class Victim:
    """An organization with one of everything, and what the database holds of it."""

    def __init__(self, connection: pg8000.native.Connection, owner: Person, other: Person) -> None:
        self._admin, self.owner, self.other = connection, owner, other
        self._tables = {table: set(columns) for table, columns in connection.run(COLUMNS)}

    def _rows(self, table: str, wanted: str) -> Any:
        """An expression over the rows of a table that are the organization's or about its owner."""
        columns = self._tables[table]
        people = sorted(name for name in columns if name in PEOPLE or name.endswith("_by") or name == "reference")
        about = ["tenant_id = :t"] if "tenant_id" in columns else [f"{name} = :u" for name in people]
        if table == "identity.accounts":
            about = ["id = :u"]
        if not about:
            return []
        owner = {"t": self.owner.tenant_id, "u": self.owner.user_id}
        sql = f"SELECT {wanted} FROM {table} t WHERE {' OR '.join(about)}"
        return self._admin.run(sql, **{name: value for name, value in owner.items() if f":{name}" in sql})

    def fingerprint(self) -> dict[str, Any]:
        """Everything the database holds of the organization and its owner."""
        return {table: self._rows(table, "md5(string_agg(t::text, '|' ORDER BY t::text))") for table in self._tables}

    def ids(self, parameter: str) -> list[str]:
        """The ids that a parameter of this name may take: of the tables that are called like it, or all there are."""
        if parameter == "user_id":
            return [self.other.user_id, self.owner.user_id]
        stem = parameter.removesuffix("_id")
        called = re.compile(rf"(^|[._])({stem}s|{stem}e?s|{stem[:-1]}ies)$")
        tables = [table for table in self._tables if called.search(table)]
        found = [key for table in tables for key in self._keys(table)]
        return (found or [key for table in self._tables for key in self._keys(table)])[:TRIES]

    def at_rest(self) -> bool:
        """Whether nothing works for the organization any more: what changes from now on, a call has changed."""
        busy = self._admin.run(
            "SELECT (SELECT count(*) FROM platform.exports e JOIN platform.jobs j USING (id)"
            " WHERE e.requested_by = :u AND j.status IN ('queued', 'running')) + (SELECT count(*) FROM platform.outbox"
            " WHERE reference = :u AND kind = 'mail' AND delivered_at IS NULL)",
            u=self.owner.user_id,
        )
        return bool(busy == [[0]])

    def add_what_no_route_makes(self) -> None:
        """An identity at a provider; a request for erasure, which is over."""
        self._admin.run(
            "INSERT INTO identity.federated_identities (account_id, issuer, subject)"
            " VALUES (:u, 'https://login.example.org', gen_random_uuid())",
            u=self.owner.user_id,
        )
        self._admin.run(
            "WITH job AS (INSERT INTO platform.jobs (id, kind, status) VALUES (gen_random_uuid(), 'deletion', 'done')"
            " RETURNING id) INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at,"
            " finished_at, receipt_hash, certificate) SELECT id, :u, 'me', now(), now(), now(), 'x', '{}' FROM job",
            u=self.owner.user_id,
        )

    def _keys(self, table: str) -> Iterator[str]:
        key = next((name for name in ("id", "job_id") if name in self._tables[table]), None)
        for (value,) in self._rows(table, f"{key}::text") if key else []:
            yield value


def fill(api: Api, victim: Victim) -> None:
    """Call every route that makes something, as the owner; those that need what is not there yet, later."""
    for route in MAKERS:
        ids = {name: next(iter(victim.ids(name)), "") for name in UUIDS.findall(route.path)}
        body = minimal(route.body) if route.body else None
        if body and "project_id" in body:
            body["project_id"] = next(iter(victim.ids("project_id")), "")
        made = api.request(route.method, address(route, ids), headers=victim.owner, json=body)
        assert made.status_code < 500, made.text
    victim.add_what_no_route_makes()
    api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=victim.owner)
    wait_until(victim.at_rest, what="the end of the export and the mails")


@pytest.fixture(scope="module")
def victim(stack: dict[str, Any]) -> Iterator[Victim]:
    with database(stack["postgres"]["admin"]) as connection:
        people = People(stack, connection)
        owner = people.create("owner")
        found = Victim(connection, owner, people.create("viewer", owner.tenant_id))
        fill(Api(stack["api"]), found)
        yield found


def calls(api: Api, victim: Victim, route: Route, caller: Caller) -> Iterator[Answer]:
    """The answers to the route with each of the victim's ids, and a body that would do."""
    names = UUIDS.findall(route.path)
    more: dict[str, Any] = {"json": minimal(route.body)} if route.body else {}
    if route.query:
        more["params"] = minimal(route.query)
    for ids in itertools.product(*(victim.ids(name) for name in names)):
        path = address(route, dict(zip(names, ids, strict=True)))
        yield api.request(route.method, path, headers=dict(caller), **more)


@pytest.mark.parametrize("who", ["owner", "key"])
@pytest.mark.parametrize("route", NAMED, ids=name_of)
def test_there_is_no_such_thing(api: Api, cast: Cast, victim: Victim, route: Route, who: str) -> None:
    caller = cast.person("owner") if who == "owner" else cast.key(PERMISSIONS)
    before = victim.fingerprint()

    answers = list(calls(api, victim, route, caller))

    assert answers
    for answer in answers:
        allowed = {404} if who == "owner" else {403, 404}
        assert answer.status_code in allowed | ({422} if route.body or route.query else set()), answer.text
        assert victim.owner.email not in answer.text
        assert victim.owner.name not in answer.text
    assert victim.fingerprint() == before


def test_the_victim_has_what_the_routes_name(api: Api, victim: Victim) -> None:
    """What the test above rests on: the owner herself does find things by those ids."""
    readable = [route for route in NAMED if route.method == "GET" and route.path.count("<") == 1]
    readable = [route for route in readable if route.media != EVENT_STREAM]  # which would not end
    found = {
        route.path
        for route in readable
        for answer in calls(api, victim, route, Caller(victim.owner))
        if answer.status_code in {200, 302}
    }

    assert {"/v1/projects/<uuid:project_id>", "/v1/tasks/<uuid:task_id>", "/v1/exports/<uuid:export_id>"} <= found
    assert {"/v1/sessions/<uuid:session_id>", "/v1/sessions/<uuid:session_id>/events"} <= found
    assert {"app.projects", "app.tasks", "app.api_keys", "app.sessions"} <= {
        table for table, rows in victim.fingerprint().items() if rows and rows[0][0]
    }
