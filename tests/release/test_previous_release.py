"""Code N-1 on schema N: what runs between the migration and the functions, and again after a roll-back."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.postgres import forget
from local.processes import die_with_parent
from tests.auth.support import log_in, sign_up
from tests.conftest import SETTINGS, Api, Inbox, Person, pid_of
from tests.exports.conftest import Exports
from tests.release import previous

MIGRATION = re.compile(r"migrations/\d{4}_\w+\.sql")
HERE = Path(__file__).parent
# What takes away something that the code before may use. A column or function that it never named may go.
KINDS = r"(?:TABLE|(?:MATERIALIZED\s+)?VIEW|FUNCTION|TYPE|SCHEMA|ROLE|POLICY|SEQUENCE|DOMAIN)"
NO_COLUMN = rf"(?!(?:{KINDS}|CONSTRAINT|NOT|DEFAULT|IDENTITY|EXPRESSION|INDEX|TRIGGER|EXTENSION|OWNED)\b)"
IF_THERE, NAME = r"(?:IF\s+EXISTS\s+)?", r"(?P<names>[\w.\"]+)"
REQUIRED = r"ADD\s+(?:COLUMN\s+)?(?!CONSTRAINT)[^,;]*\bNOT\s+NULL\b(?![^,;]*\bDEFAULT\b)"
TAKEN_AWAY = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bDROP\s+{KINDS}\s+{IF_THERE}(?P<names>[\w.\"]+(?:\s*,\s*[\w.\"]+)*)",
        rf"\bDROP\s+{NO_COLUMN}(?:COLUMN\s+)?{IF_THERE}{NAME}",
        rf"\bRENAME\s+(?:COLUMN\s+|TO\s+)?{NAME}",
        rf"\bALTER\s+(?:COLUMN\s+)?{NAME}\s+(?:SET\s+DATA\s+)?(?:TYPE|SET\s+NOT)\b",
        rf"\bALTER\s+TABLE\s+(?:ONLY\s+)?{NAME}(?=[^;]*\b{REQUIRED})",
        rf"\bREVOKE\b[^;]*\bON\s+(?:TABLE\s+|FUNCTION\s+)?{NAME}",
    )
]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "old"
    previous.unpack(folder)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, old: Path) -> Iterator[dict[str, Any]]:
    """In the place of the shared one."""
    import os

    root = tmp_path_factory.mktemp("mixed") / "stack"
    with (root.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "mixed_stack.py"), str(root), str(old)],
            env={**os.environ, **SETTINGS, "PYTHONPATH": str(previous.CHECKOUT)},
            cwd=previous.CHECKOUT,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        try:
            deadline = time.monotonic() + 120
            while not (root / "stack.json").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("the stack did not start:\n" + (root.parent / "log").read_text()[-3000:])
                time.sleep(0.1)
            yield json.loads((root / "stack.json").read_text()) | {"path": str(root / "stack.json")}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            forget(root)


def test_a_journey_through_the_old_functions_on_the_new_schema(
    api: Api, inbox: Inbox, stack: dict[str, Any], old: Path, admin: Any
) -> None:
    for name in ("auth", "projects", "exports", "exports-jobs", "audit"):
        assert psutil.Process(pid_of(stack, name)).cwd() == str(old)
    newest = max(path.stem for path in (previous.CHECKOUT / "migrations").glob("*.sql"))
    applied = admin.run("SELECT max(name) FROM migrations.applied")
    assert applied == [[newest]]

    newcomer, tokens = sign_up(api, inbox)
    again = log_in(api, newcomer.email, newcomer.password)
    assert again.status_code == 200, again.text
    nora = Person("", "", newcomer.email, "Nora Berg", "", again.json["access_token"])
    renewed = api.post("/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert renewed.status_code == 200, renewed.text

    made = api.post("/v1/projects", json={"name": "Atlas"}, headers=nora)
    assert made.status_code == 201, made.text
    task = api.post(f"/v1/projects/{made.json['id']}/tasks", json={"title": "Draw the map"}, headers=nora)
    assert task.status_code == 201, task.text
    assert [each["name"] for each in api.get("/v1/projects", headers=nora).json["items"]] == ["Atlas"]

    package = Exports(api).package(nora)
    assert [each["title"] for each in package.rows("tasks")] == ["Draw the map"]

    asked = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=nora)
    assert asked.status_code in (200, 201), asked.text
    verified = api.get("/v1/audit-events/verify", headers=nora)
    assert (verified.status_code, verified.json["valid"]) == (200, True), verified.text
    assert {name: pid_of(stack, name) for name in stack["pids"]} == stack["pids"]  # none was started again


def test_migrations_are_only_added(old: Path) -> None:
    """Their numbers go up, and a file of the previous release is what it was."""
    before = {name for name in previous.files() if MIGRATION.fullmatch(name)}
    now = {f"migrations/{path.name}" for path in (previous.CHECKOUT / "migrations").glob("[0-9]*.sql")}

    assert before <= now
    assert min(now - before, default="migrations/9999") > max(before)
    numbers = [int(name.split("/")[1][:4]) for name in sorted(now)]
    assert numbers == list(range(1, len(now) + 1))
    changed = [name for name in before if (previous.CHECKOUT / name).read_bytes() != previous.files()[name]]
    assert changed == []


def taken_away(sql: str, code: str) -> list[str]:
    """What a migration drops, renames or narrows although the code names it."""
    plain = re.sub(r"--[^\n]*", "", sql)
    found = []
    for match in (match for pattern in TAKEN_AWAY for match in pattern.finditer(plain)):
        names = [name.strip().split(".")[-1].strip('"') for name in match["names"].split(",")]
        if any(re.search(rf"\b{name}\b", code) for name in names):
            found.append(" ".join(match[0].split())[:80])
    return found


def test_a_new_migration_takes_nothing_away_that_the_old_code_names() -> None:
    code = "\n".join(
        content.decode()
        for name, content in previous.files().items()
        if name.startswith(("common/", "functions/", "sessions/")) and name.endswith(".py")
    )
    before = {name for name in previous.files() if MIGRATION.fullmatch(name)}
    newer = [
        path
        for path in (previous.CHECKOUT / "migrations").glob("[0-9]*.sql")
        if f"migrations/{path.name}" not in before
    ]

    assert {path.name: taken_away(path.read_text(), code) for path in newer} == {path.name: [] for path in newer}


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE app.projects DROP COLUMN description;",
        "DROP TABLE IF EXISTS app.projects;",
        "ALTER TABLE app.tasks RENAME COLUMN title TO heading;",
        "ALTER TABLE app.tasks ALTER COLUMN title TYPE integer;",
        "ALTER TABLE app.tasks ALTER COLUMN title SET NOT NULL;",
        "DROP FUNCTION app.project_json(app.projects);",
        "ALTER TABLE app.others DROP description;",
        "ALTER TABLE app.others DROP COLUMN other, DROP COLUMN IF EXISTS title;",
        "DROP TABLE app.others, app.projects;",
        "ALTER TABLE app.projects ADD COLUMN colour text NOT NULL;",
        "ALTER TABLE app.projects ADD other text, ADD colour text NOT NULL;",
        "REVOKE SELECT ON app.projects FROM projects_fn;",
    ],
)
def test_what_the_rule_finds(sql: str) -> None:
    code = "SELECT title, description, app.project_json(projects) FROM app.projects"
    assert taken_away(sql, code)
    assert not taken_away("-- " + sql, code)
    assert not taken_away(sql, "nothing of it")


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE app.projects ADD COLUMN colour text NOT NULL DEFAULT 'red', ADD other text;",
        "ALTER TABLE app.projects ALTER COLUMN title SET STATISTICS 0, ALTER COLUMN title DROP NOT NULL;",
        "ALTER TABLE app.projects ALTER title SET DEFAULT '', DROP CONSTRAINT long_title;",
        "CREATE TABLE app.new (title text NOT NULL, description text NOT NULL);",
    ],
)
def test_what_only_adds_passes(sql: str) -> None:
    assert taken_away(sql, "title description projects app") == []
