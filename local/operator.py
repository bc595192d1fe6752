"""The platform operator's command: `python -m local.operator suspend|resume ORGANIZATION`, `end-sessions [ACCOUNT]`.

Nobody works in a suspended organization, from the very next request on; nothing is lost. Ended login sessions are dead
on their next request. Each use stands in the audit chain of the organizations concerned. In the cloud the operator
calls the same functions of schema platform with the same arguments, as the role that migrates.
"""

import argparse
import sys
import uuid
from pathlib import Path
from typing import Any
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
    outcome = _call(
        url,
        "SELECT platform.set_suspended(:organization, :suspended, :reason, :request)",
        organization=organization,
        suspended=suspended,
        reason=reason,
    )
    return str(outcome)


def end_sessions(url: str, account: uuid.UUID | None, *, reason: str | None) -> int:
    """End the login sessions of an account or, with None, of everybody; how many there were."""
    return int(_call(url, "SELECT platform.end_sessions(:account, :reason, :request)", account=account, reason=reason))


def _call(url: str, sql: str, **parameters: Any) -> Any:
    with connected(url, urlsplit(url).path.lstrip("/")) as admin:
        admin.run("SET ROLE context_owner")
        return admin.run(sql, **parameters, request=str(uuid.uuid4()))[0][0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the operator of the platform may do to a local stack")
    acts = parser.add_subparsers(dest="act", required=True)
    for name, text in (("suspend", "stop an organization"), ("resume", "let a suspended organization go on")):
        act = acts.add_parser(name, help=text)
        act.add_argument("organization", type=uuid.UUID, help="its id")
    sessions = acts.add_parser("end-sessions", help="end the login sessions of an account, or of everybody")
    whose = sessions.add_mutually_exclusive_group(required=True)
    whose.add_argument("account", type=uuid.UUID, nargs="?", help="its id")
    whose.add_argument("--everybody", action="store_true", help="all accounts, after a breach")
    for act in acts.choices.values():
        act.add_argument("--reason", help="kept in the audit event; no personal data")
        act.add_argument("--root", type=Path, default=Path(".local"), help="where the stack keeps its data")
    return parser.parse_args()


def main() -> int:
    """Do it; the exit code is 1 when that cannot be."""
    chosen = _arguments()
    layout = Layout.load(chosen.root / "layout.json")
    url = postgres.admin_dsn(layout.path(), layout.ports["postgres"])
    if chosen.act == "end-sessions":
        sys.stdout.write(f"{end_sessions(url, chosen.account, reason=chosen.reason)} ended\n")
        return 0
    outcome = set_suspended(url, chosen.organization, suspended=chosen.act == "suspend", reason=chosen.reason)
    sys.stdout.write(f"{WORDS[outcome]}\n")
    return 0 if outcome in DONE else 1


if __name__ == "__main__":
    sys.exit(main())
