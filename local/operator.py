"""The platform operator's command: `python -m local.operator suspend|resume ORGANIZATION [--reason TEXT]`.

Nobody works in a suspended organization, from the very next request on; nothing is lost. It stands in the audit chain.
In the cloud the operator calls `platform.set_suspended` with the same arguments, as the role that migrates.
"""

import argparse
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from local import postgres
from local.layout import Layout
from migrations.apply import connected

WORDS = {
    "changed": "done",
    "unchanged": "nothing to do: it is so already",
    "erasing": "the organization is being erased, and stays suspended",
    "unknown": "there is no such organization",
}
DONE = ("changed", "unchanged")


def set_suspended(url: str, organization: uuid.UUID, *, suspended: bool, reason: str | None) -> str:
    """`changed`, `unchanged`, `erasing` or `unknown`. `url` is the administrator's; `reason` holds no personal data."""
    with connected(url, urlsplit(url).path.lstrip("/")) as admin:
        admin.run("SET ROLE context_owner")
        outcome = admin.run(
            "SELECT platform.set_suspended(:organization, :suspended, :reason, :request)",
            organization=organization,
            suspended=suspended,
            reason=reason,
            request=str(uuid.uuid4()),
        )
    return str(outcome[0][0])


def main() -> int:
    """Suspend or resume an organization of a local stack; the exit code is 1 when that cannot be."""
    parser = argparse.ArgumentParser(description="Suspend or resume an organization")
    parser.add_argument("act", choices=["suspend", "resume"])
    parser.add_argument("organization", type=uuid.UUID, help="its id")
    parser.add_argument("--reason", help="kept in the audit event; no personal data")
    parser.add_argument("--root", type=Path, default=Path(".local"), help="where the stack keeps its data")
    chosen = parser.parse_args()
    layout = Layout.load(chosen.root / "layout.json")
    url = postgres.admin_dsn(layout.path(), layout.ports["postgres"])
    outcome = set_suspended(url, chosen.organization, suspended=chosen.act == "suspend", reason=chosen.reason)
    sys.stdout.write(f"{WORDS[outcome]}\n")
    return 0 if outcome in DONE else 1


if __name__ == "__main__":
    sys.exit(main())
