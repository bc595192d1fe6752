"""POST /internal/retention/run: what the register's periods have ended for goes, and nothing else."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pg8000.native

from tests.conftest import Api, People, Person, wait_until
from tests.deletions.conftest import Backstage

RUN = "/internal/retention/run"


def registration(admin: pg8000.native.Connection, days: int) -> str:
    """A registration that expired so many days ago."""
    new = str(uuid.uuid4())
    admin.run(
        "INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash, browser_hash,"
        " token_hash, expires_at) VALUES (:id, :email, 'N', 'O', 'x', 'x', uuid_send(:id),"
        " now() - make_interval(days => :days))",
        id=new,
        email=f"{new}@example.org",
        days=days,
    )
    return new


def outbox(admin: pg8000.native.Connection, days: int, *, sent: bool) -> str:
    new = str(uuid.uuid4())
    admin.run(
        "INSERT INTO platform.outbox (id, kind, name, reference, task_name, not_before, created_at, sent_at)"
        " VALUES (:id, 'mail', 'x', :id, :task, now() + interval '1 day', now() - make_interval(days => :days),"
        " CASE WHEN :sent THEN now() - make_interval(days => :days) END)",
        id=new,
        task=uuid.uuid4().hex,
        days=days,
        sent=sent,
    )
    return new


def present(admin: pg8000.native.Connection, table: str, key: str) -> bool:
    return bool(admin.run(f"SELECT EXISTS (SELECT FROM {table} WHERE id = :id)", id=key)[0][0])


def session(admin: pg8000.native.Connection, people: People, person: Person, days: int) -> str:
    """A login session, with a refresh token, that expired so many days ago."""
    made = people.log_in(person).session_id
    admin.run(
        "UPDATE identity.login_sessions SET expires_at = now() - make_interval(days => :days) WHERE id = :id",
        id=made,
        days=days,
    )
    admin.run(
        "INSERT INTO identity.refresh_tokens (token_hash, account_id, login_session_id, generation, expires_at)"
        " VALUES (uuid_send(gen_random_uuid()), :account, :session, 0, now() - make_interval(days => :days))",
        account=person.user_id,
        session=made,
        days=days,
    )
    return made


def test_it_removes_what_is_over(
    people: People, alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    gone = [registration(admin, 8), outbox(admin, 31, sent=True), session(admin, people, alice, 91)]
    kept = [registration(admin, 6), outbox(admin, 29, sent=True), outbox(admin, 31, sent=False)]
    recent = session(admin, people, alice, 2)

    answer = backstage.call("retention", "scheduler", RUN)

    assert answer.status_code == 200
    removed = answer.json["removed"]
    assert removed["identity.registrations"] >= 1
    assert removed["platform.outbox"] >= 1
    assert removed["identity.login_sessions"] >= 1
    assert removed["identity.refresh_tokens"] >= 2
    tables = ("identity.registrations", "platform.outbox", "identity.login_sessions")
    assert [present(admin, table, key) for table, key in zip(tables, gone, strict=True)] == [False] * 3
    assert present(admin, "identity.registrations", kept[0])
    assert present(admin, "platform.outbox", kept[1])
    assert present(admin, "platform.outbox", kept[2])
    assert present(admin, "identity.login_sessions", recent)
    assert present(admin, "identity.login_sessions", alice.session_id)
    tokens = admin.run("SELECT count(*) FROM identity.refresh_tokens WHERE login_session_id = :id", id=recent)
    assert tokens == [[0]]


def test_two_runs_at_once_are_harmless(backstage: Backstage, admin: pg8000.native.Connection) -> None:
    for _ in range(20):
        registration(admin, 30)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: backstage.call("retention", "scheduler", RUN), range(2)))

    assert [answer.status_code for answer in answers] == [200, 200]
    assert sum(answer.json["removed"]["identity.registrations"] for answer in answers) == 20
    again = backstage.call("retention", "scheduler", RUN).json["removed"]
    assert again["identity.registrations"] == 0


def test_an_expired_export_loses_its_file(
    api: Api, alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    export_id = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=alice).json["id"]
    wait_until(lambda: api.get(f"/v1/exports/{export_id}", headers=alice).json["status"] == "ready", what="an export")
    admin.run("UPDATE platform.exports SET expires_at = now() WHERE id = :id", id=export_id)

    assert backstage.call("retention", "scheduler", RUN).json["expired_exports"] >= 1

    assert api.get(f"/v1/exports/{export_id}", headers=alice).json["status"] == "expired"
    assert backstage.call("retention", "scheduler", RUN).json["expired_exports"] == 0


def test_a_chain_that_takes_no_event_keeps_nothing_else_from_its_end(
    api: Api, alice: Person, mallory: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    """Its organization's export loses its file, and is marked by the first run after the chain was mended."""
    put = "UPDATE app.audit_heads SET seq = :seq WHERE tenant_id = :t"
    exports = []
    for who in (alice, mallory):
        exports.append(api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=who).json["id"])

    def statuses() -> list[str]:
        found = admin.run(
            "SELECT id::text, status FROM platform.exports WHERE id = ANY (CAST(:ids AS uuid[]))", ids=exports
        )
        return [dict(map(tuple, found))[place] for place in exports]

    wait_until(lambda: statuses() == ["ready", "ready"], what="the exports")
    admin.run("UPDATE platform.exports SET expires_at = now() WHERE id = ANY (CAST(:ids AS uuid[]))", ids=exports)
    (last,) = admin.run("SELECT seq FROM app.audit_heads WHERE tenant_id = :t", t=alice.tenant_id)[0]
    admin.run(put, seq=0, t=alice.tenant_id)
    over = registration(admin, 100)

    assert backstage.call("retention", "scheduler", RUN).status_code == 200

    assert statuses() == ["ready", "expired"]
    assert admin.run("SELECT count(*) FROM identity.registrations WHERE id = :id", id=over) == [[0]]
    admin.run(put, seq=last, t=alice.tenant_id)
    assert backstage.call("retention", "scheduler", RUN).status_code == 200
    assert statuses() == ["expired", "expired"]


