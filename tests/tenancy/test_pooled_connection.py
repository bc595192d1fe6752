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
pids = []
for number, planted in enumerate(work["plants"] * 2):
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
    if number >= len(work["plants"]):
        seen.append(pool.single(second, "SELECT name FROM app.projects ORDER BY name"))
    with pool.reading(second, lambda tx: None) as tx:
        seen.append(tx.rows("SELECT name FROM app.projects ORDER BY name"))
    try:
        with pool.reading(second, lambda tx: None) as tx:
            tx.rows("INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:tenant_id, 'x', :user_id)")
        raise AssertionError("a reading wrote")
    except Problem as problem:
        seen.append(problem.code)
    with pool.transaction(second) as tx:
        pids.append(tx._connection.pid)
        rows = tx.rows("SELECT name FROM app.projects WHERE tenant_id = :tenant_id ORDER BY name")
        again = tx.rows("SELECT name FROM app.projects ORDER BY name")
        who = tx.value("SELECT app.tenant_id()")
        settings = tx.rows("SELECT current_setting('search_path'), current_setting('row_security'), current_user")
        left = tx.rows("SELECT (SELECT count(*) FROM pg_cursors WHERE is_holdable),"
                       " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())")
        seen.append([rows, again, who, settings, left])
    with pool.transaction(first) as tx:
        seen.append([tx.rows("SELECT name FROM app.projects ORDER BY name"), tx.value("SELECT app.tenant_id()"),
                     tx.value("SELECT count(*) FROM pg_listening_channels()")])
print("RESULT " + json.dumps({"seen": seen, "pids": pids}))
"""

PLANTS = [
    ["SELECT 1"],
    [
        "SET search_path = pg_temp",
        "SET row_security = off",
        "SET app.context = 'x'",
        "SET default_transaction_read_only = on",
    ],
    [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET statement_timeout = 1",
        "SET TimeZone = 'Asia/Tokyo'",
    ],
    ["DECLARE held CURSOR WITH HOLD FOR SELECT * FROM app.projects", "LISTEN news", "SELECT pg_advisory_lock(1)"],
    ["PREPARE planted AS SELECT 1"],
    ["DEALLOCATE ALL"],
    ["DEALLOCATE ALL", *(f"PREPARE s{n} AS SELECT" for n in range(1, 30))],
    [
        "SET statement_timeout = 0",
        "DEALLOCATE ALL",
        *(f"PREPARE s{n} AS SELECT pg_sleep(600)" for n in range(1, 30)),
    ],
    [
        "DEALLOCATE ALL",
        "PREPARE s1 AS SELECT 'planted'",
        "PREPARE s2 AS SELECT 'planted'",
        "PREPARE s3 AS SELECT 'planted'",
    ],
    ["DEALLOCATE ALL", *(f"PREPARE s{n}(text) AS SELECT set_config('app.stolen', $1, false)" for n in range(1, 30))],
    ["DEALLOCATE ALL", *(f"PREPARE s{n}(text) AS SELECT app.authorize($1) FROM app.projects" for n in range(1, 30))],
    ["COMMIT", "SET ROLE projects_fn"],
    ["COMMIT", "SET ROLE cloudsqliamserviceaccount"],
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

    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(work),
        env=child_environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout + done.stderr
    result = json.loads(lines[0].removeprefix("RESULT "))
    assert set(filter(lambda each: isinstance(each, str), result["seen"])) >= {"unavailable"}  # what writes reads not
    for entry in [entry for entry in result["seen"] if isinstance(entry, list)]:
        if len(entry) == 1:
            assert entry == [[victim.marks[0]]]
        elif len(entry) == 5:
            rows, again, who, settings, left = entry
            assert rows == again == [[victim.marks[0]]]
            assert who == victim.tenant_id
            assert settings[0][0] == '"$user", public'
            assert settings[0][1:] == ["on", unquote(urlsplit(child_environment["DATABASE_URL"]).username or "")]
            assert left == [[0, 0]]
        else:
            assert entry == [[["own"]], mallory.tenant_id, 0]
    assert len(set(result["pids"])) < len(result["pids"])  # the connection was indeed used again
    assert rows_of(admin, victim) == before
    for secret in victim.marks:
        assert secret not in done.stderr
