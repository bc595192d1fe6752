"""What one request leaves behind on a pooled connection cannot touch the next one, for another organization."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.tenancy.conftest import rows_of

CHILD = """
import json, sys
from common.db import database
from common.errors import Problem
from common.tokens import Claim
from common.wire import Step
work = json.load(sys.stdin)
pool = database()
seen = []
first = Claim("u", *work["attacker"])
second = Claim("u", *work["victim"])
pids, missed = [], []
for number, planted in enumerate(work["plants"] * 3):
    with pool.reading(first, lambda tx: None) as tx:  # every statement that the next request prepares is there
        tx.rows("SELECT name FROM app.projects ORDER BY name")
    try:
        with pool.transaction(first) as tx:
            pids.append(tx._connection.pid)
            for sql in planted:
                try:
                    tx._connection.flight([Step("SAVEPOINT s"), Step(sql)])
                except Exception:
                    tx._connection.flight([Step("ROLLBACK TO SAVEPOINT s")])
    except Exception as error:
        seen.append(type(error).__name__)
    turn = number // len(work["plants"])  # which way of working meets the connection first
    if turn == 1:
        seen.append(pool.single(second, "SELECT name FROM app.projects ORDER BY name"))
    if turn == 2:
        with pool.reading(second, lambda tx: None) as tx:
            seen.append(tx.rows("SELECT name FROM app.projects ORDER BY name"))
        try:
            with pool.reading(second, lambda tx: None) as tx:
                tx.rows("INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:tenant_id, 'x', :user_id)")
            raise AssertionError("a reading wrote")
        except Problem as problem:
            seen.append(problem.code)
    for _ in range(2):  # prepared statements that are gone are missed behind the checkout: then she asks again
        try:
            with pool.transaction(second) as tx:
                pids.append(tx._connection.pid)
                rows = tx.rows("SELECT name FROM app.projects WHERE tenant_id = :tenant_id ORDER BY name")
                again = tx.rows("SELECT name FROM app.projects ORDER BY name")
                who = tx.value("SELECT app.tenant_id()")
                settings = tx.rows(
                    "SELECT current_setting('search_path'), current_setting('row_security'), current_user,"
                    " current_setting('transaction_isolation'), current_setting('transaction_read_only')"
                )
                left = tx.rows(
                    "SELECT (SELECT count(*) FROM pg_cursors WHERE is_holdable),"
                    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
                )
                seen.append([rows, again, who, settings, left])
            break
        except Problem as problem:
            missed.append([number % len(work["plants"]), problem.code])
    with pool.transaction(first) as tx:
        seen.append([tx.rows("SELECT name FROM app.projects ORDER BY name"), tx.value("SELECT app.tenant_id()"),
                     tx.value("SELECT count(*) FROM pg_listening_channels()")])
print("RESULT " + json.dumps({"seen": seen, "pids": pids, "missed": missed}))
"""


def replacing(by, *, but=None, only=None):
    """Our prepared statements deallocated, each replaced by what this makes of its name."""
    chosen = f"statement <> '{but}'" if but else f"statement = '{only}'"
    again = f"EXECUTE format('{by}', n);" if by else ""
    return (
        f"DO $$ DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_prepared_statements WHERE {chosen} AND name <> ''"
        f" LOOP EXECUTE format('DEALLOCATE %I', n); {again} END LOOP; END $$"
    )


TAKEN_AWAY = [replacing("", but="COMMIT")]
PLANTS = [
    ["SELECT 1"],
    [
        "SET search_path = pg_temp",
        "SET row_security = off",
        "SET app.context = 'x'",
        "SET default_transaction_read_only = on",
        "SET default_transaction_isolation = 'serializable'",
    ],
    [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET statement_timeout = 1",
        "SET TimeZone = 'Asia/Tokyo'",
    ],
    ["DECLARE held CURSOR WITH HOLD FOR SELECT * FROM app.projects", "LISTEN news", "SELECT pg_advisory_lock(1)"],
    ["PREPARE planted AS SELECT 1"],
    TAKEN_AWAY,
    [replacing("PREPARE %I AS SELECT", but="COMMIT")],
    ["SET statement_timeout = 0", replacing("PREPARE %I AS SELECT pg_sleep(600)", but="COMMIT")],
    [
        "DEALLOCATE ALL",
        "PREPARE s1 AS SELECT 'planted'",
        "PREPARE s2 AS SELECT 'planted'",
        "PREPARE s3 AS SELECT 'planted'",
    ],
    ["DEALLOCATE ALL", *(f"PREPARE s{n}(text) AS SELECT set_config('app.stolen', $1, false)" for n in range(1, 30))],
    ["DEALLOCATE ALL", *(f"PREPARE s{n}(text) AS SELECT app.authorize($1) FROM app.projects" for n in range(1, 30))],
    ["SET ROLE projects_fn"],
    ["SET ROLE cloudsqliamserviceaccount"],
    ["COMMIT", "SET ROLE projects_fn"],
    ["COMMIT", "BEGIN", "SET app.context = 'x'"],
    ["ROLLBACK", "SELECT set_config('app.context', 'u.x', false)"],
]


@pytest.fixture
def child_environment(stack, tmp_path):
    """A process of the projects function: its own login and key, and the product's own pool of one connection."""
    keys = json.loads(Path(stack["context_key"]).read_text())
    (tmp_path / "context-key-projects_fn").write_text(json.dumps(keys["projects_fn"]))
    return {
        "PATH": os.environ["PATH"],
        "SERVICE": "projects",
        "DATABASE_URL": stack["postgres"]["projects_fn"],
        "DATABASE_POOL": "1",
        "SECRETS_DIR": str(tmp_path),
        "PUBLIC_URL": stack["api"],
        "SERVICE_URL": stack["api"],
    }