def test_a_table_whose_rows_cannot_go_keeps_no_other_from_its_end(
    backstage: Backstage, admin: pg8000.native.Connection, people: People, alice: Person
) -> None:
    """Something hangs on a row that the register does not know of: the run says that it is not complete."""
    kept, over = registration(admin, 30), session(admin, people, alice, 91)
    admin.run("CREATE TABLE public.hanging (registration uuid REFERENCES identity.registrations)")
    admin.run("INSERT INTO public.hanging VALUES (:id)", id=kept)
    try:
        answer = backstage.call("retention", "scheduler", RUN)
    finally:
        admin.run("DROP TABLE public.hanging")

    assert (answer.status_code, answer.json["complete"]) == (200, False)
    assert present(admin, "identity.registrations", kept)
    assert not present(admin, "identity.login_sessions", over)
    assert backstage.call("retention", "scheduler", RUN).json["complete"]
    assert not present(admin, "identity.registrations", kept)


def test_proofs_are_kept_for_their_time(people: People, backstage: Backstage, admin: pg8000.native.Connection) -> None:
    old, young = backstage.queued(people.create("owner")), backstage.queued(people.create("owner"))
    open_one = backstage.queued(people.create("owner"))
    admin.run("UPDATE platform.deletions SET finished_at = now() - interval '37 months' WHERE job_id = :id", id=old)
    admin.run("UPDATE platform.deletions SET finished_at = now() WHERE job_id = :id", id=young)
    long_ago = "UPDATE platform.deletions SET received_at = now() - interval '37 months' WHERE job_id IN (:a, :b)"
    admin.run(long_ago, a=young, b=open_one)

    assert backstage.call("retention", "scheduler", RUN).json["removed"]["platform.deletions"] == 1

    assert not present(admin, "platform.jobs", old)
    assert present(admin, "platform.jobs", young)
    assert present(admin, "platform.jobs", open_one)


def test_only_the_scheduler_may_call(backstage: Backstage) -> None:
    for path in (RUN, "/internal/outbox/drain", "/internal/jobs/requeue"):
        assert backstage.call("retention", "workflows", path).status_code == 403
        assert backstage.call("retention", "tasks", path).status_code == 403
