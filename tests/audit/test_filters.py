"""GET /v1/audit-events: its filters, alone and together, and pages that stay where they are while events arrive."""

import re
import uuid
from datetime import datetime, timedelta
from typing import Any

import pg8000.native
import pytest

from functions.audit import queries
from tests.conftest import Api, People, Person

SHAPE = re.compile(r"Index (?:Only )?Scan(?: Backward)? using (\w+) on audit_events")


@pytest.fixture
def busy(api: Api, alice: Person, dan: Person, vera: Person) -> dict[str, str]:
    """Six events: three of Alice's, two of Dan's, a refusal of Vera's; the ids of the projects by name."""
    made = {}
    for name, who in (("Atlas", alice), ("Borea", dan), ("Ceres", alice)):
        made[name] = api.post("/v1/projects", json={"name": name}, headers=who).json["id"]
    api.patch(f"/v1/projects/{made['Atlas']}", json={"description": "d"}, headers=dan)
    api.post("/v1/projects", json={"name": "x"}, headers=vera)
    api.patch(f"/v1/projects/{made['Atlas']}", json={"description": "e"}, headers=alice)
    return made


def found(api: Api, who: Person, **query: Any) -> list[int]:
    """The seqs of what a filter shows, newest first; the reading itself is an event that comes later."""
    names = {name.rstrip("_"): value for name, value in query.items()}
    answer = api.get("/v1/audit-events", params=names, headers=who)
    assert answer.status_code == 200, answer.text
    return [event["seq"] for event in answer.json["items"]]


def test_each_filter_and_their_combinations(
    api: Api, alice: Person, dan: Person, vera: Person, busy: dict[str, str]
) -> None:
    atlas, created = busy["Atlas"], "project.created"
    for expected, query in (
        ([6, 3, 1], {"actor": alice.user_id, "to": "2100-01-01T00:00:00Z", "resource": "project"}),
        ([4, 2], {"actor": dan.user_id}),
        ([3, 2, 1], {"action": created}),
        ([6, 4, 3, 2, 1], {"resource": "project"}),
        ([6, 4, 1], {"resource": atlas}),
        ([5], {"resource": "POST /v1/projects"}),
        ([5], {"resource": "route", "actor": vera.user_id, "action": "access.denied"}),
        ([2], {"actor": dan.user_id, "action": created}),
        ([4], {"actor": dan.user_id, "resource": atlas}),
        ([6, 4], {"action": "project.updated", "resource": atlas}),
        ([6], {"actor": alice.user_id, "action": "project.updated", "resource": atlas}),
        ([3, 2, 1], {"action": created, "resource": "project"}),
        ([], {"actor": vera.user_id, "action": created}),
        ([], {"actor": str(uuid.uuid4())}),
        ([], {"action": "task", "actor": dan.user_id}),
        ([], {"resource": "task", "action": created}),
    ):
        assert found(api, alice, **query) == expected, query


