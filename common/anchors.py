"""Anchors of the audit chains: signed heads in a bucket whose retention lock nobody can lift, ids and hashes only.

An object is `anchors/<organization_id>/<YYYYMMDDTHHMMSSZ>-<seq, 16 digits>.json`, written once. What stands there and
was not signed by us, or not under its own name, is no anchor: it is logged as CRITICAL and passed over, so that a
planted object neither hides an anchor nor stands in for one.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from common import certificate, log, storage
from common.audit import ANCHOR, ORIGIN, Point
from common.settings import settings

FOLDER = "anchors/"
NAME = re.compile(rf"{FOLDER}([0-9a-f-]{{36}})/(\d{{8}}T\d{{6}}Z)-(\d{{16}})\.json")


class Unreachable(Exception):
    """The bucket of the anchors does not answer; the message is the error's class."""


class Name(NamedTuple):
    """An anchor by its name alone: the seq of its head, and when it was made (YYYYMMDDTHHMMSSZ). Orders by age."""

    seq: int
    at: str
    object: str


@dataclass(frozen=True)
class Anchor:
    """A signed document, verified; `at` is RFC 3339 UTC."""

    organization_id: str
    base: Point
    head: Point
    at: str
    document: dict[str, Any]


def names(organization_id: str) -> list[Name]:
    """The organization's anchors by name, oldest first; their content was not looked at. Raises Unreachable."""
    with _reachable():
        found = storage.kept_names(f"{FOLDER}{organization_id}/", settings().anchor_bucket)
    matches = [NAME.fullmatch(name) for name in found]
    return sorted(Name(int(match[3]), match[2], match[0]) for match in matches if match)


@dataclass(frozen=True)
class Known:
    """What the bucket has of an organization: the names of its anchors, oldest first, and the newest one."""

    names: list[Name]
    newest: Anchor | None

    def proves(self, point: Point) -> bool:
        """Whether some anchor has this point as its head or base; the origin needs none. Raises Unreachable."""
        if point.seq == 0:
            return point == ORIGIN
        if self.newest is not None and point in (self.newest.head, self.newest.base):
            return True
        same = (name for name in self.names if name.seq == point.seq)
        return any(point in (anchor.head, anchor.base) for anchor in _read_all(same))


def known(organization_id: str) -> Known:
    """What the bucket has of an organization. Raises Unreachable."""
    found = names(organization_id)
    return Known(found, next(_read_all(reversed(found)), None))


def newest(organization_id: str) -> Anchor | None:
    """The anchor of the highest seq, of several the latest; None without any. Raises Unreachable."""
    return known(organization_id).newest


def proves(organization_id: str, seq: int, digest: str) -> bool:
    """Whether some anchor has this point as its head or base; seq 0 needs none. Raises Unreachable."""
    point = Point(seq, digest)
    return point == ORIGIN or (seq > 0 and known(organization_id).proves(point))


def read(name: Name) -> Anchor | None:
    """One anchor, None when the object is not ours: see above. Raises Unreachable."""
    with _reachable():
        content = storage.kept(name.object, settings().anchor_bucket)
    anchor = _verified(content)
    if anchor is None or _name(anchor.organization_id, anchor.head.seq, anchor.at) != name.object:
        log.security("CRITICAL", "an object among the anchors is not ours", object=name.object)
        return None
    return anchor


def write(organization_id: str, base: Point, head: Point, at: datetime) -> Anchor:
    """Sign and store an anchor; of two with the same head in the same second the first stays. Raises Unreachable."""
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    facts = {"kind": ANCHOR, "organization_id": organization_id, "base": base._asdict(), "head": head._asdict()}
    document = certificate.sign({**facts, "at": moment}, certificate.AUDIT_RING)
    name = _name(organization_id, head.seq, moment)
    with _reachable():
        storage.keep(name, json.dumps(document, separators=(",", ":")).encode(), settings().anchor_bucket)
    return Anchor(organization_id, base, head, moment, document)


def _read_all(found: Iterator[Name]) -> Iterator[Anchor]:
    for name in found:
        anchor = read(name)
        if anchor is not None:
            yield anchor


def _name(organization_id: str, seq: int, moment: str) -> str:
    return f"{FOLDER}{organization_id}/{re.sub('[-:]', '', moment)}-{seq:016d}.json"


def _verified(content: bytes) -> Anchor | None:
    """The anchor in these bytes when we have signed it."""
    try:
        document = json.loads(content)
        if document["kind"] != ANCHOR or not certificate.ours(document, certificate.AUDIT_RING):
            return None
        base, head = Point(**document["base"]), Point(**document["head"])
        return Anchor(document["organization_id"], base, head, document["at"], document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@contextmanager
def _reachable() -> Iterator[None]:
    """What the storage client raises, as Unreachable."""
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        log.entry("ERROR", "the bucket of the anchors does not answer", error=type(error).__name__)
        raise Unreachable(type(error).__name__) from error
