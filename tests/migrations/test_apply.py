"""Migrations: forward only, safe to run at once, refused when history was changed."""

import os
import subprocess
import sys
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pg8000.native import identifier

from local.layout import Layout, login_role
from local.stack import dsn
from tests.conftest import CHECKOUT, database

FILES = sorted(path.stem for path in (CHECKOUT / "migrations").glob("[0-9]*.sql"))


@pytest.fixture
def url(stack, admin):
    """A database that does not exist yet, on the stack's server."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    yield stack["postgres"]["admin"].rsplit("/", 1)[0] + f"/{name}"
    admin.run(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")


@pytest.fixture
def of_the_job(stack, url):
    """The same database as the migrating job's account reaches it, which is no superuser."""
    layout = Layout.load(Path(stack["path"]).with_name("layout.json"))
    return dsn(layout, "migrate").rsplit("/", 1)[0] + f"/{url.rsplit('/', 1)[1]}"


@pytest.fixture
def auditing(admin):
    """The server offers an extension pgaudit to the migrating job, as Cloud SQL does; it records nothing."""
    login = identifier(login_role("migrate"))
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "extension").mkdir()
        control = "default_version = '1.0'\nrelocatable = true\nsuperuser = false\n"
        (Path(folder) / "extension" / "pgaudit.control").write_text(control)
        (Path(folder) / "extension" / "pgaudit--1.0.sql").write_text("CREATE FUNCTION said() RETURNS int RETURN 1;\n")
        admin.run(f"ALTER ROLE {login} SET extension_control_path = '{folder}:$system'")
        yield
        admin.run(f"ALTER ROLE {login} RESET extension_control_path")


def apply(url):
    command = [sys.executable, "-m", "migrations.apply"]
    environment = {"PATH": os.environ["PATH"], "DATABASE_ADMIN_URL": url}
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def outcome(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def test_three_at_once_apply_everything_once(url):
    results = [outcome(process) for process in [apply(url) for _ in range(3)]]

    assert [code for code, _ in results] == [0, 0, 0]
    said = sorted(text for _, text in results)
    assert sum("nothing, the schema is current" in text for text in said) == 2
    with database(url) as connection:
        assert [row[0] for row in connection.run("SELECT name FROM migrations.applied ORDER BY name")] == FILES


def test_no_superuser_is_needed(url, of_the_job, auditing):
    code, said = outcome(apply(of_the_job))
    again, repeated = outcome(apply(of_the_job))

    assert (code, again) == (0, 0), said + repeated
    with database(url) as connection:
        assert [row[0] for row in connection.run("SELECT name FROM migrations.applied ORDER BY name")] == FILES
        assert connection.run(
            "SELECT extnamespace::regnamespace::text, extowner::regrole::text FROM pg_extension"
            " WHERE extname = 'pgaudit'"
        ) == [["pgaudit", "cloudsqlsuperuser"]]


def test_the_database_is_the_same_everywhere(url):
    assert outcome(apply(url))[0] == 0
    with database(url) as connection:
        assert connection.run(
            "SELECT pg_encoding_to_char(encoding), datlocprovider::text, datlocale, datcollate, datdba::regrole::text"
            " FROM pg_database WHERE datname = current_database()"
        ) == [["UTF8", "b", "C.UTF-8", "C", "context_owner"]]
        assert connection.run("SHOW statement_timeout") == [["1min"]]
        assert connection.run("SELECT has_database_privilege('public', current_database(), 'TEMPORARY')") == [[False]]
        assert connection.run("SELECT count(*) FROM pg_extension WHERE extname = 'pgaudit'") == [[0]]


def test_a_changed_file_is_refused(url):
    assert outcome(apply(url))[0] == 0
    with database(url) as connection:
        connection.run("UPDATE migrations.applied SET checksum = 'other' WHERE name = :name", name=FILES[0])

    code, said = outcome(apply(url))

    assert code == 1
    assert f"{FILES[0]}.sql was changed" in said


def test_a_number_in_between_is_refused(url):
    assert outcome(apply(url))[0] == 0
    with database(url) as connection:
        connection.run("DELETE FROM migrations.applied WHERE name = :name", name=FILES[0])

    code, said = outcome(apply(url))

    assert code == 1
    assert "older than a migration that was applied" in said


def test_the_owner_has_no_power_of_its_own(url):
    assert outcome(apply(url))[0] == 0
    with database(url) as connection:
        connection.run("SET ROLE context_owner")
        assert connection.run("SELECT count(*) FROM app.projects") == [[0]]
        assert not connection.run("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'context_owner'")[0][0]


def test_without_a_url_it_says_what_is_missing():
    process = subprocess.run(
        [sys.executable, "-m", "migrations.apply"],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert "DATABASE_ADMIN_URL" in process.stderr