def test_both_bounds_of_the_time_are_inclusive(api: Api, alice: Person, dan: Person, busy: dict[str, str]) -> None:
    items = api.get("/v1/audit-events", headers=alice).json["items"]
    at = {event["seq"]: event["at"] for event in items}

    def earlier(seq: int) -> str:
        return (datetime.fromisoformat(at[seq]) - timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")

    assert found(api, alice, from_=at[2], to=at[5]) == [5, 4, 3, 2]
    assert found(api, alice, from_=at[2], to=earlier(5)) == [4, 3, 2]
    assert found(api, alice, from_=at[3], to=at[3]) == [3]
    assert found(api, alice, actor=dan.user_id, from_=at[3]) == [4]
    assert found(api, alice, resource=busy["Atlas"], to=at[4]) == [4, 1]
    assert found(api, alice, action="project.created", from_=at[2], to=at[2]) == [2]
    assert found(api, alice, from_=at[5], to=at[2]) == []
    assert found(api, alice, to="2000-01-01T00:00:00Z") == []
    assert found(api, alice, from_="2100-01-01T00:00:00Z") == []


@pytest.mark.parametrize("query", ["who=x", "actor=dan", "action=Nothing!", "from=yesterday", "limit=0", "resource="])
def test_what_no_filter_takes(api: Api, alice: Person, query: str) -> None:
    answer = api.get(f"/v1/audit-events?{query}", headers=alice)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_a_key_is_an_actor(api: Api, alice: Person) -> None:
    body = {"name": "Robot", "permissions": ["project.create"]}
    key = api.post("/v1/api-keys", json=body, headers=alice).json
    api.post("/v1/projects", json={"name": "Made by it"}, headers={"Authorization": f"Bearer {key['key']}"})

    answer = api.get(f"/v1/audit-events?actor={key['id']}", headers=alice).json
    assert [(event["actor"]["type"], event["action"]) for event in answer["items"]] == [("api_key", "project.created")]


def test_pages_stay_where_they_are_while_events_arrive(api: Api, alice: Person, busy: dict[str, str]) -> None:
    """Each page is an event itself, and so is what others do between two of them."""
    seen: list[int] = []
    path: str | None = "/v1/audit-events?resource=project&limit=2"
    while path:
        answer = api.get(path, headers=alice)
        seen += [event["seq"] for event in answer.json["items"]]
        api.post("/v1/projects", json={"name": f"Meanwhile {len(seen)}"}, headers=alice)
        cursor = answer.json["next_cursor"]
        path = f"/v1/audit-events?resource=project&limit=2&cursor={cursor}" if cursor else None

    assert seen == [6, 4, 3, 2, 1]


def test_what_lies_behind_the_base_is_not_shown(
    api: Api, admin: pg8000.native.Connection, alice: Person, dan: Person, busy: dict[str, str]
) -> None:
    admin.run("UPDATE app.audit_heads SET base_seq = 3 WHERE tenant_id = :t", t=alice.tenant_id)

    assert found(api, alice, to="2100-01-01T00:00:00Z", limit=3) == [6, 5, 4]
    for query in ({"resource": "project"}, {"resource": busy["Atlas"]}, {"actor": dan.user_id},
                  {"action": "project.created"}, {"from_": "2000-01-01T00:00:00Z"}):  # fmt: skip
        assert min(found(api, alice, **query), default=4) >= 4, query


class Planner:
    """Stands in the place of a transaction: has PostgreSQL tell how it would run a statement, whatever it knows."""

    def __init__(self, connection: pg8000.native.Connection, tenant_id: str) -> None:
        self._connection, self._tenant = connection, tenant_id
        self.indexes: set[str] = set()

    def rows(self, sql: str, **given: Any) -> list[list[Any]]:
        kinds = {
            "limit": "integer",
            "probe": "integer",
            "drive": "text",
            "tenant_id": "uuid",
            "actor": "uuid",
            "after": "bigint",
        }
        kinds |= {"action": "text", "resource": "text", "since": "timestamptz", "until": "timestamptz"}
        names = list(kinds)
        numbered = re.sub(r"(?<!:):([a-z_]+)\b", lambda match: f"${names.index(match[1]) + 1}", sql)
        values = [self._tenant if name == "tenant_id" else given.get(name) for name in names]
        shown = ", ".join("NULL" if value is None else f"'{value}'" for value in values)
        self._connection.run("SET LOCAL plan_cache_mode = force_generic_plan")
        self._connection.run(f"PREPARE walk ({', '.join(kinds.values())}) AS {numbered}")
        plan = self._connection.run(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE walk ({shown})")
        self._connection.run("DEALLOCATE walk")
        run = [line for (line,) in plan if "audit_events" in line and "never executed" not in line]
        assert not [line for line in run if not SHAPE.search(line)], run
        self.indexes |= {match[1] for line in run if (match := SHAPE.search(line))}
        return [["[]", False, None]]


WALKS: list[tuple[dict[str, Any], str]] = [
    ({}, "audit_events_pkey"),
    ({"actor": str(uuid.uuid4())}, "audit_events_by_actor"),
    ({"action": "project.created"}, "audit_events_by_action"),
    ({"resource": "project"}, "audit_events_by_type"),
    ({"resource": str(uuid.uuid4())}, "audit_events_by_resource"),
    ({"since": "2026-01-01"}, "audit_events_by_moment"),
    ({"until": "2026-01-01"}, "audit_events_by_moment"),
]
MANY = """
    INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id, outcome,
                                  request_id, personal_hash, prev_hash, hash)
    SELECT CAST(:t AS uuid), n, now() + n * interval '1 second', 'user', gen_random_uuid(),
           'thing' || n % 50 || '.done', 'thing' || n % 50, gen_random_uuid(), 'success', 'r', '', '', ''
    FROM generate_series(1, 10000) n
"""


def test_each_filter_walks_an_index_under_any_plan(admin: pg8000.native.Connection, people: People) -> None:
    """As the driver prepares it: PostgreSQL plans once, without a look at the values, and never reads a whole table."""
    tenant_id = people.organization()
    admin.run("BEGIN")
    admin.run("DELETE FROM app.audit_events")  # what other tests have left is no picture of a real chain
    admin.run(MANY, t=tenant_id)
    admin.run("ANALYZE app.audit_events")
    for query, index in WALKS:
        planner = Planner(admin, tenant_id)
        given = dict.fromkeys(("after", "actor", "action", "resource", "since", "until")) | query
        queries.list_events(planner, limit=50, **given)  # type: ignore[arg-type]
        assert index in planner.indexes, query
    admin.run("ROLLBACK")
