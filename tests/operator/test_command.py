"""The command itself: what it asks for, what it says, and what is left of it when it dies."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migrations.operator.arguments import parser
from migrations.operator.command import ACTS, main
from tests.conftest import CHECKOUT, database, wait_until

UNREACHABLE = "postgresql://admin:not-to-be-seen@127.0.0.1:1/context"  # pragma: allowlist secret


@pytest.mark.parametrize("name", ACTS)
def test_every_act_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--reason", "--operator", "--json"))


def test_every_act_of_the_parser_has_a_place():
    (top,) = (action for action in parser()._actions if isinstance(action.choices, dict))
    names = {*top.choices} - {"incident", "block"}
    for subject in ("incident", "block"):
        (within,) = (a for a in top.choices[subject]._actions if isinstance(a.choices, dict))
        names |= {f"{subject} {name}" for name in within.choices}
    assert names == set(ACTS)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["abolish"],
        ["suspend", "nobody"],
        ["end-sessions"],
        ["end-sessions", "nobody"],
        ["end-sessions", "00000000-0000-0000-0000-000000000000", "--everybody"],
        ["replay", "00000000-0000-0000-0000-000000000000"],
        ["replay", "x", "--reason", "y"],
        ["jobs", "--limit", "0"],
        ["jobs", "--operator", "ann@example.org"],
        ["jobs", "--reason", "ann@example.org asked"],
        ["jobs", "--reason", "two\nlines"],
        ["retention"],
        ["rotate-keys"],
        ["consent-purpose", "newsletter"],
        ["consent-purpose", "newsletter", "--text", "/nowhere/at/all"],
        ["incident", "open", "--title", "x", "--severity", "P1"],
        ["incident", "open", "--title", "x", "--severity", "P9", "--all"],
        ["incident", "open", "--title", "x", "--severity", "P1", "--all", "--detected-at", "2026-01-01T00:00:00"],
        ["incident", "open", "--title", "x", "--severity", "P1", "--all", "--actor", "1" * 32],
        ["incident", "open", "--title", "x", "--severity", "P1", "--all", "--to", "2026-01-01T00:00:00Z"],
        ["incident", "open", "--title", "x", "--severity", "P1", "--all", "--data-class", "nonsense"],
        ["incident", "open", "--title", " ", "--severity", "P1", "--all"],
        ["incident", "open", "--title", "x" * 256, "--severity", "P1", "--all"],
        ["incident", "open", "--title", "two\nlines", "--severity", "P1", "--all"],
        ["incident", "open", "--title", "x", "--severity", "P1", "--from", "2026-01-01T00:00:00Z", "--ip", "bad"],
        *(
            ["block", "add", network, "--reason", "y"]
            for network in ("10.1.2.3", "0.0.0.0/0", "198.0.0.0/8", "::/0", "127.0.0.1", "35.191.0.0/24", "x")
        ),
        ["block", "add", "198.51.100.7"],
        ["block", "add", "198.51.100.7", "--reason", "y", "--hours", "0"],
        ["block", "lift", "198.51.100.7"],
    ],
    ids=" ".join,
)
def test_what_is_not_asked_rightly_is_not_done(arguments, monkeypatch):
    monkeypatch.setenv("DATABASE_ADMIN_URL", UNREACHABLE)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_no_database(monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_ADMIN_URL", UNREACHABLE)
    assert main(["jobs"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "the database is not reachable (InterfaceError)\n")
    monkeypatch.delenv("DATABASE_ADMIN_URL")
    assert main(["jobs", "--json"]) == 2
    assert "DATABASE_ADMIN_URL is missing" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["local.operator", "jobs"], ["local.campaign", "--purpose", "news"]])
def test_no_stack(tmp_path, command):
    command = [sys.executable, "-m", *command, "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "make run" in done.stderr


def test_the_job_of_the_cloud_needs_the_database_alone(stack, alice, told):
    """No setting of a function; and who it was is the execution, of which Google's audit log tells more."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_ADMIN_URL": stack["postgres"]["admin"]}
    command = [sys.executable, "-m", "migrations.operator", "suspend", alice.tenant_id, "--json"]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**environment, "CLOUD_RUN_EXECUTION": "operator-x7k2p"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    request = done.stderr.splitlines()[0].removeprefix("request ")
    events = [*told.of(request, alice.tenant_id), *told.of(request)]
    assert [(event["action"], event["data"]) for event in events] == [
        ("organization.suspended", {"operator": "operator-x7k2p"})
    ] * 2


def test_a_killed_command_leaves_nothing_half(stack, admin, alice):
    state = "SELECT suspended_at, (SELECT count(*) FROM app.audit_events e WHERE e.tenant_id = o.tenant_id)"
    query = f"{state} FROM app.organizations o WHERE tenant_id = :id"
    before = admin.run(query, id=alice.tenant_id)
    root = str(Path(stack["path"]).parent)
    with database(stack["postgres"]["admin"]) as other:
        other.run("BEGIN")
        other.run(
            "INSERT INTO app.audit_heads (tenant_id, seq, hash) VALUES (:id, 0, repeat('0', 64))"
            " ON CONFLICT (tenant_id) DO UPDATE SET seq = audit_heads.seq",
            id=alice.tenant_id,
        )
        command = [sys.executable, "-m", "local.operator", "suspend", alice.tenant_id, "--root", root]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%set_suspended%' AND wait_event_type = 'Lock'"
        )
        wait_until(lambda: admin.run(waiting) == [[1]], 20, "the command's wait for the chain")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        other.run("ROLLBACK")

    wait_until(lambda: admin.run(waiting) == [[0]], 20, "the end of its connection")
    assert admin.run(query, id=alice.tenant_id) == before


def test_no_function_may_do_what_the_operator_does(admin, stack):
    """Nor read it: what the command calls is executable by no service's role, but for what says nothing of others."""
    sources = "".join(path.read_text() for path in (CHECKOUT / "migrations" / "operator").glob("*.py"))
    names = set(re.findall(r"platform\.([a-z_]+)\(", sources)) - {"organization_id"}
    assert len(names) > 10
    roles = [role for role in stack["postgres"] if role != "admin"]
    open_to = admin.run(
        "SELECT p.proname, r.name FROM pg_proc p, unnest(CAST(:roles AS text[])) AS r (name)"
        " WHERE p.pronamespace = 'platform'::regnamespace AND p.proname = ANY (CAST(:names AS text[]))"
        " AND has_function_privilege(r.name, p.oid, 'EXECUTE')",
        roles=roles,
        names=sorted(names),
    )
    assert {name for name, _ in open_to} <= {"retention_plan", "fan_out_incident"}
    assert {role for _, role in open_to} <= {"retention_fn"}  # which finishes what a killed command has left
