"""What the watcher of a replica asks the database: literal SQL, one function per query, each one round trip."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.db import database
from common.tokens import Claim
from sessions.outcomes import Place

SYSTEM = Claim("s")
VIEW = "session.view"


@dataclass(frozen=True)
class Access:
    """Why a credential may not watch any more (None: it may), and when it ends by itself, in Unix seconds."""

    refusal: str | None
    ends_at: float | None


@dataclass(frozen=True)
class Change:
    """Look again at whoever works in this organization, or by this credential; with neither, at everybody."""

    tenant_id: str | None
    credential: str | None
    ended: bool


@dataclass(frozen=True)
class Moved:
    """A watched session with more events than are known here, or one that is over; last_seq is None when it is gone."""

    place: Place
    last_seq: int | None
    closed: bool


@dataclass(frozen=True)
class Look:
    """What one look at the database has shown; `seen` is what the next one gives."""

    seen: str
    everybody: bool
    changes: list[Change]
    moved: list[Moved]
    access: list[Access]


def look(seen: str | None, tips: Sequence[tuple[Place, int]], claims: Sequence[Claim]) -> Look:
    """What was committed since `seen`, what moved in these sessions, and what these claims may; all of one moment."""
    rows = database().single(
        SYSTEM,
        """
        SELECT platform.session_watch(:seen, :tenants, :sessions, :tips), platform.session_access(:claims, :needed)
        """,
        seen=seen,
        tenants=_array(place.tenant_id for place, _ in tips),
        sessions=_array(place.session_id for place, _ in tips),
        tips=_array(str(tip) for _, tip in tips),
        claims=_credentials(claims),
        needed=VIEW,
    )
    found = json.loads(rows[0][0])
    moved = [Moved(Place(tenant, session), seq, closed) for tenant, session, seq, closed in found["sessions"]]
    changes = [Change(*each) for each in found["changes"]]
    return Look(found["seen"], found["everybody"], changes, moved, _access(rows[0][1]))


def ask(claims: Sequence[Claim]) -> list[Access]:
    """What these claims may now, in their order."""
    rows = database().single(
        SYSTEM, "SELECT platform.session_access(:claims, :needed)", claims=_credentials(claims), needed=VIEW
    )
    return _access(rows[0][0])


def close_idle(most: int) -> list[Place]:
    """Close sessions that nobody has used for their idle time; which they were."""
    rows = database().single(SYSTEM, "SELECT platform.close_idle_sessions(:most, 'idle')", most=most)
    return [Place(tenant, session) for tenant, session in json.loads(rows[0][0])]


def _array(items: Iterable[str]) -> str:
    """An array as PostgreSQL reads it, of ids or numbers: thousands at a time, which pg8000 writes one by one."""
    return "{" + ",".join(items) + "}"


def _credentials(claims: Sequence[Claim]) -> str:
    return json.dumps(
        [[c.kind, c.tenant_id or None, c.principal_id or None, c.login_session_id or None] for c in claims]
    )


def _access(text: str) -> list[Access]:
    return [Access(refusal, ends) for refusal, ends in json.loads(text)]
