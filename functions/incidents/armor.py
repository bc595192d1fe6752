"""The edge to Cloud Armor: the one rule that the incident automation writes.

A rule has no fingerprint that a write could name, so nobody learns whether another one came in between: a run keeps the
lease of the database, reads the rule again before each write, and the next run compares again. Writes to one policy go
one after another: while one is under way, the next is refused as not ready.
Source: https://cloud.google.com/compute/docs/reference/rest/v1/securityPolicies/patchRule
"""

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_network
from typing import Any

from common.settings import settings

SCOPE = "https://www.googleapis.com/auth/compute"
ANSWER_SECONDS = (3, 10)  # to connect, to answer
WAIT_SECONDS = 130  # `wait` answers within two minutes
PRIORITY = 100
ROOM = 10  # ranges of a rule
PLACEHOLDER = "192.0.2.0/32"  # RFC 5737: nobody has it
MARK = "Incident automation: "
EMPTY = MARK + "empty"
UNTIL = re.compile(r"until (\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d))")


class Unavailable(Exception):
    """Compute Engine did not answer, refused, or did not get done; the message names the status alone."""


class Foreign(Exception):
    """The rule is not the one that may be written: another action, a preview, an expression, or everybody."""


@dataclass(frozen=True)
class Slot:
    """What the rule refuses (networks in their normal form), and what its description says."""

    networks: frozenset[str]
    description: str

    @property
    def until(self) -> datetime | None:
        """The end that somebody has written into the description."""
        found = None if self.description.startswith(MARK) else UNTIL.search(self.description)
        with suppress(ValueError):  # no moment: the 31st of November
            return datetime.fromisoformat(found[1]) if found else None
        return None


def read() -> Slot:
    """The rule as it is. Raises Unavailable, Foreign."""
    rule = _asked("GET", f"{_policy()}/getRule?priority={PRIORITY}")
    match = rule.get("match", {})
    ranges = match.get("config", {}).get("srcIpRanges", [])
    refuses = str(rule.get("action", "")).startswith("deny") and not rule.get("preview", False)
    if not refuses or match.get("versionedExpr") != "SRC_IPS_V1" or "*" in ranges:
        raise Foreign
    networks = frozenset(ip_network(each, strict=False) for each in ranges)
    if any(each.prefixlen == 0 for each in networks):
        raise Foreign
    return Slot(frozenset(map(str, networks)) - {PLACEHOLDER}, str(rule.get("description", "")))


def described(ends: Iterable[datetime]) -> str:
    """64 characters at most: how many networks, and when the last of them ends."""
    listed = list(ends)
    if not listed:
        return EMPTY
    last = (max(listed).astimezone(UTC) + timedelta(seconds=59)).replace(second=0, microsecond=0)
    return f"{MARK}{len(listed)}, until {last:%Y-%m-%dT%H:%MZ}"


def write(networks: Iterable[str], description: str) -> None:
    """Refuse these from now on, and nobody else; returns when it is in force. Raises Unavailable."""
    ranges = sorted(networks) or [PLACEHOLDER]
    if len(ranges) > ROOM or any(ip_network(each).prefixlen == 0 for each in ranges):
        raise ValueError("a rule has ten ranges at most, and none of them is everybody")
    body = {"description": description, "match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ranges}}}
    operation = _asked("POST", f"{_policy()}/patchRule?priority={PRIORITY}", body)
    deadline = time.monotonic() + WAIT_SECONDS
    while operation.get("status") != "DONE":
        if time.monotonic() > deadline:
            raise Unavailable("the operation takes too long")
        operation = _asked("POST", f"{_project()}/operations/{operation['name']}/wait", seconds=WAIT_SECONDS)
    if "error" in operation:
        raise Unavailable("the operation failed")


def _project() -> str:
    return f"{settings().compute_endpoint}/compute/v1/projects/{settings().project_id}/global"


def _policy() -> str:
    return f"{_project()}/securityPolicies/{settings().security_policy}"


def _asked(
    method: str, url: str, body: dict[str, Any] | None = None, seconds: int = ANSWER_SECONDS[1]
) -> dict[str, Any]:
    """Raises Unavailable."""
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - slow to import, only where it is used
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        answer = _session().request(method, url, json=body, timeout=(ANSWER_SECONDS[0], seconds))
        document = answer.json() if answer.status_code == 200 else None
    except (GoogleAuthError, RequestException) as error:
        raise Unavailable(type(error).__name__) from None
    if not isinstance(document, dict):
        raise Unavailable(f"status {answer.status_code}")
    return document


@cache
def _session() -> Any:
    import google.auth  # noqa: PLC0415
    from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415

    return AuthorizedSession(google.auth.default(scopes=[SCOPE])[0])  # type: ignore[no-untyped-call]
