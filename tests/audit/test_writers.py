"""Many writers in one organization: no gap, no fork, no deadlock, no event without its change or the reverse."""

import json
import os
import signal
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import pg8000.native
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.audit import GENESIS, event_hash, personal_hash
from tests.conftest import Api, database, pid_of, wait_until
from tests.tenancy.conftest import Attacker

CLIENTS, DIRECT, EACH = 25, 25, 3
INSERT = (
    "INSERT INTO app.projects (tenant_id, name, created_by)"
    " VALUES (app.tenant_id(), CAST(gen_random_uuid() AS text), app.principal_id()) RETURNING id"
)
CREATED = {"action": "project.created", "resource_type": "project", "outcome": "success", "data": {}}


def created(project_id: object, **more: object) -> dict[str, object]:
    """The event of a project, as a function hands it over."""
    return {
        **CREATED,
        "resource_id": str(project_id),
        "request_id": str(uuid.uuid4()),
        "personal": {"ip": "203.0.113.7", "user_agent": None},
        **more,
    }


class Writer(Attacker):
    """A writer with the login of projects, connected by itself: it ends its transactions in every way there is."""

    def __init__(self, stack, person):
        super().__init__(stack, "projects_fn")
        self._person = person

    def append(self, *events):
        self.connection.run("SELECT app.append_audit(:events)", events=json.dumps(events))

    def change(self):
        """A project and its event, not committed yet; the id of the project."""
        self.begin_sealed(self._person)
        project_id = str(self.connection.run(INSERT)[0][0])
        self.append(created(project_id))
        return project_id

    def commit(self):
        project_id = self.change()
        self.connection.run("COMMIT")
        return project_id

    def give_up(self):
        self.change()
        self.connection.run("ROLLBACK")

    def fail(self):
        """The event is refused, hence its change as well."""
        self.begin_sealed(self._person)
        project_id = self.connection.run(INSERT)[0][0]
        with pytest.raises(pg8000.native.DatabaseError, match="integers"):
            self.append(created(project_id), created(project_id, data={"half": 0.5}))
        self.connection.run("ROLLBACK")

    def die(self):
        """Killed while it holds the chain."""
        self.change()
        with database(self._stack["postgres"]["admin"]) as admin:
            admin.run("SELECT pg_terminate_backend(:pid)", pid=self.pid)

    def work(self, last):
        """What was committed; `last` is how it ends."""
        try:
            done = [self.commit() for _ in range(EACH - 1)]
            ended = last(self)
            return [*done, ended] if ended else done
        finally:
            with suppress(pg8000.exceptions.InterfaceError):
                self.connection.close()


def chain(connection, organization_id):
    rows = connection.run(
        "SELECT app.audit_event_json(e) FROM app.audit_events e WHERE tenant_id = :t ORDER BY seq", t=organization_id
    )
    return [row[0] for row in rows]


