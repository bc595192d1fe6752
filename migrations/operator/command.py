"""The operator's command line: which act, for what reason, by whom; and what it says of it.

Exit code 0: done. 1: refused, failed, or a chain is broken. 2: not asked rightly, or the database cannot be reached.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from datetime import datetime
from importlib import import_module
from typing import NamedTuple

from pg8000.exceptions import DatabaseError, InterfaceError

from common import errors
from common.settings import MissingSetting, admin_url, operator_id
from migrations.operator.arguments import check, parser
from migrations.operator.desk import FAILURE, REFUSED, UNUSABLE, Answer, Desk, opened, progress

AWAY = ("08", "28", "3D", "53", "57")  # classes of SQLSTATE: no connection, no log-in, no such database, no room
OURS = ("CX", "22023", "42501", "42883", "55P03", "40P01")  # words of the schema, or of locks: no row's content
ALTERED = "23505"
OWN = "rotate-keys"  # done by the rights of `keys`, not by the owner's


class Act(NamedTuple):
    """Where an act is, and what its event is called: `thing.done`, about a thing."""

    module: str
    function: str
    event: str


ACTS = {
    "suspend": Act("organizations", "suspend", "organization.suspended"),
    "resume": Act("organizations", "resume", "organization.resumed"),
    "end-sessions": Act("organizations", "end_sessions", "login.ended_by_operator"),
    "jobs": Act("jobs", "jobs", "job.read"),
    "replay": Act("jobs", "replay", "job.replayed"),
    "messages": Act("jobs", "messages", "message.read"),
    "send": Act("jobs", "send", "message.sent_again"),
    "incident open": Act("incidents", "open_incident", "incident.opened"),
    "incident list": Act("incidents", "list_incidents", "incident.read"),
    "incident close": Act("incidents", "close_incident", "incident.closed"),
    "block list": Act("blocks", "list_blocks", "block.read"),
    "block add": Act("blocks", "add_block", "block.added"),
    "block lift": Act("blocks", "end_block", "block.ended"),
    "rotate-keys": Act("keys", "rotate", "key.rotated"),
    "verify": Act("chains", "verify", "audit.verified"),
    "audit": Act("chains", "audit", "audit.read"),
    "retention": Act("privacy", "retention", "retention.rehearsed"),
    "consent-purpose": Act("privacy", "consent_purpose", "purpose.published"),
}


def main(arguments: list[str] | None = None) -> int:
    """Do it, say it, and give the exit code. What libraries and logs print goes to standard error."""
    chosen = parser().parse_args(arguments)
    check(chosen)
    with redirect_stdout(sys.stderr):
        answer = _answered(chosen)
    if chosen.json:
        name = _name(chosen)
        sys.stdout.write(json.dumps({"act": name, "exit_code": answer.code, **answer.document}, default=_plain) + "\n")
    out = sys.stderr if chosen.json or answer.code == UNUSABLE else sys.stdout
    out.writelines(f"{line}\n" for line in answer.lines)
    return answer.code


def _name(chosen: Namespace) -> str:
    return f"{chosen.act} {chosen.within}" if "within" in chosen else str(chosen.act)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _answered(chosen: Namespace) -> Answer:
    """The act's answer, or why there is none."""
    who = chosen.operator or operator_id()
    noted = {name: text for name, text in (("reason", chosen.reason), ("operator", who)) if text}
    try:
        with _opened(chosen, noted) as desk:
            answer = _done(desk, chosen)
            progress(f"request {desk.request_id}")
    except MissingSetting as error:
        return _unusable(str(error))
    except errors.Problem as problem:  # of the service's own log-in: it has said more in the log
        return _unusable(f"the database is not reachable ({problem.code})")
    except (InterfaceError, OSError) as error:
        return _unusable(f"the database is not reachable ({type(error).__name__})")
    except DatabaseError as error:
        code, words = _words(error)
        if code.startswith(AWAY):
            return _unusable(f"the database is not reachable ({code})")
        return Answer(REFUSED, [f"it failed: {words}"], {"error": code})
    return Answer(answer.code, answer.lines, {"request_id": desk.request_id, **answer.document})


def _opened(chosen: Namespace, noted: dict[str, str]) -> AbstractContextManager[Desk]:
    """The administrator's desk, or that of the account that turns keys."""
    if chosen.act == OWN:
        own: Callable[[dict[str, str]], AbstractContextManager[Desk]] = import_module("migrations.operator.keys").opened
        return own(noted)
    return opened(admin_url(), noted)


def _done(desk: Desk, chosen: Namespace) -> Answer:
    """Do it; a failure stands in the platform's chain as well."""
    act = ACTS[_name(chosen)]
    try:
        answer: Answer = getattr(import_module(f"migrations.operator.{act.module}"), act.function)(desk, chosen)
    except DatabaseError as error:
        code = _words(error)[0]
        if not code.startswith(AWAY):
            with desk.transaction():
                desk.record(act.event, act.event.split(".")[0], outcome=FAILURE, error=code)
        raise
    return answer


def _words(error: DatabaseError) -> tuple[str, str]:
    """SQLSTATE and what may be said of it: our own words, never those that quote a row."""
    first = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code = str(first.get("C", ""))
    if code == ALTERED:
        return code, "an audit chain takes no event: it was altered (23505); see `verify`"
    return code, str(first.get("M")) if code.startswith(OURS) else f"SQLSTATE {code}"


def _unusable(why: str) -> Answer:
    return Answer(UNUSABLE, [why], {"error": why})