def run(program, work, environment):
    """The result of a program in a process of its own, and what it said beside it."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(work),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[0].removeprefix("RESULT ")), done.stderr


def test_nothing_is_left_for_the_next_request(child_environment, admin, victim, mallory):
    admin.run(
        "INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:t, 'own', :u)",
        t=mallory.tenant_id,
        u=mallory.user_id,
    )
    before = rows_of(admin, victim)
    work = {
        "attacker": [mallory.tenant_id, mallory.user_id, mallory.session_id],
        "victim": [victim.tenant_id, victim.user_id, victim.session_id],
        "plants": PLANTS,
    }

    result, said = run(CHILD, work, child_environment)

    assert set(filter(lambda each: isinstance(each, str), result["seen"])) >= {"unavailable"}  # what writes reads not
    assert result["missed"] == [[PLANTS.index(TAKEN_AWAY), "unavailable"]]
    assert sum(len(entry) == 5 for entry in result["seen"] if isinstance(entry, list)) == 3 * len(PLANTS)
    for entry in [entry for entry in result["seen"] if isinstance(entry, list)]:
        if len(entry) == 1:
            assert entry == [[victim.marks[0]]]
        elif len(entry) == 5:
            rows, again, who, settings, left = entry
            assert rows == again == [[victim.marks[0]]]
            assert who == victim.tenant_id
            login = unquote(urlsplit(child_environment["DATABASE_URL"]).username or "")
            assert settings == [['"$user", public', "on", login, "read committed", "off"]]
            assert left == [[0, 0]]
        else:
            assert entry == [[["own"]], mallory.tenant_id, 0]
    assert len(set(result["pids"])) < len(result["pids"])  # the connection was indeed used again
    assert rows_of(admin, victim) == before
    for secret in victim.marks:
        assert secret not in said


ANOTHER_COMMIT = """
import json, sys
from common.db import database
from common.errors import Problem
from common.tokens import Claim
from common.wire import Step
work = json.load(sys.stdin)
pool, claim, told = database(), Claim("u", *work["attacker"]), []
COUNT = "SELECT count(*) FROM app.projects WHERE tenant_id = :tenant_id AND name = 'never'"
pool.single(claim, COUNT)
try:
    with pool.transaction(claim) as tx:
        tx.rows("INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:tenant_id, 'never', :user_id)")
        tx._connection.flight([Step(work["planted"])])
    told.append("acknowledged")
except Problem as problem:
    told.append(problem.code)
print("RESULT " + json.dumps([told, pool.single(claim, COUNT)]))
"""


def test_another_statement_in_the_place_of_commit_acknowledges_nothing(child_environment, mallory):
    work = {
        "attacker": [mallory.tenant_id, mallory.user_id, mallory.session_id],
        "planted": replacing("PREPARE %I AS SELECT 1", only="COMMIT"),
    }

    assert run(ANOTHER_COMMIT, work, child_environment)[0] == [["unavailable"], [[0]]]
