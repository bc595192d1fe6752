"""A function refuses to start with a database login that may do more than it should."""

import os
import subprocess
import sys
import uuid
from urllib.parse import urlsplit

import pytest
from pg8000.native import identifier

from common.connecting import IAM
from tests.conftest import CHECKOUT

EXCESSES = {
    "superuser": ("ALTER ROLE {login} SUPERUSER", "attribute of"),
    "bypassing row security": ("ALTER ROLE {login} BYPASSRLS", "attribute of"),
    "creating roles": ("ALTER ROLE {login} CREATEROLE", "attribute of"),
    "creating databases": ("ALTER ROLE {login} CREATEDB", "attribute of"),
    "replication": ("ALTER ROLE {login} REPLICATION", "attribute of"),
    "another function's role": ("GRANT audit_fn TO {login}", "inherits audit_fn"),
    "the definer": ("GRANT context_definer TO {login}", "inherits context_definer"),
    "a predefined role": ("GRANT pg_read_all_data TO {login}", "inherits pg_read_all_data"),
    "altered settings": ("ALTER ROLE {login} SET search_path = public", "altered settings"),
    "altered settings here": ("ALTER ROLE {login} IN DATABASE context SET row_security = off", "altered settings"),
    "missing its role": ("REVOKE projects_fn FROM {login}", "does not inherit projects_fn"),
    "truncating": ("GRANT TRUNCATE ON app.projects TO {login}", "may TRUNCATE"),
    "maintaining": ("GRANT MAINTAIN ON app.projects TO {login}", "may MAINTAIN"),
}


@pytest.fixture
def login(admin):
    name = f"test-{uuid.uuid4().hex[:8]}"
    admin.run(f"CREATE ROLE {identifier(name)} LOGIN PASSWORD 'throw-away' IN ROLE projects_fn, {IAM}")
    yield name
    admin.run(f"REASSIGN OWNED BY {identifier(name)} TO admin")
    admin.run(f"DROP OWNED BY {identifier(name)}")
    admin.run(f"DROP ROLE {identifier(name)}")


def start(stack, login, tmp_path):
    """The projects function as the server starts it: exit code and what it said."""
    part = urlsplit(stack["postgres"]["admin"])
    environment = {
        "PATH": os.environ["PATH"],
        "SERVICE": "projects",
        # pragma: allowlist nextline secret
        "DATABASE_URL": f"postgresql://{login}:throw-away@{part.hostname}:{part.port}{part.path}",
        "SECRETS_DIR": str(tmp_path),
        "PUBLIC_URL": stack["api"],
        "SERVICE_URL": stack["api"],
    }
    command = [sys.executable, "-c", "from common.server import app; app(); print('started')"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_an_ordinary_login_starts(stack, login, tmp_path):
    code, said = start(stack, login, tmp_path)
    assert code == 0, said
    assert "started" in said


def test_the_mark_of_iam_log_ins_holds_nothing(stack, admin, login, tmp_path):
    admin.run(f"GRANT SELECT ON app.projects TO {IAM}")
    try:
        code, said = start(stack, login, tmp_path)
    finally:
        admin.run(f"REVOKE SELECT ON app.projects FROM {IAM}")

    assert code == 1
    assert f"holds rights as {IAM}" in said


@pytest.mark.parametrize("excess", EXCESSES)
def test_more_is_refused(stack, admin, login, tmp_path, excess):
    statement, reason = EXCESSES[excess]
    admin.run(statement.format(login=identifier(login)))

    code, said = start(stack, login, tmp_path)

    assert code == 1
    assert "the database login is refused" in said
    assert reason in said
