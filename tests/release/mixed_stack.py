"""`python mixed_stack.py ROOT OLD`: today's schema and platform, with the functions of the release unpacked in OLD.

What the platform owes to that release it gets in the form that it knew: it never ran in the cloud. Secrets lie as
files in one folder, and logins are members of nothing but their role.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pg8000.native
import yaml
from pg8000.native import identifier

from local import postgres, services
from local.layout import Layout, login_role, replicas
from local.layout import catalog as present
from local.running import run
from local.services import Ready, Service
from migrations.connection import connected

IAM = "cloudsqliamserviceaccount"


def table(layout: Layout, environ: Mapping[str, str], *, fast: bool = False) -> list[Service]:
    old = Path(sys.argv[2])
    made = services.table(layout, environ, fast=fast)
    step = Service(
        "as-before",
        (sys.executable, __file__, layout.root, "", "as-before"),
        needs=("provision", "migrations"),
        ready=Ready.ENDED,
        environment={"PYTHONPATH": str(services.CHECKOUT)},
    )
    new = present().keys() - yaml.safe_load((old / "functions" / "catalog.yaml").read_text())["services"].keys()
    kept = [each for each in made if each.name not in {*replicas(), "demo", *new}]  # what is new is not there yet
    return [step, *(_older(layout, each, old) if each.name in present() else each for each in kept)]


def _older(layout: Layout, service: Service, old: Path) -> Service:
    if not (old / "functions" / service.environment["SERVICE"].removesuffix("-jobs")).exists():
        raise SystemExit(f"{service.name} is not in the previous release")
    folder = layout.path("mounts-before", service.name)
    folder.mkdir(parents=True, exist_ok=True)
    for secret in layout.path("mounts", service.name).iterdir():
        (folder / secret.name).symlink_to(layout.path("secrets", secret.name, "latest"))
    return replace(
        service,
        command=("env", "-C", str(old), *service.command),
        needs=(*service.needs, "as-before"),
        environment={**service.environment, "SECRETS_DIR": str(folder)},
    )


def as_before(root: str) -> None:
    """Take back what later platforms gave to the logins."""
    layout = Layout.load(Path(root, "layout.json"))
    with connected(postgres.admin_dsn(layout.path(), layout.ports["postgres"]), postgres.DATABASE) as admin:
        _leave(admin, [login_role(name) for name in present()])


def _leave(admin: pg8000.native.Connection, logins: list[str]) -> None:
    for login in logins:
        rows = admin.run(
            "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
            " JOIN pg_roles l ON l.oid = m.member WHERE l.rolname = :login AND g.rolname = :iam",
            login=login,
            iam=IAM,
        )
        for (role,) in rows:
            admin.run(f"REVOKE {identifier(role)} FROM {identifier(login)}")


if __name__ == "__main__":
    if sys.argv[3:] == ["as-before"]:
        as_before(sys.argv[1])
    else:
        sys.exit(run(Path(sys.argv[1]), table, os.environ, fast=True))
