"""Terraform's part for the local database: login roles with passwords, then the provisioning of the cloud."""

import argparse

from pg8000.native import identifier, literal

from local import keys, postgres, stack
from local.layout import Layout, login_role
from local.secrets_store import SecretStore
from migrations.apply import connected
from migrations.provision import provision


def main() -> None:
    """`python -m local.provision --layout FILE`; safe to run again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", required=True)
    layout = Layout.load(parser.parse_args().layout)
    root = layout.path()
    url = postgres.admin_dsn(root, layout.ports["postgres"])
    with connected(url, postgres.DATABASE) as admin:
        present = {row[0] for row in admin.run("SELECT rolname FROM pg_roles")}
        for login, password in stack.login_passwords(root).items():
            verb = "ALTER" if login in present else "CREATE"
            admin.run(f"{verb} ROLE {identifier(login)} LOGIN PASSWORD {literal(password)}")
    store = SecretStore(root)
    provision(url, lambda name: store.latest(name) or b"", login_role)
    keys.context_keys(root)


if __name__ == "__main__":
    main()
