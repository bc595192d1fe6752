"""Give each login its role and its context keys: `python -m migrations.provision`, after migrations.apply.

In the cloud the logins are IAM users that Terraform made; the keys come from Secret Manager. Safe to run again: that is
how a rotated key gets into the database before a function signs with it.
"""

import base64
import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import yaml
from pg8000.native import identifier

from common import secrets
from common.settings import admin_url, provision_sources
from migrations.apply import CATALOG, LOCK, logins
from migrations.connection import administer, connected


def provision(url: str, secret: Callable[[str], bytes], login: Callable[[str], str]) -> None:
    """Grant and store keys for every service and workload. `secret(id)` is a payload, `login(name)` a login role."""
    database = urlsplit(url).path.lstrip("/")
    with connected(url, database) as admin:
        admin.run("SELECT pg_advisory_lock(:lock)", lock=LOCK)
        _owners(admin, login)
        for name, entry in logins().items():
            administer(admin)
            admin.run(f"GRANT {identifier(entry['role'])} TO {identifier(login(name))}")
            ring = json.loads(secret(f"context-key-{entry['role']}"))
            admin.run("SET ROLE context_owner")
            admin.run(f"GRANT CONNECT ON DATABASE {identifier(database)} TO {identifier(entry['role'])}")
            for kid, key in ring["keys"].items():
                admin.run(
                    "SELECT platform.put_context_key(:kid, CAST(:login AS name), CAST(:kinds AS text[]), :signs, :key)",
                    kid=kid,
                    login=login(name),
                    kinds=entry["kinds"],
                    signs=entry.get("signs_in", False),
                    key=base64.urlsafe_b64decode(key["key"] + "=" * (-len(key["key"]) % 4)),
                )
            admin.run(
                "SELECT platform.retire_context_keys(CAST(:login AS name), CAST(:kept AS text[]))",
                login=login(name),
                kept=list(ring["keys"]),
            )
            admin.run("RESET ROLE")


def _owners(admin: pg8000.native.Connection, login: Callable[[str], str]) -> None:
    """Jobs that act as the owner of the schema may become it, and inherit nothing; those that exist here."""
    jobs: dict[str, Any] = yaml.safe_load(CATALOG.read_text())["jobs"]
    wanted = {login(job["account"]) for job in jobs.values() if job.get("database") == "owner"}
    present = {row[0] for row in admin.run("SELECT rolname FROM pg_roles WHERE rolcanlogin")}
    administer(admin)
    for name in sorted(wanted & present):
        admin.run(f"GRANT context_owner TO {identifier(name)} WITH INHERIT FALSE, SET TRUE")
    admin.run("RESET ROLE")


def main() -> int:
    """Secrets as functions read them, logins by the pattern of LOGIN_PATTERN, e.g. `dc-{service}@my-project.iam`."""
    folder, pattern = provision_sources()

    def secret(name: str) -> bytes:
        file = secrets.mounted(folder, name)
        return file.read_bytes() if file.exists() else secrets.read(name)

    provision(admin_url(), secret, lambda name: pattern.format(service=name))
    sys.stdout.write("provisioned\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
