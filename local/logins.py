"""What Cloud SQL and Terraform make in the database server before anything of ours runs: its roles, and the logins."""

import pg8000.native
from pg8000.native import identifier, literal

from common.connecting import IAM
from local import postgres, stack
from local.layout import Layout, administrators, login_role, logins
from local.serving import arguments
from migrations.apply import roles
from migrations.connection import ADMINISTRATORS, connected


def make(admin: pg8000.native.Connection, passwords: dict[str, str]) -> None:
    """Roles as Cloud SQL has them, and one login for each account; safe to run again.

    Whoever makes a role administers it. What a superuser made in an older stack is handed over.
    """
    present = {row[0] for row in admin.run("SELECT rolname FROM pg_roles")}
    for role, attributes in ((ADMINISTRATORS, "CREATEROLE CREATEDB"), (IAM, "")):
        if role not in present:
            admin.run(f"CREATE ROLE {identifier(role)} NOLOGIN {attributes}")
    for role in present & set(roles()):
        admin.run(f"GRANT {identifier(role)} TO {ADMINISTRATORS} WITH ADMIN TRUE, INHERIT FALSE, SET TRUE")
    for login, password in passwords.items():
        verb = "ALTER" if login in present else "CREATE"
        admin.run(f"{verb} ROLE {identifier(login)} LOGIN PASSWORD {literal(password)}")
        admin.run(f"GRANT {IAM} TO {identifier(login)}")
    for account, kind in administrators().items():
        if kind == "admin":
            admin.run(f"GRANT {ADMINISTRATORS} TO {identifier(login_role(account))}")


def main() -> None:
    """`python -m local.logins --layout FILE`."""
    layout: Layout = arguments(__doc__ or "").parse_args().layout
    known = stack.login_passwords(layout.path())
    wanted = [login_role(name) for name in (*logins(), *administrators())]
    with connected(postgres.admin_dsn(layout.path(), layout.ports["postgres"]), "postgres") as admin:
        make(admin, {login: known[login] for login in wanted})


if __name__ == "__main__":
    main()