def assert_whole(events):
    """From 1 on without a gap, each linked to the one before and dated no earlier."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["prev_hash"] for event in events] == [GENESIS, *(event["hash"] for event in events[:-1])]
    assert [event["hash"] for event in events] == [event_hash(event) for event in events]
    moments = [event["at"] for event in events]
    assert moments == sorted(moments)


def assert_told(connection, organization_id, events, acknowledged):
    """Each project has its event, each event its project, and what was acknowledged is among them."""
    rows = connection.run("SELECT id FROM app.projects WHERE tenant_id = :t", t=organization_id)
    told = [event["resource"]["id"] for event in events if event["action"] == "project.created"]
    assert sorted(told) == sorted(str(row[0]) for row in rows)
    assert set(acknowledged) <= set(told)


def deadlocks(connection):
    return connection.run("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0]


def statuses(stack, count, act: Callable[[Api], list]):
    """Run by so many threads, each a client of its own; the jobs."""
    pool = ThreadPoolExecutor(count)

    def run():
        client = Api(stack["api"])
        try:
            return act(client)
        finally:
            client._session.close()

    jobs = [pool.submit(run) for _ in range(count)]
    pool.shutdown(wait=False)
    return jobs


def found(jobs):
    return [item for job in jobs for item in job.result(60)]


def test_fifty_writers_leave_no_gap_and_no_fork(stack, api, admin, alice, dan, vera):
    before = deadlocks(admin)
    for _ in range(2):
        assert api.post("/v1/projects", json={"name": str(uuid.uuid4())}, headers=dan).status_code == 201
    ends = [Writer.commit, Writer.give_up, Writer.fail, Writer.die, Writer.commit]

    def posts(client):
        made = [client.post("/v1/projects", json={"name": str(uuid.uuid4())}, headers=alice) for _ in range(EACH)]
        return [answer.json.get("id", answer.text) for answer in made]

    def refusals(client):
        return [client.post("/v1/projects", json={"name": "x"}, headers=vera).status_code for _ in range(EACH)]

    def readings(client):
        return [client.get("/v1/projects", headers=vera).status_code for _ in range(EACH)]

    def verdicts(client):
        return [client.get("/v1/audit-events/verify", headers=alice).json["valid"] for _ in range(EACH)]

    with ThreadPoolExecutor(DIRECT) as pool:
        asked = api.post("/v1/deletions", json={"scope": "me"}, headers=dan)
        assert asked.status_code == 202, asked.text
        http = statuses(stack, CLIENTS, posts)
        refused, read, verified = (statuses(stack, 3, act) for act in (refusals, readings, verdicts))
        direct = [pool.submit(Writer(stack, alice).work, ends[number % len(ends)]) for number in range(DIRECT)]
        wait([*http, *direct, *refused, *read, *verified], 60)
    acknowledged = found(http) + found(direct)
    of_dan = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND actor_id = :dan AND personal IS NOT NULL"
    wait_until(lambda: admin.run(of_dan, t=alice.tenant_id, dan=dan.user_id) == [[0]], what="the erasure")

    events = chain(admin, alice.tenant_id)
    assert_whole(events)
    assert_told(admin, alice.tenant_id, events, acknowledged)
    assert len(acknowledged) == CLIENTS * EACH + DIRECT // 5 * (EACH * 2 + (EACH - 1) * 3)
    assert (set(found(refused)), set(found(read)), set(found(verified))) == ({403}, {200}, {True})
    actions = [event["action"] for event in events]
    assert actions.count("access.denied") == 9
    assert "personal.erased" in actions
    verdict = api.get("/v1/audit-events/verify", headers=alice).json
    assert (verdict["valid"], verdict["head"]["seq"]) == (True, len(events))
    assert deadlocks(admin) == before


def test_no_crash_takes_back_what_was_acknowledged(stack, alice):
    """The server is killed: what it had not written to the log by then is lost, as with the machine."""
    over = threading.Event()
    acknowledged: list[str] = []

    def posts(client):
        while not over.is_set():
            with suppress(requests.RequestException):
                answer = client.post("/v1/projects", json={"name": str(uuid.uuid4())}, headers=alice)
                if answer.status_code == 201:
                    acknowledged.append(answer.json["id"])
        return []

    def restarted():
        try:
            with database(stack["postgres"]["admin"]) as connection:
                return pid_of(stack, "postgres") != killed and connection.run("SELECT 1") == [[1]]
        except (KeyError, pg8000.exceptions.InterfaceError, pg8000.native.DatabaseError):
            return False

    jobs = statuses(stack, 8, posts)
    wait_until(lambda: len(acknowledged) > 40, what="writes")
    killed = pid_of(stack, "postgres")
    os.kill(killed, signal.SIGKILL)
    over.set()
    found(jobs)
    wait_until(restarted, 30, "PostgreSQL")

    with database(stack["postgres"]["admin"]) as connection:
        events = chain(connection, alice.tenant_id)
        assert_whole(events)
        assert_told(connection, alice.tenant_id, events, acknowledged)


@pytest.fixture
def writer(stack, alice):
    made = Writer(stack, alice)
    yield made
    made.connection.close()


def test_a_clock_that_goes_back_dates_no_event_back(admin, alice, writer):
    writer.commit()
    admin.run("UPDATE app.audit_heads SET at = at + interval '1 hour' WHERE tenant_id = :t", t=alice.tenant_id)
    writer.commit()
    writer.commit()

    events = chain(admin, alice.tenant_id)
    assert_whole(events)
    assert events[0]["at"] < events[1]["at"] == events[2]["at"]


def test_several_events_of_a_transaction_follow_each_other(admin, alice, writer):
    writer.begin_sealed(alice)
    writer.append(*(created(uuid.uuid4(), data={"n": n}) for n in range(5)))
    writer.append(created(uuid.uuid4(), data={"n": 5}))
    writer.connection.run("COMMIT")

    events = chain(admin, alice.tenant_id)
    assert_whole(events)
    assert [event["data"]["n"] for event in events] == list(range(6))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20) | st.sampled_from(
    ["\x08\x09\x0a\x0c\x0d", '"\\/', "\x01\x1f\x7f", "\u2028\u2029", "🧑‍🚀", "é", "<script>", "%s :name $1"]
)
KEYS = st.text("abcXYZ_09 .-", max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {
        "action": TEXT,
        "resource_type": TEXT,
        "resource_id": st.none() | TEXT,
        "outcome": st.sampled_from(["success", "denied", "failure"]),
        "request_id": TEXT,
        "data": st.dictionaries(KEYS, VALUES, max_size=4),
        "personal": st.none()
        | st.fixed_dictionaries({"ip": st.none() | TEXT, "user_agent": st.none() | TEXT})
        | st.fixed_dictionaries({"ip": VALUES}, optional={"user_agent": VALUES, "also": VALUES})
        | st.dictionaries(KEYS, VALUES, max_size=3),
    }
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=EVENTS)
def test_the_database_and_python_hash_alike(admin, alice, writer, event):
    writer.begin_sealed(alice)
    writer.append(event)
    writer.connection.run("COMMIT")

    stored = admin.run(
        "SELECT app.audit_event_json(e) FROM app.audit_events e WHERE tenant_id = :t ORDER BY seq DESC LIMIT 1",
        t=alice.tenant_id,
    )[0][0]
    assert stored["hash"] == event_hash(stored)
    assert stored["personal_hash"] == personal_hash(stored["personal_salt"], stored["personal"])
    assert stored["resource"] == {"type": event["resource_type"], "id": event["resource_id"]}
    assert stored["actor"] == {"type": "user", "id": alice.user_id}
    for name in ("action", "outcome", "request_id", "data", "personal"):
        assert stored[name] == event[name]


@pytest.mark.parametrize("number", ["0.5", "1.0", "-1e-3", "9007199254740992", "-9007199254740992", "1e300"])
def test_only_integers_below_two_to_the_53rd(alice, writer, number):
    writer.begin_sealed(alice)
    with pytest.raises(pg8000.native.DatabaseError, match="integers below"):
        writer.connection.run(
            "SELECT app.append_audit(CAST(:events AS jsonb))",
            events=json.dumps([created(uuid.uuid4(), data={"deep": [{"n": "N"}]})]).replace('"N"', number),
        )
    writer.connection.run("ROLLBACK")
