"""Kill -9 of the erasing process at the end of every step: twenty thousand rows go once, and are counted once."""

from collections.abc import Iterator

import pg8000.native
import pytest

from functions.deletions.plan import STEPS
from tests.conftest import Person, database, wait_until
from tests.e2e.jobs import BACK_SECONDS, TASKS, Stage, check_erasure

MORE_TASKS = 16_000
OF_A_PERSON = [name for name in STEPS if name != "rows"]
GATES = [f"me {name}" for name in OF_A_PERSON] + ["user rows", "user certificate", "me finish"]
# A step's last statement waits at its gate: what it has done may be committed or not, and nobody has heard of it.
# The mail's step waits before it begins: a mail that was claimed waits half a minute for its sender to come back.
FUNCTION = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    new_row jsonb := to_jsonb(NEW);
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(d.scope || ' ' || coalesce(new_row ->> 'name', 'finish')))
    FROM platform.deletions d WHERE d.job_id = coalesce(new_row ->> 'job_id', new_row ->> 'id')::uuid;
    RETURN NEW;
END
$$
"""
OF_STEPS = """
CREATE TRIGGER gate BEFORE UPDATE ON platform.deletion_steps FOR EACH ROW
WHEN (NEW.status = CASE NEW.name WHEN 'notify' THEN 'running' ELSE 'done' END) EXECUTE FUNCTION public.gate()
"""
OF_JOBS = """
CREATE TRIGGER gate BEFORE UPDATE ON platform.jobs FOR EACH ROW
WHEN (NEW.kind = 'deletion' AND NEW.status = 'done') EXECUTE FUNCTION public.gate()
"""
EXTRA = """
INSERT INTO app.tasks (tenant_id, project_id, title, created_by)
SELECT :tenant, (SELECT id FROM app.projects WHERE tenant_id = :tenant ORDER BY id LIMIT 1), 'More ' || t, :person
FROM generate_series(1, CAST(:count AS integer)) t
"""


@pytest.fixture
def keeper(stage: Stage) -> Iterator[pg8000.native.Connection]:
    """A connection that keeps every gate shut."""
    with database(stage.stack["postgres"]["admin"]) as connection:
        for statement in (FUNCTION, OF_STEPS, OF_JOBS):
            connection.run(statement)
        for gate in GATES:
            connection.run("SELECT pg_advisory_lock(hashtext(:gate))", gate=gate)
        yield connection


def test_at_every_step(stage: Stage, keeper: pg8000.native.Connection) -> None:
    person: Person = stage.settled()
    stage.run(EXTRA, tenant=person.tenant_id, person=person.user_id, count=MORE_TASKS)
    job = stage.ask("deletions", person)
    shut = set(GATES)
    while shut:
        gate = wait_until(lambda: arrived(stage, shut), 60, f"a step at one of {shut}")
        assert stage.kill("deletions-jobs") < BACK_SECONDS
        keeper.run("SELECT pg_advisory_unlock(hashtext(:gate))", gate=gate)
        shut.remove(gate)

    check_erasure(stage, person, job, mails=2, tasks=TASKS + MORE_TASKS)


def arrived(stage: Stage, gates: set[str]) -> str | None:
    """The gate at which a step waits."""
    rows = stage.run(
        "SELECT g FROM unnest(CAST(:gates AS text[])) g JOIN pg_locks l ON l.locktype = 'advisory' AND NOT l.granted"
        " AND l.objid::bigint = hashtext(g)::bigint & 4294967295",
        gates=sorted(gates),
    )
    return str(rows[0][0]) if rows else None
